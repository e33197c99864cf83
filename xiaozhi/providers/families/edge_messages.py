"""The messages of Edge's read-aloud service: headers and a body in each, text or binary. Pure.

    we send      speech.config (which sound we want), ssml (what is to be said)
    it answers   turn.start, response, audio.metadata, audio (binary, many), turn.end

Microsoft documents none of it. Source: github.com/rany2/edge-tts, which is kept up to date with the browser; for the
SSML learn.microsoft.com/azure/ai-services/speech-service/speech-synthesis-markup."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from xml.sax.saxutils import escape

_SHORT_VOICE = re.compile(r"([a-z]{2,})-([A-Z]{2,})-(?:([A-Za-z]+)-)?([A-Za-z0-9]+Neural)")
# Control characters that XML 1.0 does not have.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


class BadMessage(ValueError):
    """Not a message of the service."""


@dataclass(frozen=True, slots=True)
class EdgeMessage:
    """One message of the service. `path`: what it is, such as "audio"; `body`: MP3 for that, JSON for the others."""

    path: str
    content_type: str
    body: bytes


def parse(message: str | bytes) -> EdgeMessage:
    """A text message: headers, an empty line, the body. A binary one: the length of the headers in two bytes, big
    endian; the headers; the body. Raises BadMessage."""
    if isinstance(message, str):
        head, found, text = message.partition("\r\n\r\n")
        if not found:
            raise BadMessage("a text message without headers")
        body = text.encode()
    else:
        size = int.from_bytes(message[:2], "big")
        if len(message) < 2 + size:
            raise BadMessage("a binary message that is shorter than its headers")
        head, body = message[2 : 2 + size].decode("latin-1"), message[2 + size :]
    headers = dict(line.split(":", 1) for line in head.split("\r\n") if ":" in line)
    if "Path" not in headers:
        raise BadMessage("a message without a Path")
    return EdgeMessage(headers["Path"].strip(), headers.get("Content-Type", "").strip(), body)


def speech_config(sound_format: str, now: float) -> str:
    """The first message of a connection. `now`: Unix time."""
    return (
        f"X-Timestamp:{_date(now)}\r\n"
        "Content-Type:application/json; charset=utf-8\r\n"
        "Path:speech.config\r\n\r\n"
        '{"context":{"synthesis":{"audio":{"metadataoptions":'
        '{"sentenceBoundaryEnabled":"true","wordBoundaryEnabled":"false"},'
        f'"outputFormat":"{sound_format}"}}}}}}}}\r\n'
    )


def ssml_message(request_id: str, ssml: str, now: float) -> str:
    """The message that asks for speech. `request_id`: 32 hexadecimal digits."""
    return (
        f"X-RequestId:{request_id}\r\n"
        "Content-Type:application/ssml+xml\r\n"
        f"X-Timestamp:{_date(now)}Z\r\n"  # the browser adds the Z, wrong as it is
        f"Path:ssml\r\n\r\n{ssml}"
    )


def ssml(text: str, voice: str, rate: str, volume: str, pitch: str) -> str:
    """`text` to be said by `voice` (its full name); the others as in "+10%", "-5Hz"."""
    said = escape(_NO_XML.sub(" ", text))
    return (
        "<speak version='1.0' xmlns='http://www.w3.org/2001/10/synthesis' xml:lang='en-US'>"
        f"<voice name='{voice}'><prosody pitch='{pitch}' rate='{rate}' volume='{volume}'>{said}</prosody></voice>"
        "</speak>"
    )


def full_voice_name(voice: str) -> str:
    """ "zh-CN-XiaoxiaoNeural" -> the name the browser sends; a full name as it is. Raises ValueError."""
    short = _SHORT_VOICE.fullmatch(voice)
    if short is not None:
        language, region, part, name = short.groups()
        region = f"{region}-{part}" if part else region
        return f"Microsoft Server Speech Text to Speech Voice ({language}-{region}, {name})"
    if re.fullmatch(r"Microsoft Server Speech Text to Speech Voice \([^,'<>&]+,[^'<>&]+\)", voice):
        return voice
    raise ValueError("expected the name of a voice, such as zh-CN-XiaoxiaoNeural")


def _date(now: float) -> str:
    return time.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)", time.gmtime(now))
