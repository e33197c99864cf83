"""How blocks name an account at Volcengine's speech services, and which voice belongs to which of its resources.

Sources: volcengine.com/docs/6561/1329505 (headers, resources), /1257544 (voices)."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, SecretStr

from xiaozhi.providers.families.http_options import ApiKey, BlankFree
from xiaozhi.providers.families.platform_ids import PlatformId


def _named_table(value: Any) -> Any:
    # The sample files mark what may be left out, and people do leave it: such a table does not exist.
    return "" if isinstance(value, str) and value.strip().startswith(("（选填）", "(选填)")) else value


TableName = Annotated[str, BeforeValidator(_named_table)]
"""A list of hot words or of replacements that was made in the vendor's console; "" for none."""


class VolcengineAccount(BlankFree):
    """`appid` and `access_token` of the old console, or `api_key` of the new one."""

    appid: PlatformId = ""
    access_token: ApiKey = SecretStr("")
    api_key: ApiKey = SecretStr("")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may show."""
        return tuple(filter(None, (self.access_token.get_secret_value(), self.api_key.get_secret_value())))

    def headers(self, resource_id: str) -> dict[str, str]:
        """Of a connection to a service V3; a new id each time."""
        found = {
            "X-Api-Key": self.api_key.get_secret_value(),
            "X-Api-Access-Key": self.access_token.get_secret_value(),
            "X-Api-App-Key": self.appid,
            "X-Api-Resource-Id": resource_id,
            "X-Api-Connect-Id": str(uuid.uuid4()),
        }
        return {name: value for name, value in found.items() if value}


MIXED_VOICE: Final = "custom_mix_bigtts"
"""The speaker that stands for the mixture in `mix_speaker`."""

_FIRST: Final = re.compile(r"BV\d+\w*_streaming|\w+_(?:moon|mars)_bigtts|\w+_wvae_bigtts")
_SECOND: Final = re.compile(r"\w+_uranus_bigtts")
_CLONED: Final = re.compile(r"(?:S|icl)_\w+")
_RESOURCES: Final = (
    (_FIRST, "volc.service_type.10029", ("volc.service_type.", "seed-tts-1")),
    (_SECOND, "seed-tts-2.0", ("seed-tts-2",)),
    (_CLONED, "seed-icl-1.0 or seed-icl-2.0", ("seed-icl-", "volc.megatts.")),
)
_KNOWN_RESOURCES: Final = tuple(prefix for _, _, prefixes in _RESOURCES for prefix in prefixes)


def is_large_model(voice: str) -> bool:
    """A voice of the speech model or cloned by it, rather than one of the old ones (BV001_streaming)."""
    return voice.endswith("_bigtts") or is_cloned(voice)


def is_cloned(voice: str) -> bool:
    """A voice made of somebody's recordings."""
    return _CLONED.fullmatch(voice) is not None


def resource_for(voice: str, resource_id: str) -> str:
    """The resource that `voice` wants when `resource_id` cannot be it; "" when it can, or when one of them is
    unknown."""
    if not resource_id.startswith(_KNOWN_RESOURCES):
        return ""
    for pattern, wanted, prefixes in _RESOURCES:
        if pattern.fullmatch(voice):
            return "" if resource_id.startswith(prefixes) else wanted
    return ""
