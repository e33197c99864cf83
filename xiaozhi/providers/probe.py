"""Whether a vendor answers: the smallest request that each contract allows, by the contract's own calls. A provider
needs no code of its own for it.

    llm     one greeting, with one tool on offer; the first piece of the answer is enough
    tts     one word; the first sound is enough
    asr     a second of silence
    vllm    a small grey picture

Voice detection works on this machine, and a memory or an intent would be asked about somebody: they are not tried."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from xiaozhi.chat import CallContext, Message, ToolSpec
from xiaozhi.errors import Overloaded, VendorError, VendorGarbage, VendorTimeout
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Asr
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SpeechEnds, Tts
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.wrappers.guarded import GuardedProvider
from xiaozhi.providers.wrappers.sentence_stream import open_speech
from xiaozhi.runtime.deadlines import at_most

DEADLINE_S = 20.0
_WHO = CallContext(device_id="probe", client_id="probe", session_id="probe")
_TOOL = ToolSpec("get_time", "Tells the time.")
_SIDE = 64
"""Pixels of the picture; vendors refuse very small ones."""


def is_tried(kind: str, provider: Any) -> bool:
    """Whether there is anything to try: a vendor of a kind that can be asked for nothing in particular."""
    return kind in _PROBES and not provider.traits.offline


def probe(kind: str, provider: Any) -> None:
    """Ask once, past the window and the breaker. Raises VendorError, whose text names block, setting and remedy where
    the provider has a guard."""
    guard = provider.guard if isinstance(provider, GuardedProvider) else None
    inner = provider.inner if isinstance(provider, GuardedProvider) else provider
    try:
        with at_most(DEADLINE_S, VendorTimeout(provider.name, f"no answer within {DEADLINE_S:g} s")):
            _PROBES[kind](inner)
    except VendorError as error:
        if guard is not None:
            guard.explain(error)
        raise
    except Overloaded as error:
        raise VendorTimeout(provider.name, str(error)) from error


def _llm(model: Llm) -> None:
    messages = [Message("system", "Answer with one word."), Message("user", "Hello")]
    answer = model.chat(messages, [_TOOL], _WHO)
    try:
        if not any(True for piece in answer if piece != ""):
            raise VendorGarbage(model.name, "the answer was empty")
    finally:
        close = getattr(answer, "close", None)  # generators have one, other iterators need none
        if close is not None:
            close()


def _tts(voice: Tts) -> None:
    with closing(open_speech(voice, _WHO)) as speech:
        speech.say("Hi.")
        speech.finish()
        while True:
            event = speech.receive(DEADLINE_S)
            if isinstance(event, Pcm | OpusPackets):
                return
            if event is None or isinstance(event, SpeechEnds):
                raise VendorGarbage(voice.name, "no sound came")


def _asr(recogniser: Asr) -> None:
    with closing(recogniser.open(_WHO)) as utterance:
        utterance.feed(bytes(2 * ASR_SAMPLE_RATE))
        utterance.finish()


def _vllm(eyes: Vllm) -> None:
    eyes.describe("Which colour is this? One word.", _picture(), "image/png", _WHO)


def _picture() -> bytes:
    """A grey PNG (W3C PNG specification, third edition)."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = (b"\0" + b"\x80" * _SIDE) * _SIDE
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


_PROBES: Mapping[str, Callable[[Any], None]] = {"llm": _llm, "tts": _tts, "asr": _asr, "vllm": _vllm}
