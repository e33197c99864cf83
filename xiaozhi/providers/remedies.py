"""What a vendor's error means for whoever wrote the configuration: which block, which setting, what to do.

Made of the error's class and status and of the options that the block has; a provider needs no code of its own for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xiaozhi.errors import (
    CircuitOpen,
    SettingsError,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
)
from xiaozhi.providers import registry
from xiaozhi.providers.known_vendors import ADDRESSES
from xiaozhi.settings import checks

MODELS = ("model_name", "model", "resource_id", "voice", "speaker", "bot_id", "app_id")
"""Names of what is asked for at that address."""

_KEY = re.compile(r"(?i)api[ _-]?key|access[ _-]?token|unauthori[sz]ed|authenticat|signature|鉴权|密钥|令牌|认证")
_MONEY = re.compile(r"(?i)insufficient[ _](?:quota|balance)|billing|arrear|overdue|good standing|credit|余额|欠费")
_NOT_OPENED = re.compile(r"(?i)ModelNotOpen|not activated|activate the model|未开通|尚未开通")
_COUNTRY = re.compile(
    r"(?i)location is not supported|unsupported_country|country, region|not available in your (?:country|region)"
)
_MODEL = re.compile(r"(?i)\bmodel\b|模型|\bvoice\b|\bspeaker\b|音色")
_NAME = re.compile(r"(?i)name ?resolution|getaddrinfo|name or service|nodename|no address|not known")
_NOBODY = re.compile(r"(?i)refused|no route|unreachable")
_TLS = re.compile(r"(?i)\btls\b|\bssl\b|certificate")


@dataclass(frozen=True, slots=True)
class Remedies:
    """Explains the errors of one block. `keys`: its secret options that are set, `missing_keys`: those that are not."""

    block: str
    keys: tuple[str, ...] = ()
    missing_keys: tuple[str, ...] = ()
    address: str = "its address"
    model: str = "its model"

    def explain(self, error: VendorError) -> None:
        """Name the block and the remedy in `error`."""
        error.blame(self.block, self._remedy(error))

    def _remedy(self, error: VendorError) -> str:
        said = f"{error.message} {error.details}"
        status = f"{error.status}, " if error.status else ""
        if isinstance(error, CircuitOpen):
            return "it has failed too often and is not asked for a while"
        if isinstance(error, VendorBusy):
            return f"{status or '429, '}too many requests: lower max_concurrent, or buy more"
        if isinstance(error, VendorTimeout):
            return f"{status}too slow, or not reachable: see the network, {self.address}, and `timeout`"
        if isinstance(error, VendorGarbage):
            return f"its answer is not understood: is {self.address} the address of this kind of service?"
        if isinstance(error, VendorRejected):
            return status + self._of_refusal(error.status, said)
        if error.status >= 500:
            return f"{status}the vendor has a failure of its own: see its status page, or set a fallback"
        return self._of_connection(said)

    def _of_refusal(self, status: int, said: str) -> str:
        if status == 402 or _MONEY.search(said):
            return "the account is empty or may not do this: see the vendor's console"
        if _NOT_OPENED.search(said):
            return f"{self.model} has to be activated in the vendor's console first"
        if _COUNTRY.search(said):
            return (
                "the vendor does not serve the country that this machine asks from: set `proxy`, or take another vendor"
            )
        if status in (401, 403) or _KEY.search(said):
            if self.keys:
                return f"the key in {' or '.join(self.keys)} was refused"
            return f"a key is wanted: set {' or '.join(self.missing_keys)}" if self.missing_keys else "a key is wanted"
        if status == 404 or _MODEL.search(said):
            return f"there is no such address or model: see {self.address} and {self.model}"
        return "the request was refused: see the options of this block"

    def _of_connection(self, said: str) -> str:
        if _TLS.search(said):
            return f"no secure connection: see {self.address} (https or http?) and the certificate"
        if _NAME.search(said):
            return f"its host is not known: see {self.address}, and this machine's DNS"
        if _NOBODY.search(said):
            return f"nothing answers there: see {self.address}, and whether the service runs"
        return f"it cannot be reached, or broke off: see {self.address} and the network"


def remedies_of(kind: str, name: str, block: Mapping[str, Any]) -> Remedies:
    """The remedies of a block."""
    key = registry.block_key(kind, name)
    try:
        registered = registry.registration(kind, name, block)
    except SettingsError:
        return Remedies(key)
    known = {
        spelling
        for field_name, field in registered.options.model_fields.items()
        for spelling in checks.spellings(field_name, field)
    }
    secrets = registry.secrets_of(registered)

    def first(names: tuple[str, ...], otherwise: str) -> str:
        written = [each for each in names if block.get(each)]
        return next(iter([*written, *(each for each in names if each in known)]), otherwise)

    return Remedies(
        key,
        tuple(each for each in secrets if block.get(each)),
        tuple(each for each in secrets if each in registered.options.model_fields and not block.get(each)),
        first(ADDRESSES, "its address"),
        first(MODELS, "its model"),
    )
