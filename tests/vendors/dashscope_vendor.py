"""Strict speech services of DashScope: tasks over a WebSocket for recognition and synthesis, written from the vendor's
side.

Refuses what the real ones would: wrong keys and paths (before the upgrade), messages out of order, a task id that is no
UUID or was used, two tasks at once, unknown models and parameters, values out of range, sound before task-started or
after finish-task, pieces of a wrong length, a task without text. Sources: help.aliyun.com/zh/model-studio/
websocket-for-paraformer-real-time-service, .../cosyvoice-websocket-api, .../cosyvoice-server-events."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from loadtest.vendors.sounds import Sounds, hum, wav
from tests.vendors.ws_vendor import Fault, Peer, WsVendor

PATHS = ("/api-ws/v1/inference", "/api-ws/v1/inference/")
SYLLABLE_S = 0.19

_ASR_PARAMETERS: dict[str, Any] = {
    "format": {"pcm"},
    "sample_rate": {8000, 16000},
    "vocabulary_id": str,
    "language_hints": list,
    "disfluency_removal_enabled": bool,
    "semantic_punctuation_enabled": bool,
    "max_sentence_silence": range(200, 6001),
    "multi_threshold_mode_enabled": bool,
    "punctuation_prediction_enabled": bool,
    "inverse_text_normalization_enabled": bool,
}
_TTS_PARAMETERS: dict[str, Any] = {
    "text_type": {"PlainText"},
    "voice": str,
    "format": {"pcm", "wav", "mp3", "opus"},
    "sample_rate": {8000, 16000, 22050, 24000, 44100, 48000},
    "volume": range(101),
    "rate": (0.5, 2.0),
    "pitch": (0.5, 2.0),
    "language_hints": list,
    "instruction": str,
    "seed": range(65_536),
    "type": range(2),
    "enable_ssml": bool,
}
_PARAFORMER_ONLY = {
    "disfluency_removal_enabled",
    "punctuation_prediction_enabled",
    "inverse_text_normalization_enabled",
}
_SENTENCE = re.compile(r"[^，。？！,.?!]*[，。？！,.?!]+\s*|[^，。？！,.?!]+$")
_SOUNDS = Sounds()
_hum = cache(hum)
"""Made once: the hub is the client's too."""


@dataclass
class Task:
    """What happened in one task."""

    id: str
    connection: int
    request: dict[str, Any]
    audio: bytearray = field(default_factory=bytearray)
    pieces: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    end: str = ""
    """Nothing yet, or finished, failed, lost."""


class DashscopeVendor(WsVendor):
    """Hears `sentences`, a partial of each per two pieces; the last ones end with the task. Speaks `SYLLABLE_S` per
    character, with a pause of 0.3 s after each of the sentences that it cuts, which it names if it is `marked`.

    `fault`: "" or stall_start (no task-started), stall_before (no result ever), stall_after (one result or piece, then
    silence), drop (after one), drop_idle (hangs up after a task), stale (messages of another task come first), garbage,
    garbage_json, sound_first (sound before task-started), start:CODE and failed:CODE (task-failed with that code, at
    the start or later)."""

    def __init__(
        self,
        *,
        key: str = "secret-key",
        sentences: Sequence[str] = ("现在", "几点了？"),
        marked: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.key = key
        self.sentences = list(sentences)
        self.marked = marked
        self.patience_s = 23.0
        """How long a task of speech goes on without text."""
        self.slowness = 1.0
        """Times as long as a syllable is at most other vendors'."""
        self.message = "oops"
        """What a failed task says beside its code."""
        self.tasks: list[Task] = []
        self.headers: dict[str, str] = {}

    @property
    def ws_url(self) -> str:
        """What goes into `ws_url`."""
        return self.url + PATHS[0]

    def authorize(self, peer: Peer) -> int:
        if self.reject:
            return self.reject.popleft()
        if peer.path not in PATHS:
            return 404
        self.headers = peer.headers
        if peer.headers.get("authorization", "").lower() != f"bearer {self.key}":
            return 401
        return 0 if peer.headers.get("x-dashscope-datainspection", "enable") in ("enable", "disable") else 400

    def converse(self, peer: Peer) -> None:
        number = self.connections
        while True:
            message = peer.receive(60)
            task = self._begun(message, number)
            fault = self.once.popleft() if self.once else self.fault
            try:
                if not self._runs(peer, task, fault):
                    return
            except BaseException:
                task.end = task.end or "lost"
                raise

    # --- one task -----------------------------------------------------------------------------------------------------

    def _begun(self, message: str | bytes, number: int) -> Task:
        if isinstance(message, bytes):
            raise Fault("sound outside of a task")
        header, payload = _parsed(message)
        if header["action"] != "run-task":
            raise Fault(f"{header['action']} outside of a task")
        identity = header["task_id"]
        if str(uuid.UUID(identity)).replace("-", "") != identity.replace("-", ""):
            raise Fault(f"task id {identity}")
        if any(task.id == identity for task in self.tasks):
            raise Fault(f"task id {identity} was used")
        if set(payload) != {"task_group", "task", "function", "model", "parameters", "input"} or payload["input"] != {}:
            raise Fault(f"run-task with {sorted(payload)}")
        kind = payload["task_group"], payload["task"], payload["function"]
        if kind == ("audio", "asr", "recognition"):
            known = _ASR_PARAMETERS
            if not payload["model"].startswith("paraformer"):
                known = {key: value for key, value in known.items() if key not in _PARAFORMER_ONLY}
        elif kind == ("audio", "tts", "SpeechSynthesizer"):
            known = _TTS_PARAMETERS
        else:
            raise Fault(f"no such task: {kind}")
        _check(payload["parameters"], known)
        task = Task(identity, number, payload)
        self.tasks.append(task)
        return task

    def _runs(self, peer: Peer, task: Task, fault: str) -> bool:
        """Whether the connection may be used again."""
        if fault == "stall_start":
            peer.wait_gone()
        if fault == "sound_first":
            peer.send(bytes(320))
        if fault.startswith("start:"):
            self._fail(peer, task, fault)
            return False
        if fault == "stale":
            stale = Task(str(uuid.uuid4()), task.connection, {})
            peer.send(_event(stale, "result-generated", {"output": {"sentence": {"text": "stale", "end_time": 1}}}))
            peer.send(_event(stale, "task-finished", {}))
        self._tell(peer, task, "task-started", {})
        if fault == "stale":
            peer.send(_event(stale, "result-generated", {"output": {"sentence": {"text": "stale", "end_time": 1}}}))
        speaks = task.request["task"] == "tts"
        steps = self._speak(peer, task, fault) if speaks else self._hear(peer, task, fault)
        for _ in steps:
            if fault.startswith("failed:"):
                self._fail(peer, task, fault)
                return False
        task.end = "finished"
        self._tell(peer, task, "task-finished", {"output": {}, "usage": {}})
        if fault == "drop_idle":
            peer.drop()
            return False
        return True

    def _hear(self, peer: Peer, task: Task, fault: str) -> Iterator[None]:
        piece = task.request["parameters"]["sample_rate"] // 10 * 2
        said = 0
        while True:
            message = peer.receive(60)
            if isinstance(message, str):
                self._expect(message, task, "finish-task")
                break
            if not message or len(message) % 2 or len(message) > 2 * piece:
                raise Fault(f"a piece of {len(message)} bytes")
            task.audio += message
            task.pieces.append(len(message))
            if fault == "stall_before" or len(task.pieces) % 2:
                continue
            if said < len(self.sentences):
                self._result(peer, task, said, self.sentences[said][:1], ended=False)
                self._misbehave(peer, fault)
                yield
                self._result(peer, task, said, self.sentences[said], ended=said < len(self.sentences) - 1)
                said += said < len(self.sentences) - 1
                peer.send(_event(task, "result-generated", {"output": {"sentence": {"heartbeat": True, "text": ""}}}))
        if fault == "stall_before":
            peer.wait_gone()
        yield
        self._misbehave(peer, fault)
        for number in range(said, len(self.sentences) if task.audio else 0):
            self._result(peer, task, number, self.sentences[number], ended=True)

    def _result(self, peer: Peer, task: Task, number: int, text: str, *, ended: bool) -> None:
        sentence = {
            "begin_time": 170 + 1000 * number,
            "end_time": 900 + 1000 * number if ended else None,
            "text": text,
            "words": [],
            "heartbeat": False,
            "sentence_end": ended,
        }
        self._tell(peer, task, "result-generated", {"output": {"sentence": sentence}, "usage": None})

    def _speak(self, peer: Peer, task: Task, fault: str) -> Iterator[None]:
        waiting = ""
        index = 0
        last = False
        while not last:
            message = peer.poll(self.patience_s)
            if message is None:
                self._fail(peer, task, "failed:RequestTimeOut")
                peer.wait_gone()
            if not isinstance(message, str):
                raise Fault("sound in a task of speech")
            header, payload = _parsed(message)
            if header["task_id"] != task.id:
                raise Fault(f"{header['action']} of another task")
            last = header["action"] == "finish-task"
            if not last:
                self._expect(message, task, "continue-task")
                text = payload["input"].get("text")
                if not isinstance(text, str) or not text.strip():
                    raise Fault(f"continue-task with {payload}")
                task.texts.append(text)
                waiting += text
            elif not task.texts:
                raise Fault("a task without text")
            if fault == "stall_before":
                continue
            sentences = [
                part for part in re.findall(r"[^，。？！,.?!]*[，。？！,.?!]+\s*|[^，。？！,.?!]+$", waiting) if part
            ]
            waiting = "" if last or not sentences or sentences[-1].rstrip()[-1] in "，。？！,.?!" else sentences.pop()
            for sentence in filter(str.strip, sentences):
                yield
                self._say(peer, task, fault, index, sentence)
                index += 1
        if fault == "stall_before":
            peer.wait_gone()

    def _say(self, peer: Peer, task: Task, fault: str, index: int, sentence: str) -> None:
        about = {"sentence": {"index": index, "words": []}}
        if self.marked:
            output = about | {"type": "sentence-begin", "original_text": sentence}
            self._tell(peer, task, "result-generated", {"output": output})
        for piece in self._sound_of(sentence, task.request["parameters"], first=index == 0):
            if self.marked:
                self._tell(peer, task, "result-generated", {"output": about | {"type": "sentence-synthesis"}})
            if fault.startswith("garbage"):
                self._misbehave(peer, fault)
            peer.send(piece)
            self._misbehave(peer, fault)
        output = about | ({"type": "sentence-end", "original_text": sentence} if self.marked else {})
        self._tell(peer, task, "result-generated", {"output": output, "usage": {"characters": len(sentence)}})

    def _sound_of(self, sentence: str, parameters: dict[str, Any], *, first: bool) -> list[bytes]:
        rate = parameters["sample_rate"]
        count = sum(1.0 if ord(letter) > 0x2E80 else 0.4 for letter in sentence if letter.isalnum())
        seconds = max(0.1, count * SYLLABLE_S * self.slowness / parameters["rate"])
        if parameters["format"] in ("opus", "mp3"):
            body = _SOUNDS.body(parameters["format"], max(0.25, seconds + 0.3))
            return [body[start : start + 4096] for start in range(0, len(body), 4096)]
        pause = bytes(2 * int(rate * (0.3 if sentence.rstrip()[-1] in "。？！.?!" else 0.05)))
        pcm = _hum(seconds, rate) + pause
        if parameters["format"] == "wav" and first:
            pcm = wav(pcm, rate, size=0xFFFFFFFF)
        size = rate // 10 * 2 + 1  # odd on purpose: samples may be cut in half
        return [pcm[start : start + size] for start in range(0, len(pcm), size)]

    # --- messages -----------------------------------------------------------------------------------------------------

    def _expect(self, message: str, task: Task, action: str) -> None:
        header, payload = _parsed(message)
        if header["action"] != action or header["task_id"] != task.id:
            raise Fault(f"{header['action']} of {header['task_id']} instead of {action}")
        if not isinstance(payload.get("input"), dict):
            raise Fault(f"{action} without input")

    def _tell(self, peer: Peer, task: Task, event: str, payload: dict[str, Any]) -> None:
        peer.send(_event(task, event, payload))

    def _fail(self, peer: Peer, task: Task, fault: str) -> None:
        task.end = "failed"
        header = {
            "task_id": task.id,
            "event": "task-failed",
            "error_code": fault.partition(":")[2],
            "error_message": f"{self.message} ({self.key})",
            "attributes": {},
        }
        peer.send(json.dumps({"header": header, "payload": {}}))

    @staticmethod
    def _misbehave(peer: Peer, fault: str) -> None:
        if fault == "garbage":
            peer.send("<html>oops</html>")
        elif fault == "garbage_json":
            peer.send('{"header": {"task_id": 1}}')
        elif fault == "drop":
            peer.drop()
        if fault in ("garbage", "garbage_json", "drop", "stall_after"):
            peer.wait_gone()


def _event(task: Task, event: str, payload: dict[str, Any]) -> str:
    return json.dumps({"header": {"task_id": task.id, "event": event, "attributes": {}}, "payload": payload})


def _parsed(message: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parsed = json.loads(message)
    if set(parsed) != {"header", "payload"} or set(parsed["header"]) != {"action", "task_id", "streaming"}:
        raise Fault(f"message {message}")
    if parsed["header"]["streaming"] != "duplex":
        raise Fault(f"streaming {parsed['header']['streaming']}")
    return parsed["header"], parsed["payload"]


def _check(parameters: dict[str, Any], known: dict[str, Any]) -> None:
    for key, value in parameters.items():
        allowed = known.get(key)
        if isinstance(allowed, type):
            fits = type(value) is allowed and bool(value or allowed is bool)
        elif isinstance(allowed, tuple):
            fits = isinstance(value, int | float) and allowed[0] <= value <= allowed[1]
        else:
            fits = allowed is not None and type(value) in (int, str) and value in allowed
        if not fits:
            raise Fault(f"parameter {key}: {value!r}")
    for key in ("format", "sample_rate"):
        if key not in parameters:
            raise Fault(f"no {key}")
