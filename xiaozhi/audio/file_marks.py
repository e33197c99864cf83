"""How sound files begin: what a stream is by its first bytes, and where in a body the next file begins.

Pure reading, no decoding (`decode.py` does that). Vendors cut a long text into parts and send the files of all parts
one behind the other, so a body may hold several. Sources: Microsoft's RIFF/WAVE description, EBU Tech 3306 (RF64),
RFC 3533 (Ogg), RFC 9639 (FLAC), ISO 14496-12 (MP4), ISO 11172-3 and 13818-7 (MPEG audio), Sony's of Wave64."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

SNIFF_BYTES: Final = 40
MPEG_BYTES: Final = 4_096
"""So many bytes tell whether something that begins like MPEG audio is: no frame is longer than half of it."""

WAV_START: Final = re.compile(rb"(?:RIFF|RF64|BW64).{4}WAVE", re.DOTALL)
WAV_START_BYTES: Final = 12
ID3_TAG: Final = re.compile(rb"ID3[\x02-\x04][\x00-\x0f].[\x00-\x7f]{4}", re.DOTALL)
"""Its head (id3v2.4.0-structure, 3.1); the last four bytes are its size, seven bits each."""
ID3_TAG_BYTES: Final = 10

_WAVE64: Final = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
# How files of the formats that FFmpeg decodes begin.
_STARTS: Final = (
    re.compile(rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE", re.DOTALL),
    re.compile(re.escape(_WAVE64)),
    re.compile(rb"FORM.{4}AIF[FC]", re.DOTALL),
    re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    re.compile(rb"\.snd\x00\x00.{2}", re.DOTALL),
    re.compile(rb"\x1aE\xdf\xa3[\x80-\xff\x01]"),
    re.compile(rb"\x00\x00\x00.ftyp", re.DOTALL),
    re.compile(rb"caff\x00\x01\x00\x00desc"),
    re.compile(rb"#!AMR(?:-WB)?\n"),
)
_OTHER_MARKS: Final = (b"fLaC", b"\x1aE\xdf\xa3", b"FORM", b".snd", b"RIFX", b"caff", b"#!AM", b"OggS")

_OGG_FIRST_PAGE: Final = re.compile(rb"OggS\x00[\x02\x06]")
_OGG_PAGE: Final = re.compile(rb"OggS\x00[\x00-\x07]")

# kbit/s and Hz of layer III, by version (ISO 11172-3, 2.4.2.3; 13818-3 for the lower rates). 0: forbidden.
_KBIT_MPEG1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBIT_MPEG2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_MPEG1: Final = 3
_RATES_HZ: Final = {_MPEG1: (44_100, 48_000, 32_000, 0), 2: (22_050, 24_000, 16_000, 0), 0: (11_025, 12_000, 8_000, 0)}


def sniff(head: bytes) -> str:
    """What a stream is, by its first `SNIFF_BYTES` bytes: wav, ogg_opus, mp3, other (a container FFmpeg knows), or ""
    (no known mark: raw PCM, text, or too little to tell)."""
    if WAV_START.match(head):
        return "wav"
    if head[:4] == b"OggS" and b"OpusHead" in head[:SNIFF_BYTES]:
        return "ogg_opus"
    if head[:3] == b"ID3" or _is_mp3_frame(head):
        return "mp3"
    if head[:4] in _OTHER_MARKS or head[:16] == _WAVE64 or head[4:8] == b"ftyp" or _is_adts_frame(head):
        return "other"
    return ""


def has_mark(head: bytes) -> bool:
    """Whether what `sniff` found is told by a mark of letters, which no sound begins with by chance."""
    return sniff(head) != "" and head[:1] != b"\xff"


def is_mpeg(head: bytes) -> bool:
    """Whether one MPEG frame (layer III or AAC) begins here and another one right behind it. Raw PCM may look like the
    start of one; wants `MPEG_BYTES`, unless there are no more."""
    size = _mp3_frame_bytes(head) or _adts_frame_bytes(head)
    following = head[size : size + 4]
    return bool(size) and (_is_mp3_frame(following) or _is_adts_frame(following))


def _is_mp3_frame(head: bytes) -> bool:
    # MPEG audio layer III: 11 bits of sync, a valid version, layer 01, no reserved bit rate or sample rate.
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    return head[1] & 0x18 != 0x08 and head[2] & 0xF0 not in (0xF0, 0x00) and head[2] & 0x0C != 0x0C


def _mp3_frame_bytes(head: bytes) -> int:
    if not _is_mp3_frame(head):
        return 0
    version = head[1] >> 3 & 3
    kbit = (_KBIT_MPEG1 if version == _MPEG1 else _KBIT_MPEG2)[head[2] >> 4]
    hertz = _RATES_HZ[version][head[2] >> 2 & 3]
    return (144 if version == _MPEG1 else 72) * kbit * 1_000 // hertz + (head[2] >> 1 & 1)


def _is_adts_frame(head: bytes) -> bool:
    return len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def _adts_frame_bytes(head: bytes) -> int:
    if len(head) < 6 or not _is_adts_frame(head):
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def files_in(body: bytes) -> list[bytes]:
    """The files of one kind that a body is made of, one behind the other; most bodies are one."""
    starts = sorted({0, *_further_starts(body)})
    return [body[start:end] for start, end in zip(starts, [*starts[1:], len(body)], strict=True)]


def _further_starts(body: bytes) -> Iterator[int]:
    if body[:4] == b"OggS":
        yield from _ogg_chain(body)
        return
    for mark in _STARTS:
        if mark.match(body):
            yield from (found.start() for found in mark.finditer(body, 1))


def _ogg_chain(body: bytes) -> Iterator[int]:
    """Streams that play side by side all begin before any of them goes on; one that begins later is the next file."""
    gone_on = False
    for page in _OGG_PAGE.finditer(body):
        first = _OGG_FIRST_PAGE.match(body, page.start()) is not None
        if first and gone_on:
            yield page.start()
        gone_on = not first
