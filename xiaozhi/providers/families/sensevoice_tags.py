"""SenseVoice models mark language, emotion and event in front of the text: `<|zh|><|HAPPY|><|Speech|><|withitn|>...`.
Marks -> fields of a Transcript.

Source: the output format in the README of FunAudioLLM/SenseVoice. Used by every recogniser that may have such a model
behind it."""

from __future__ import annotations

import re

from xiaozhi.providers.contracts.asr import Transcript

_TAG = re.compile(r"<\|([^|<>]{0,40})\|>")
_LANGUAGES = {"zh", "en", "yue", "ja", "ko"}
_EMOTIONS = {"HAPPY", "SAD", "ANGRY", "NEUTRAL", "FEARFUL", "DISGUSTED", "SURPRISED"}


def transcript(text: str, *, language: str = "") -> Transcript:
    """A Transcript of `text`, its marks read and removed; `language` is what the vendor said otherwise."""
    if "<|" not in text:
        return Transcript(text.strip(), language)
    tags = _TAG.findall(text)
    spoken = next((tag for tag in tags if tag in _LANGUAGES), language)
    emotion = next((tag.lower() for tag in tags if tag in _EMOTIONS), "")
    return Transcript(_TAG.sub("", text).strip(), spoken, emotion)
