"""How fast a provider really is, from this machine: one sentence spoken, the same sentence recognised, one question
answered. `probe.py` asks whether a vendor answers at all; this measures one that does.

What a voice has said is what a recogniser is given, so the two are tried on real speech. Times in ms."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

import gevent

from xiaozhi.audio.opus import Decoder
from xiaozhi.audio.pcm import Resampler
from xiaozhi.chat import CallContext, Message
from xiaozhi.errors import VendorGarbage, VendorTimeout
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE, Asr
from xiaozhi.providers.contracts.llm import Llm
from xiaozhi.providers.contracts.tts import OpusPackets, Pcm, SpeechEnds, Tts
from xiaozhi.providers.wrappers.sentence_stream import open_speech
from xiaozhi.runtime.deadlines import at_most

DEADLINE_S = 30.0
PIECE_MS = 60
SILENCE_MS = 300
"""In front of and behind the sentence, as a microphone gives it."""
_OPUS_RATE = 48_000
_WHO = CallContext(device_id="trial", client_id="trial", session_id="trial")


@dataclass(frozen=True, slots=True)
class Trial:
    """`first_ms`: a question to its first words, a sentence to its first sound, the end of an utterance to its text.
    `total_ms`: until everything is there. `sound_s`: seconds of sound made, or heard. `text`: said, or understood."""

    first_ms: float
    total_ms: float
    sound_s: float = 0.0
    text: str = ""


def try_model(model: Llm, question: str, language: str) -> Trial:
    """Ask one short question. Raises VendorError."""
    messages = [Message("system", "Answer in one short sentence."), Message("user", question)]
    with at_most(DEADLINE_S, VendorTimeout(model.name, f"no answer within {DEADLINE_S:g} s")):
        began = time.monotonic()
        first, said = 0.0, []
        for piece in model.chat(messages, (), _speaking(language)):
            if isinstance(piece, str) and piece:
                first = first or _ms_since(began)
                said.append(piece)
        if not said:
            raise VendorGarbage(model.name, "the answer was empty")
        return Trial(first, _ms_since(began), text="".join(said))


def try_voice(voice: Tts, sentence: str, language: str) -> tuple[Trial, bytes]:
    """(the trial, s16le mono 16 kHz PCM). Raises VendorError."""
    pcm = bytearray()
    first = 0.0
    with at_most(DEADLINE_S, VendorTimeout(voice.name, f"not spoken within {DEADLINE_S:g} s")):
        began = time.monotonic()
        with closing(open_speech(voice, _speaking(language))) as speech:
            speech.say(sentence)
            speech.finish()
            decoder: Decoder | None = None
            resampler: Resampler | None = None
            while not isinstance(event := speech.receive(DEADLINE_S), SpeechEnds):
                if isinstance(event, Pcm):
                    rate, sound = event.rate or voice.traits.sample_rate, event.data
                elif isinstance(event, OpusPackets):
                    decoder = decoder or Decoder(_OPUS_RATE)
                    rate, sound = _OPUS_RATE, b"".join(map(decoder.decode, event.packets))
                else:
                    continue
                first = first or _ms_since(began)
                if resampler is None or resampler.source != rate:
                    resampler = Resampler(rate, ASR_SAMPLE_RATE)
                pcm += resampler.feed(sound)
        total = _ms_since(began)
    if not pcm:
        raise VendorGarbage(voice.name, "no sound came")
    return Trial(first, total, len(pcm) / 2 / ASR_SAMPLE_RATE, sentence), bytes(pcm)


def try_recogniser(recogniser: Asr, pcm: bytes, language: str) -> Trial:
    """Recognise `pcm` (s16le mono 16 kHz), which comes as fast as somebody speaks where the vendor listens meanwhile.
    Raises VendorError, Overloaded."""
    silence = bytes(2 * ASR_SAMPLE_RATE * SILENCE_MS // 1000)
    sound = silence + pcm + silence
    seconds = len(sound) / 2 / ASR_SAMPLE_RATE
    with (
        at_most(seconds + DEADLINE_S, VendorTimeout(recogniser.name, f"no text within {DEADLINE_S:g} s")),
        closing(recogniser.open(_speaking(language))) as utterance,
    ):
        step = 2 * ASR_SAMPLE_RATE * PIECE_MS // 1000
        until = time.monotonic()
        for start in range(0, len(sound), step):
            if recogniser.traits.streaming:
                until += PIECE_MS / 1000
                gevent.sleep(max(0.0, until - time.monotonic()))
            utterance.feed(sound[start : start + step])
        ended = time.monotonic()
        heard = utterance.finish()
        took = _ms_since(ended)
    return Trial(took, took, seconds, heard.text)


def _speaking(language: str) -> CallContext:
    return CallContext(_WHO.device_id, _WHO.client_id, _WHO.session_id, language=language)


def _ms_since(began: float) -> float:
    return (time.monotonic() - began) * 1000
