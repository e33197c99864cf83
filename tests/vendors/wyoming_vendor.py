"""Strict Wyoming services, for recognition and for speech. Their events are read, checked and written by the official
package, `wyoming`: another implementation than the client's.

Refuse what the real ones would misunderstand: events out of order, sound of another format than announced or in half
samples, an unknown voice, a whole text at the end that is not the pieces. Behave as faster-whisper and Piper do: the
connection is closed after a text; a stream is spoken sentence by sentence, each known by the empty line behind it."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.queue import Queue
from gevent.server import StreamServer
from gevent.socket import wait_read
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, read_event, write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info, TtsProgram, TtsVoice, TtsVoiceSpeaker
from wyoming.ping import Pong
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped

from loadtest.vendors.sounds import hum
from tests.vendors.ws_vendor import Fault
from tests.waiting import PATIENCE_S

SYLLABLE_S = 0.19
_hum = cache(hum)
"""Made once: the hub is the client's too."""
_BY = Attribution("nobody", "https://nowhere.example")


class _Gone(Exception):
    """The client left."""


class WyomingVendor:
    """Offers what `kind` says: "asr", "tts", or "" for nothing. `streaming`: text comes in pieces, or is taken in
    pieces. `rate`, `channels`: of its voice.

    `fault`: "" or stall_before (nothing ever), stall_after (one piece, then silence), drop (after one), garbage, error,
    early (it has heard enough), silent (a sentence without sound)."""

    def __init__(
        self,
        kind: str,
        *,
        streaming: bool = False,
        text: str = " Turn on the light. ",
        rate: int = 22_050,
        channels: int = 1,
        width: int = 2,
    ) -> None:
        self._server = StreamServer(("127.0.0.1", 0), self._serve, spawn=Pool(1000))
        self.kind = kind
        self.streaming = streaming
        self.text = text
        self.rate, self.channels, self.width = rate, channels, width
        self.fault = ""
        self.once: deque[str] = deque()
        """Faults of the next requests, one each."""
        self.faults: list[str] = []
        self.requests: list[Any] = []
        self.texts: list[str] = []
        """Sentences that were spoken."""
        self.audio = bytearray()
        self.described = 0
        self.connections = 0
        self.open = 0
        self.talking = 0
        self.gone: Queue[int] = Queue(1000)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def __enter__(self) -> WyomingVendor:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and every connection."""
        self._server.stop(timeout=0)

    def wait_gone(self) -> None:
        """Block until the next client has left early."""
        self.gone.get(timeout=PATIENCE_S)

    def _serve(self, sock: Any, address: Any) -> None:
        self.connections += 1
        self.open += 1
        try:
            _Talk(self, sock).run()
        except (_Gone, OSError):
            self.gone.put_nowait(self.connections)
        except Fault as fault:
            self.faults.append(str(fault))
        finally:
            self.open -= 1
            sock.close()

    def info(self) -> Info:
        """What it offers."""
        common = {"attribution": _BY, "installed": True, "description": None, "version": "1"}
        models = [AsrModel(name="small", languages=["en", "de"], **common)]
        voices = [
            TtsVoice(name="en_US-amy", languages=["en_US"], **common),
            TtsVoice(name="de_DE-mls", languages=["de_DE"], speakers=[TtsVoiceSpeaker("anna")], **common),
        ]
        asr = AsrProgram(name="ear", models=models, supports_transcript_streaming=self.streaming, **common)
        tts = TtsProgram(name="mouth", voices=voices, supports_synthesize_streaming=self.streaming, **common)
        return Info(asr=[asr] if self.kind == "asr" else [], tts=[tts] if self.kind == "tts" else [])


class _Talk:
    """One connection."""

    def __init__(self, vendor: WyomingVendor, sock: Any) -> None:
        self._vendor = vendor
        self._sock = sock
        self._reader = sock.makefile("rb")
        self._writer = sock.makefile("wb")

    def run(self) -> None:
        event = self._next()
        while Describe.is_type(event.type):
            self._vendor.described += 1
            self._write(Pong())  # whatever else it says first
            self._write(self._vendor.info())
            try:
                event = self._next()
            except _Gone:
                return
        self._vendor.talking += 1
        fault = self._vendor.once.popleft() if self._vendor.once else self._vendor.fault
        try:
            if self._vendor.kind == "asr":
                self._hear(Transcribe.from_event(event), fault)
            elif SynthesizeStart.is_type(event.type):
                self._speak_stream(SynthesizeStart.from_event(event), fault)
            else:
                self._speak(event, fault)
        finally:
            self._vendor.talking -= 1

    # --- hearing ------------------------------------------------------------------------------------------------------

    def _hear(self, request: Transcribe, fault: str) -> None:
        vendor = self._vendor
        vendor.requests.append(request)
        start = self._next()
        if not AudioStart.is_type(start.type):
            raise Fault(f"{start.type} instead of audio-start")
        form = AudioStart.from_event(start)
        if (form.rate, form.width, form.channels) != (16_000, 2, 1):
            raise Fault(f"sound {start.data}")
        vendor.audio = bytearray()
        pieces = 0
        while not AudioStop.is_type((event := self._next()).type):
            if not AudioChunk.is_type(event.type):
                raise Fault(f"{event.type} instead of sound")
            chunk = AudioChunk.from_event(event)
            if (chunk.rate, chunk.width, chunk.channels) != (16_000, 2, 1) or not chunk.audio or len(chunk.audio) % 2:
                raise Fault(f"sound {event.data}, {len(chunk.audio)} bytes")
            vendor.audio += chunk.audio
            pieces += 1
            if pieces == 3:
                if fault in ("drop", "garbage", "error"):
                    self._misbehave(fault)
                if vendor.streaming and fault != "stall_before":
                    self._write(TranscriptStart(language="en"))
                    self._write(TranscriptChunk(vendor.text[:8]))
                if fault == "early":
                    break
            elif pieces == 5 and vendor.streaming and not fault:
                self._write(TranscriptChunk(vendor.text[8:]))
        if fault in ("stall_before", "stall_after"):
            self._wait_gone()
        self._write(Transcript(vendor.text if pieces else "", language="en"))
        if vendor.streaming:
            self._write(TranscriptStop())

    # --- speaking -----------------------------------------------------------------------------------------------------

    def _speak(self, event: Event, fault: str) -> None:
        if not Synthesize.is_type(event.type):
            raise Fault(f"{event.type} instead of synthesize")
        request = Synthesize.from_event(event)
        self._check(request)
        if fault == "stall_before":
            self._wait_gone()
        self._vendor.texts.append(request.text)
        self._sound(request.text if fault != "silent" else "", fault)
        self._sock.shutdown(socket.SHUT_WR)

    def _speak_stream(self, request: SynthesizeStart, fault: str) -> None:
        vendor = self._vendor
        self._check(request)
        whole = waiting = ""
        compatible = False
        while not SynthesizeStop.is_type((event := self._next()).type):
            if Synthesize.is_type(event.type):
                if compatible or Synthesize.from_event(event).text != whole:
                    raise Fault("the whole text is not that of the pieces")
                compatible = True
                continue
            if not SynthesizeChunk.is_type(event.type) or compatible:
                raise Fault(f"{event.type} in a stream")
            whole += SynthesizeChunk.from_event(event).text
            waiting += SynthesizeChunk.from_event(event).text
            if fault == "stall_before":
                continue
            *sentences, waiting = waiting.split("\n\n")
            for sentence in filter(str.strip, sentences):
                vendor.texts.append(sentence)
                self._sound(sentence, fault)
        if fault == "stall_before":
            self._wait_gone()
        if whole and not compatible:
            raise Fault("a stream without its whole text")
        if waiting.strip():
            vendor.texts.append(waiting)
            self._sound(waiting, fault)
        self._write(SynthesizeStopped())

    def _check(self, request: Synthesize | SynthesizeStart) -> None:
        self._vendor.requests.append(request)
        voices = {voice.name: voice for voice in self._vendor.info().tts[0].voices}
        voice = request.voice
        if voice is not None and voice.name is not None:
            if voice.name not in voices:
                raise Fault(f"voice {voice}")
            speakers = [speaker.name for speaker in voices[voice.name].speakers or ()]
            if voice.speaker is not None and voice.speaker not in speakers:
                raise Fault(f"speaker {voice}")

    def _sound(self, sentence: str, fault: str) -> None:
        vendor = self._vendor
        form = {"rate": vendor.rate, "width": vendor.width, "channels": vendor.channels}
        self._write(AudioStart(**form))
        for piece in self._pieces(sentence):
            if fault in ("garbage", "error"):
                self._misbehave(fault)
            self._write(AudioChunk(audio=piece, **form))
            if fault in ("drop", "stall_after"):
                self._misbehave(fault)
        self._write(AudioStop())

    def _pieces(self, sentence: str) -> Iterator[bytes]:
        vendor = self._vendor
        count = sum(1.0 if ord(letter) > 0x2E80 else 0.4 for letter in sentence if letter.isalnum())
        if not count:
            return
        pcm = _hum(count * SYLLABLE_S, vendor.rate) + bytes(2 * int(vendor.rate * 0.3))
        if vendor.channels == 2:
            pcm = b"".join(pcm[at : at + 2] * 2 for at in range(0, len(pcm), 2))
        for start in range(0, len(pcm), 2048 * vendor.channels):
            yield pcm[start : start + 2048 * vendor.channels]

    # --- events -------------------------------------------------------------------------------------------------------

    def _next(self) -> Event:
        with gevent.Timeout(PATIENCE_S):
            event = read_event(self._reader)
        if event is None:
            raise _Gone
        return event

    def _write(self, event: Eventable) -> None:
        write_event(event.event(), self._writer)

    def _misbehave(self, fault: str) -> None:
        if fault == "garbage":
            self._writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self._writer.flush()
        elif fault == "error":
            self._write(Error("no such file", "FileNotFoundError"))
        elif fault == "drop":
            self._sock.shutdown(socket.SHUT_RDWR)
        self._wait_gone()

    def _wait_gone(self) -> None:
        while True:
            with gevent.Timeout(PATIENCE_S):
                wait_read(self._sock.fileno())
            if not self._sock.recv(65_536):
                raise _Gone
