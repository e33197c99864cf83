"""The voiceprint service of the existing server (voiceprint-api): says which of the known speakers an utterance is by.

`GET {url}` is its health check and carries the key; `POST .../identify` beside it takes the sound. Source: the pages of
the service (github.com/xinnan-tech/voiceprint-api)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, SecretStr

from xiaozhi.audio.pcm import wav_file
from xiaozhi.errors import VendorGarbage
from xiaozhi.net.http import VendorHttp, multipart
from xiaozhi.providers.contracts.asr import ASR_SAMPLE_RATE
from xiaozhi.providers.contracts.provider import ProviderOptions
from xiaozhi.providers.contracts.voiceprint import HeardVoice, Speaker, Voiceprint
from xiaozhi.providers.registry import provider

MAX_BYTES: Final = 30 * ASR_SAMPLE_RATE * 2
"""Of an utterance, its end; more makes nobody better known."""


def _with_key(value: SecretStr) -> SecretStr:
    parts = urllib.parse.urlsplit(value.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname or not _key_of(parts.query):
        raise ValueError("expected the address with its key, such as http://host:8005/voiceprint/health?key=...")
    return value


def _three_parts(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if len(value.split(",")) < 2:
            raise ValueError("expected 'id,name,description'")
    return values


def _key_of(query: str) -> str:
    return urllib.parse.parse_qs(query).get("key", [""])[0]


class HttpVoiceprintOptions(ProviderOptions):
    """The section `voiceprint` of the configuration."""

    url: Annotated[SecretStr, AfterValidator(_with_key)]
    speakers: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_three_parts)]
    similarity_threshold: float = Field(0.4, ge=0, le=1)
    timeout: float = Field(5.0, gt=0)
    """Seconds; an answer waits less (`voiceprint.wait_seconds`)."""

    @property
    def known(self) -> dict[str, Speaker]:
        """The speakers, by id."""
        parts = [[part.strip() for part in each.split(",", 2)] for each in self.speakers]
        return {part[0]: Speaker(part[0], part[1], part[2] if len(part) > 2 else "") for part in parts}


@provider("voiceprint", "http", HttpVoiceprintOptions)
class HttpVoiceprint(Voiceprint):
    """One service."""

    def __init__(self, options: HttpVoiceprintOptions) -> None:
        address = urllib.parse.urlsplit(options.url.get_secret_value())
        key = _key_of(address.query)
        folder = address.path.rstrip("/").rpartition("/")[0]
        self._identify_url = urllib.parse.urlunsplit((address.scheme, address.netloc, f"{folder}/identify", "", ""))
        self._threshold = options.similarity_threshold
        self._known = options.known
        self._http = VendorHttp(
            "voiceprint",
            connect=min(2.0, options.timeout),
            read=options.timeout,
            total=options.timeout,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            secrets=[key],
        )

    def identify(self, pcm: bytes, owner: str) -> HeardVoice:
        """See Voiceprint. The people are those of the configuration, whoever the owner is."""
        ids = ",".join(self._known)
        body, content_type = multipart(
            {"speaker_ids": ids, "file": ("audio.wav", wav_file(pcm[-MAX_BYTES:], ASR_SAMPLE_RATE), "audio/wav")}
        )
        answer = self._http.json("POST", self._identify_url, data=body, headers={"Content-Type": content_type})
        identity, score = _read(answer)
        speaker = self._known.get(identity)
        if speaker is None or score < self._threshold:
            return HeardVoice(None)
        return HeardVoice(Speaker(speaker.id, speaker.name, speaker.description, score))

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()


def _read(answer: Any) -> tuple[str, float]:
    """Id and likeness (0 to 1)."""
    if not isinstance(answer, Mapping):
        raise VendorGarbage("voiceprint", "not an object")
    try:
        return str(answer.get("speaker_id") or ""), float(answer.get("score") or 0.0)
    except (TypeError, ValueError):
        raise VendorGarbage("voiceprint", "a score that is no number") from None
