"""Sections of services beside the providers: live data for the prompt, speaker recognition."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from xiaozhi.settings.fields import HttpUrl, Seconds, Section


class ContextProvider(Section):
    """A web address whose answer is put into the system prompt."""

    url: HttpUrl = Field(default="", repr=False, description="Asked with the device id before a conversation.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="HTTP headers of the request.")


class VoiceprintService(Section):
    """The service that recognises speakers."""

    url: HttpUrl = Field(
        default="", repr=False, description="Address of the service with its key; empty: speakers are not told apart."
    )
    speakers: tuple[str, ...] = Field(default=(), description="Known speakers: 'id,name,description'.")
    similarity_threshold: float = Field(
        default=0.4, ge=0, le=1, description="Least likeness (0..1) to count as recognised."
    )
    wait_seconds: Seconds = Field(
        default=0.5, description="How much longer than for the text an answer waits for the name."
    )

    @field_validator("speakers")
    @classmethod
    def _three_parts(cls, speakers: tuple[str, ...]) -> tuple[str, ...]:
        for speaker in speakers:
            if len(speaker.split(",", 2)) < 2 or not speaker.partition(",")[0].strip():
                raise ValueError(f"must be 'id,name,description', not {speaker!r}")
        return speakers
