"""Strict recognisers of Volcengine's: V3 (/api/v3/sauc/...) and V2 (/api/v2/asr). Frames are read and written here byte
by byte, independently of the client's code.

Refuses what the real ones would: wrong credentials and unknown resources (before the upgrade), a request whose fields
are missing, of another type or out of range, ids that are used twice, a language where none may be told, tables that do
not exist, pieces of sound that are too long, odd or not packed, sound after the last piece. Sources:
volcengine.com/docs/6561/1354869 and /80816."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Sequence
from typing import Any

from tests.vendors.ws_vendor import Fault, Peer, WsVendor

ASYNC, NOSTREAM, V2 = "/api/v3/sauc/bigmodel_async", "/api/v3/sauc/bigmodel_nostream", "/api/v2/asr"
RESOURCES = {f"volc.{model}.sauc.{sold}" for model in ("bigasr", "seedasr") for sold in ("duration", "concurrent")}
CLUSTERS = {"volcengine_input_common", "volcengine_streaming_common"}
TABLES = {"hot", "corrections"}
LONGEST_BYTES = 6400
"""200 ms: longer pieces spoil what V3 promises about its speed."""

POSITIVE, LAST = 0b0001, 0b0011


class VolcengineRecogniser(WsVendor):
    """Hears `sentences`: one more is complete with each piece of sound that `ends` counts, the rest with the last.

    `form` of its answers: gzip, plain, or lying (plain under a header that says gzip). `fault`: "" or stall_before (not
    a word), stall_after (one partial, then silence), drop (while sound comes in), garbage, not_json, error (an error
    frame), busy, refused_request, text (a text message), repeat (a complete sentence is told again, corrected),
    empty_end (the last answer has no text), recut (where sentences begin is told anew each time). `emotion`: of the
    sentences."""

    def __init__(
        self,
        *,
        app_key: str = "app",
        access_key: str = "token-123",
        api_key: str = "",
        sentences: Sequence[str] = ("今天天气怎么样？", "我们去公园吧。"),
        ends: Sequence[int] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.app_key, self.access_key, self.api_key = app_key, access_key, api_key
        self.sentences, self.ends = list(sentences), list(ends)
        self.form = "gzip"
        self.emotion = ""
        self.request: dict[str, Any] = {}
        self.audio = bytearray()
        self.pieces = 0
        self.utterances = 0
        self.paths: list[str] = []
        self._used: set[str] = set()

    # --- before the upgrade -------------------------------------------------------------------------------------------

    def authorize(self, peer: Peer) -> int:
        if self.reject:
            return self.reject.popleft()
        self.paths.append(peer.path)
        headers = peer.headers
        if peer.path == V2:
            return 0 if headers.get("authorization") == f"Bearer; {self.access_key}" else 401
        if peer.path not in (ASYNC, NOSTREAM):
            return 404
        if self.api_key:
            known = headers.get("x-api-key") == self.api_key
        else:
            known = headers.get("x-api-app-key") == self.app_key and headers.get("x-api-access-key") == self.access_key
        if not known:
            return 401
        if headers.get("x-api-resource-id") not in RESOURCES or headers.get("x-api-sequence") != "-1":
            return 403
        return 0 if self._is_new(headers["x-api-connect-id"]) and self._is_new(headers["x-api-request-id"]) else 400

    def _is_new(self, identity: str) -> bool:
        new = bool(identity) and identity not in self._used
        self._used.add(identity)
        return new

    # --- one utterance ------------------------------------------------------------------------------------------------

    def converse(self, peer: Peer) -> None:
        self.utterances += 1
        fault = self.once.popleft() if self.once else self.fault
        self.request = self._request(peer)
        self.audio, self.pieces = bytearray(), 0
        _Utterance(self, peer, fault).hear()
        late = peer.poll(0.2)
        if late is not None:
            raise Fault(f"{len(late)} bytes after the last piece")

    def _request(self, peer: Peer) -> dict[str, Any]:
        header, payload = framed(peer.receive(60))
        if header != b"\x11\x10\x11\x00":
            raise Fault(f"the request has the header {header.hex()}")
        request: dict[str, Any] = json.loads(gzip.decompress(payload))
        if not request.get("user", {}).get("uid"):
            raise Fault("no uid")
        (self._check_v2 if peer.path == V2 else self._check_v3)(request, peer)
        return request

    def _check_v2(self, request: dict[str, Any], peer: Peer) -> None:
        app, audio, asked = request["app"], request["audio"], request["request"]
        if app["appid"] != self.app_key or app["cluster"] not in CLUSTERS or not app["token"]:
            raise Fault(f"app {app}")
        if audio != {"format": "raw", "codec": "raw", "rate": 16000, "bits": 16, "channel": 1, "language": "zh-CN"}:
            raise Fault(f"audio {audio}")
        if asked["sequence"] != 1 or not self._is_new(asked["reqid"]):
            raise Fault(f"request {asked}")
        self._check_tables(asked)

    def _check_v3(self, request: dict[str, Any], peer: Peer) -> None:
        audio, asked = dict(request["audio"]), request["request"]
        language = audio.pop("language", "")
        if audio != {"format": "pcm", "codec": "raw", "rate": 16000, "bits": 16, "channel": 1}:
            raise Fault(f"audio {audio}")
        if language and peer.path != NOSTREAM:
            raise Fault("a language that this service does not read")
        if asked["model_name"] != "bigmodel" or asked["show_utterances"] is not True:
            raise Fault(f"request {asked}")
        if asked["result_type"] not in ("single", "full") or not asked["end_window_size"] >= 200:
            raise Fault(f"request {asked}")
        self._check_tables(asked.get("corpus", {}))

    @staticmethod
    def _check_tables(found: dict[str, Any]) -> None:
        for key in ("boosting_table_name", "correct_table_name"):
            if key in found and found[key] not in TABLES:
                raise Fault(f"there is no table {found[key]!r}")


class _Utterance:
    def __init__(self, vendor: VolcengineRecogniser, peer: Peer, fault: str) -> None:
        self._vendor, self._peer, self._fault = vendor, peer, fault
        self._sequence = 0
        self._said = 0
        self._v2 = peer.path == V2
        self._single = vendor.request["request"].get("result_type") == "single"

    def hear(self) -> None:
        vendor, peer = self._vendor, self._peer
        if self._fault == "refused_request":
            self._error(45000001, {"error": "[Invalid request] token-123"})
            peer.wait_gone()
        self._answer({}, POSITIVE)
        last = False
        while not last:
            last = self._piece()
            self._misbehave()
            if not last:
                self._tell_partial()
        if self._fault.startswith("stall"):
            peer.wait_gone()
        if self._fault == "empty_end":
            self._answer({"result": {"text": ""}}, LAST)
            return
        if not any(vendor.audio):
            if self._v2:
                self._answer({"code": 1013, "message": "silence"}, POSITIVE)
            elif not vendor.audio:
                self._error(45000002, {"error": "empty audio"})
            else:
                self._answer({"result": {"text": ""}}, LAST)
            return
        before, self._said = self._said, len(vendor.sentences)
        self._tell(before, LAST)

    def _piece(self) -> bool:
        vendor = self._vendor
        header, payload = framed(self._peer.receive(60))
        if header not in (b"\x11\x20\x01\x00", b"\x11\x22\x01\x00"):
            raise Fault(f"sound has the header {header.hex()}")
        sound = gzip.decompress(payload)
        last = header[1] == 0x22
        if len(sound) % 2 or len(sound) > LONGEST_BYTES or (not sound and (self._v2 or not last)):
            raise Fault(f"a piece of {len(sound)} bytes")
        vendor.audio += sound
        vendor.pieces += 1
        return last

    def _tell_partial(self) -> None:
        vendor = self._vendor
        if not any(vendor.audio):
            return  # nothing was said yet
        if self._fault == "stall_before" or (self._fault == "stall_after" and vendor.pieces > 1):
            return
        if self._peer.path == NOSTREAM:
            self._answer({"result": {"text": ""}}, POSITIVE)
            return
        before = self._said
        if self._said < len(vendor.ends) and vendor.pieces == vendor.ends[self._said]:
            self._said += 1
        elif self._v2 or vendor.pieces % 2:
            if self._v2:
                self._tell(before, POSITIVE)
            return  # nothing new, so V3 says nothing
        self._tell(before, POSITIVE)
        if self._fault == "repeat" and self._said > before:
            vendor.sentences[before] = vendor.sentences[before].replace("怎么样", "如何")
            self._tell(before, POSITIVE)

    def _tell(self, before: int, flags: int) -> None:
        """What is complete since `before` (or all that is), and the beginning of the next sentence."""
        vendor, first = self._vendor, self._vendor.sentences[self._said :][:1]
        told = vendor.sentences[(before if self._single else 0) : self._said]
        moved = vendor.pieces if self._fault == "recut" else 0
        starts = range(before if self._single else 0, self._said)
        utterances: list[dict[str, Any]] = [
            {"text": text, "definite": True, "start_time": 1000 * start + moved, "end_time": 1000 * start + 900}
            | ({"additions": {"emotion": vendor.emotion}} if vendor.emotion else {})
            for start, text in zip(starts, told, strict=True)
        ]
        begun = [first[0][:2]] if first else []
        utterances += [{"text": text, "definite": False, "start_time": 1000 * self._said} for text in begun]
        text = "".join([*told, *begun])
        result: Any = {"text": text, "utterances": utterances}
        if self._v2:
            result = [{"text": text, "confidence": 90}]
        self._answer({"audio_info": {"duration": 200 * vendor.pieces}, "result": result}, flags)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _answer(self, said: dict[str, Any], flags: int) -> None:
        self._sequence += 1
        if self._v2:
            sequence = -self._sequence if flags == LAST else self._sequence
            said = {"reqid": "r", "code": 1000, "message": "Success", "sequence": sequence, **said}
        payload = json.dumps(said).encode()
        packed = gzip.compress(payload) if self._vendor.form == "gzip" else payload
        form = 0x10 if self._vendor.form == "plain" else 0x11
        if self._v2:  # its frames have no sequence, what is in them has
            self._peer.send(bytes((0x11, 0x90, form, 0)) + struct.pack(">I", len(packed)) + packed)
            return
        header = bytes((0x11, 0x90 | flags, form, 0))
        self._peer.send(header + struct.pack(">iI", self._sequence, len(packed)) + packed)

    def _error(self, code: int, said: dict[str, Any]) -> None:
        payload = json.dumps(said).encode()
        self._peer.send(b"\x11\xf0\x10\x00" + struct.pack(">II", code, len(payload)) + payload)

    def _misbehave(self) -> None:
        fault, peer = self._fault, self._peer
        if fault == "drop":
            peer.drop()
        elif fault == "garbage":
            peer.send(b"\x00\x01\x02")
        elif fault == "not_json":
            peer.send(b"\x11\x91\x10\x00" + struct.pack(">iI", 2, 4) + b"oops")
        elif fault == "text":
            peer.send("Internal Server Error")
        elif fault == "error":
            self._error(55000001, {"error": "recognition failed for token-123"})
        elif fault == "busy":
            self._error(45000292, {"error": "quota exceeded for types: concurrency"})
        else:
            return
        peer.wait_gone()


def framed(data: str | bytes) -> tuple[bytes, bytes]:
    """(header, payload) of a client's frame without a sequence number. Raises Fault."""
    if isinstance(data, str):
        raise Fault("a text frame")
    (size,) = struct.unpack_from(">I", data, 4)
    if len(data) != 8 + size:
        raise Fault(f"payload of {size} bytes in a frame of {len(data)}")
    return data[:4], data[8:]
