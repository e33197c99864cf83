"""One utterance at a recogniser of Volcengine's: what V2 (`asr/doubao.py`) and V3 (`asr/doubao_stream.py`) share.

A request goes first, then sound, the last piece marked as such. Every answer has what was heard: all of it, or (result
type "single") only what belongs to sentences that were not complete before. The last answer is marked, too."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from xiaozhi.errors import VendorGarbage
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.asr_session import LONGEST_S, AsrSession
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.families.heard_sentences import joined_sentences
from xiaozhi.providers.families.volcengine import BadFrame, pack_request, pack_sound, parse_recognition
from xiaozhi.providers.families.volcengine_errors import NOTHING_HEARD, OK_CODES, failure


class VolcengineHearing(AsrSession):
    """`single`: answers leave out the sentences that were complete before. `closing_sound`: PCM that goes with the mark
    of the end. Raises VendorError."""

    def __init__(
        self,
        vendor: str,
        url: str,
        headers: Mapping[str, str],
        request: Mapping[str, Any],
        *,
        connect: float,
        secrets: tuple[str, ...],
        single: bool,
        closing_sound: bytes = b"",
    ) -> None:
        self._vendor = vendor
        self._secrets = secrets
        self._single = single
        self._closing_sound = closing_sound
        self._sentences: dict[Any, str] = {}
        """Text by when it begins, of those that are complete: one that is told again is not another one."""
        self._tail = ""
        self._emotion = ""
        self._socket = VendorSocket(vendor, url, headers=headers, connect=connect, secrets=secrets)
        try:
            # Its answer is not waited for: what is wrong with it is said in `read`, and the sound need not wait.
            self._socket.send_binary(pack_request(request))
        except BaseException:
            self._socket.close()
            raise

    def send_sound(self, pcm: bytes) -> None:
        self._socket.send_binary(pack_sound(pcm))

    def send_end(self) -> None:
        self._socket.send_binary(pack_sound(self._closing_sound, last=True))

    def hang_up(self) -> None:
        self._socket.close()

    def read(self) -> Generator[Transcript | None]:
        with self._socket:
            while True:
                code, last, answer = self._answer()
                if code in NOTHING_HEARD:
                    return
                if code not in OK_CODES or answer.get("error"):
                    said = str(answer.get("message") or answer.get("error") or answer)
                    raise failure(self._vendor, 0 if code in OK_CODES else code, said, self._secrets)
                self._take(answer, last)
                text = joined_sentences([*self._sentences.values(), self._tail])
                yield Transcript(text, emotion=self._emotion)
                if last:
                    return

    def _answer(self) -> tuple[int, bool, Mapping[str, Any]]:
        """(code, whether it is the last, what was said)."""
        data = self._socket.receive(LONGEST_S)
        if isinstance(data, str):
            raise failure(self._vendor, 0, data, self._secrets)
        try:
            frame = parse_recognition(data)
            if frame.code:
                return frame.code, True, {"message": frame.payload.decode("utf-8", "replace")}
            answer = frame.json()
        except BadFrame as error:
            raise VendorGarbage(self._vendor, str(error)) from error
        code, sequence = answer.get("code"), answer.get("sequence")
        last = frame.last or (isinstance(sequence, int) and sequence < 0)
        return code if isinstance(code, int) else 0, last, answer

    def _take(self, answer: Mapping[str, Any], last: bool) -> None:
        result = answer.get("result")
        best = next(iter(result), None) if isinstance(result, list) else result
        if not isinstance(best, Mapping):
            return
        text, utterances = str(best.get("text") or ""), best.get("utterances")
        parts = [part for part in utterances if isinstance(part, Mapping)] if isinstance(utterances, list) else []
        for part in parts:
            additions = part.get("additions")
            if isinstance(additions, Mapping) and additions.get("emotion"):
                self._emotion = str(additions["emotion"])
        if self._single and parts:
            self._tail = ""
            for part in parts:
                self._take_sentence(part)
        elif text or not last:  # an empty last answer has nothing to add, and takes nothing back
            self._tail = text

    def _take_sentence(self, part: Mapping[str, Any]) -> None:
        text, begins = str(part.get("text") or ""), part.get("start_time")
        if not part.get("definite"):
            self._tail += text
        else:
            told = isinstance(begins, int) and begins >= 0
            self._sentences[begins if told else f"number {len(self._sentences)}"] = text
