"""Sections of services beside the providers: live data for the prompt, speaker recognition."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator

from xiaozhi.settings.fields import EmptyIsNone, HttpUrl, Seconds, Section


class ContextProvider(Section):
    """A web address whose answer is put into the system prompt."""

    url: HttpUrl = Field(default="", repr=False, description="Asked with the device id before a conversation.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="HTTP headers of the request.")


class VoiceprintService(Section):
    """What tells speakers apart."""

    type: str = Field(
        default="http",
        min_length=1,
        description="http: the service at `url`; local: on this machine, people are told to it by voice.",
    )
    model_dir: str = Field(
        default="models/resemblyzer",
        description="Folder of the model of `local`: server.py models fetch resemblyzer, or campplus (Mandarin).",
    )
    url: HttpUrl = Field(
        default="", repr=False, description="Address of the service with its key; empty: speakers are not told apart."
    )
    speakers: tuple[str, ...] = Field(default=(), description="Known speakers: 'id,name,description'.")
    similarity_threshold: Annotated[float | None, EmptyIsNone] = Field(
        default=None,
        ge=0,
        le=1,
        description="Least likeness (0..1) to count as recognised; empty: 0.4 (http), 0.74 (local; CAM++: 0.5).",
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

    def blocks(self) -> dict[str, dict[str, Any]]:
        """The block of its provider, as other kinds have theirs; none when speakers are not told apart."""
        keys = {"url", "speakers"} if self.type == "http" else {"model_dir"}
        block = self.model_dump(include={"type", *keys, "similarity_threshold"}, exclude_none=True)
        if self.type == "http" and not (self.url and self.speakers):
            return {}
        return {"voiceprint" if ":" in self.type else self.type: block}
