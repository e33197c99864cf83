"""The `manager-api` section: where the management console is, and how patiently it is asked."""

from __future__ import annotations

from pydantic import Field, SecretStr

from xiaozhi.settings.fields import HttpUrl, Seconds, SecondsOrOff, Section


class ManagerApi(Section):
    """The management console's API, for installations that have one."""

    url: HttpUrl = Field(default="", description="Its address, ending in /xiaozhi; empty: this file decides.")
    secret: SecretStr = Field(default=SecretStr(""), description="Its server.secret.")
    timeout: Seconds = Field(default=30.0, description="For one call, s.")
    max_retries: int = Field(
        default=6, ge=0, le=100, description="Repetitions of a call that failed for a passing reason."
    )
    retry_delay: SecondsOrOff = Field(default=10.0, description="Longest pause before a repetition, s.")
