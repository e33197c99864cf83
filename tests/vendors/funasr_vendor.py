"""A strict FunASR runtime server. Refuses what the real ones would misunderstand: audio before the configuration or
after the end, frames of the wrong length, odd bytes, missing fields.

`flavour`: "cpp" (is_final on the last message only), "python" (is_final on every corrected sentence, an end mark on
request), "python_old" (no end mark), "offline" (one text at the end, is_final false). Source:
runtime/docs/websocket_protocol.md of modelscope/FunASR and the behaviour of its servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent
import orjson

from tests.vendors.ws_vendor import Fault, Peer, WsVendor

STEP_BYTES = 1920


class FunAsrVendor(WsVendor):
    """Hears `sentences`; a sentence ends (the server's own voice detection) after as many frames as `ends` says, the
    last with the stream.

    `fault`: "" or stall_before (never a word), stall_after (partials, then silence), drop (the connection is lost while
    audio comes in), drop_at_end, garbage, garbage_json, error (an error instead of the end mark)."""

    def __init__(
        self,
        *,
        flavour: str = "cpp",
        sentences: Sequence[str] = ("what time ", "is it"),
        ends: Sequence[int] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.flavour = flavour
        self.sentences = list(sentences)
        self.ends = list(ends)
        self.delay = 0.0
        self.config: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.audio = bytearray()
        self.frames = 0

    def converse(self, peer: Peer) -> None:
        with self.next_fault():
            self._hear(peer)

    def _hear(self, peer: Peer) -> None:
        if peer.subprotocols != ["binary"]:
            raise Fault(f"subprotocols {peer.subprotocols}")
        self.headers = peer.headers
        self._configure(peer.receive())
        self.audio = bytearray()
        self.frames = 0
        said = 0
        short = False
        while True:
            message = peer.receive()
            if isinstance(message, str):
                end = orjson.loads(message)
                if end.get("is_speaking") is not False:
                    raise Fault(f"expected the end of speech, got {message}")
                break
            if short:
                raise Fault("audio after a frame that was not whole")
            if len(message) % 2 or len(message) > STEP_BYTES or not message:
                raise Fault(f"a frame of {len(message)} bytes")
            short = len(message) < STEP_BYTES
            self.audio += message
            self.frames += 1
            said = self._listen(peer, said)
        self._end(peer, said, bool(end.get("is_end")))
        late = peer.poll(0.5)
        if late is not None:
            raise Fault(f"{late!r} after the end of speech")

    def _configure(self, message: str | bytes) -> None:
        if not isinstance(message, str):
            raise Fault("audio before the configuration")
        config = self.config = orjson.loads(message)
        for key, kind in (
            ("mode", str),
            ("wav_name", str),
            ("chunk_size", list),
            ("chunk_interval", int),
            ("itn", bool),
        ):
            if not isinstance(config.get(key), kind):
                raise Fault(f"{key} is {config.get(key)!r}")
        if (
            config.get("is_speaking") is not True
            or config.get("wav_format") != "pcm"
            or config.get("audio_fs") != 16_000
        ):
            raise Fault(f"configuration {config}")
        if config["mode"] not in ("2pass", "online", "offline") or len(config["chunk_size"]) != 3:
            raise Fault(f"configuration {config}")

    def _listen(self, peer: Peer, said: int) -> int:
        if self.fault == "drop" and self.frames == 3:
            peer.drop()
        if self.fault == "garbage" and self.frames == 3:
            peer.send("\x00 this is no JSON {")
        if self.fault == "garbage_json" and self.frames == 3:
            peer.send("[1, 2, 3]")
        if self.fault == "stall_before" or self.flavour == "offline":
            return said
        if self.frames % self.config["chunk_interval"] == 0 and said < len(self.sentences):
            word = self.sentences[said].split(" ")[0] + " "
            self._send(peer, "2pass-online", word, final=False)
        if said < len(self.ends) and self.frames == self.ends[said]:
            self._correct(peer, said, last=False)
            said += 1
        return said

    def _end(self, peer: Peer, said: int, wants_mark: bool) -> None:
        gevent.sleep(self.delay)  # sleep: the vendor is slow
        if self.fault.startswith("stall"):
            peer.wait_gone()
        if self.fault == "drop_at_end":
            peer.drop()
            peer.wait_gone()
        left = range(said, len(self.sentences))
        if self.flavour == "offline":
            peer.send(
                orjson.dumps(
                    {"mode": "offline", "text": "".join(self.sentences), "wav_name": "x", "is_final": False}
                ).decode()
            )
            return
        if left and self.flavour != "cpp":  # the Python servers correct all that is left in one go
            self._send(peer, "2pass-offline", "".join(self.sentences[said:]), final=True)
        elif left:
            for number in left:
                self._correct(peer, number, last=number == len(self.sentences) - 1)
        else:
            self._send(peer, "2pass-offline" if self.flavour != "cpp" else "", "", final=True)
        if self.flavour == "python" and wants_mark:
            mark = {
                "mode": "2pass",
                "wav_name": self.config["wav_name"],
                "is_final": self.fault != "error",
                "is_end": True,
            }
            if self.fault == "error":
                mark["error"] = "offline inference failed"
            peer.send(orjson.dumps(mark).decode())

    def _correct(self, peer: Peer, number: int, *, last: bool) -> None:
        self._send(peer, "2pass-offline", self.sentences[number], final=last or self.flavour != "cpp")

    def _send(self, peer: Peer, mode: str, text: str, *, final: bool) -> None:
        message = {"text": text, "wav_name": self.config["wav_name"], "is_final": final}
        if mode:
            message["mode"] = mode
        peer.send(orjson.dumps(message).decode())
