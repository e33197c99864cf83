"""Subjects for contract tests: a vendor for providers that speak HTTP, which answers as a function says and fails as
the suite demands; and the real inference pool for providers that need no vendor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRequest
from tests.contract.suites import Subject
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build
from xiaozhi.runtime.inference import InferencePool

CONFIG = Path(__file__).resolve().parents[2] / "config"

SCRIPTS = {
    "401": Script(status=401, error="Incorrect API key: secret-key"),
    "429": Script(status=429, retry_after="2"),
    "500": Script(status=500, error="oops"),
    "stall_before": Script(stall="before"),
    "stall_after": Script(stall="after"),
    "disconnect": Script(disconnect=2),
    "garbage": Script(garbage="html"),
}
"""Fault of the matrix -> what the vendor's next request meets."""

VENDOR_PATH = "/vendor"


def failing(vendor: HttpVendor, kind: str) -> Callable[[str], None]:
    """The `fail` of a Subject for requests of one kind."""

    def fail(fault: str) -> None:
        if fault == "refused":
            vendor.stop()
        else:
            vendor.script(kind, SCRIPTS[fault])

    return fail


@contextmanager
def http_subject(make: Callable[[str], Any], answer: Callable[[VendorRequest], VendorAnswer]) -> Iterator[Subject]:
    """The Subject of a provider made by `make(url)` for one endpoint that answers with `answer(request)`. The
    provider's deadlines must be short (0.3 s): silent vendors are part of the suite."""
    with HttpVendor(answer) as vendor:
        provider = make(vendor.url + VENDOR_PATH)
        yield Subject(provider, failing(vendor, VENDOR_PATH), vendor.wait_gone)
        provider.close()


@contextmanager
def local_subject(kind: str, block: Mapping[str, Any]) -> Iterator[Subject]:
    """The Subject of a provider that works by itself, in a pool of two threads."""
    pool = InferencePool(workers=2)
    provider = build(kind, "Subject", block, Services(inference=pool, config_dir=CONFIG))
    try:
        yield Subject(provider)
    finally:
        provider.close()
        pool.close()
