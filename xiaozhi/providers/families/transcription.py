"""The body of a transcription -> a Transcript, in all the forms that compatible servers have.

The form is judged by what is there and not by the content type: an object with `text` (whole, or by segments), a JSON
string, server-sent events, plain text. Whisper tells per segment how likely it was that nobody spoke; what it invents
in silence is left out.

Sources: platform.openai.com/docs/api-reference/audio, and how openai/whisper itself skips silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http_errors import redact
from xiaozhi.providers.contracts.asr import Transcript
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.families.sensevoice_tags import transcript

NO_SPEECH: Final = 0.6
"""From this probability of silence up a segment is silence if its words are unlikely, too ..."""
UNLIKELY: Final = -1.0
"""... which a mean log probability below this says."""
SURELY_NO_SPEECH: Final = 0.9
"""From this one up it is, whatever the words: Whisper is quite sure of its stock phrases."""

_BOM: Final = b"\xef\xbb\xbf"
_TEXT_KEYS: Final = ("text", "transcript", "transcription")


def transcript_in(body: bytes, vendor: str, content_type: str) -> Transcript:
    """What was said, by the whole body of an answer. Raises VendorGarbage, and the error that it tells of."""
    body = body.removeprefix(_BOM).strip()
    if not body:
        if not content_type.startswith("text/"):
            raise VendorGarbage(vendor, "an empty answer")
        return Transcript("")  # in plain text, nothing is what was said
    if body[:5] == b"data:" or body[:6] == b"event:":
        return _of_events(body, vendor)
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _of_plain_text(body, vendor)
    if answer is None or isinstance(answer, str):
        return transcript(answer or "")
    if not isinstance(answer, Mapping):
        # A number, a date: the words of somebody who said nothing else.
        if isinstance(answer, int | float) and not isinstance(answer, bool):
            return transcript(body.decode())
        raise VendorGarbage(vendor, "the answer is no JSON object")
    return _of_object(answer, vendor)


def _of_plain_text(body: bytes, vendor: str) -> Transcript:
    text = body.decode("utf-8", "replace")
    if text[:1] in ("{", "<") and not text.startswith("<|"):
        raise VendorGarbage(vendor, f"no transcript: {redact(text)}")
    return transcript(text)


def _of_events(body: bytes, vendor: str) -> Transcript:
    """`transcript.text.delta` and `.done`, or pieces of another kind: the last whole text, else the pieces."""
    pieces: list[str] = []
    whole: Transcript | None = None
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        try:
            event = orjson.loads(line[5:])
        except orjson.JSONDecodeError:
            continue  # the end, or an odd line
        if not isinstance(event, Mapping):
            continue
        if isinstance(event.get("delta"), str):
            pieces.append(event["delta"])
        elif event.get("error") or "text" in event:
            whole = _of_object(event, vendor)
    if whole is None and not pieces:
        raise VendorGarbage(vendor, "no text in the answer")
    return whole if whole is not None and (whole.text or not pieces) else transcript("".join(pieces))


def _of_object(answer: Mapping[str, Any], vendor: str) -> Transcript:
    key = next((key for key in _TEXT_KEYS if key in answer), "")
    text = answer.get(key)
    segments = answer.get("segments")
    if answer.get("error") and not isinstance(text, str):
        raise error_in_answer(vendor, answer["error"])
    if not (key or isinstance(segments, list)) or not isinstance(text, str | None):
        raise VendorGarbage(vendor, "no text in the answer")
    language = str(answer.get("language") or "")
    if not isinstance(segments, list):
        return transcript("" if _nobody_spoke(answer) else text or "", language=language)
    return _of_segments(segments, text, language)


def _of_segments(segments: Sequence[Any], text: str | None, language: str) -> Transcript:
    readable = [
        segment for segment in segments if isinstance(segment, Mapping) and isinstance(segment.get("text"), str)
    ]
    spoken = [segment for segment in readable if not _nobody_spoke(segment)]
    if text is None or len(spoken) < len(readable):
        text = "".join(segment["text"] for segment in spoken)
    return transcript(text, language=language)


def _nobody_spoke(segment: Mapping[str, Any]) -> bool:
    silence, likelihood = segment.get("no_speech_prob"), segment.get("avg_logprob")
    if not isinstance(silence, int | float):
        return False
    unlikely = not isinstance(likelihood, int | float) or likelihood < UNLIKELY
    return silence >= SURELY_NO_SPEECH or (silence >= NO_SPEECH and unlikely)
