"""A vendor's error names block, setting, remedy and address, under one name from the provider to the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer
from tests.vendors.ws_vendor import WsVendor
from xiaozhi.chat import CallContext, Message
from xiaozhi.errors import (
    CircuitOpen,
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.pool import LeasedProviders, ProviderPool
from xiaozhi.providers.remedies import remedies_of
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.resilience import CallReport
from xiaozhi.settings import Loaded, load

BLOCK = {"type": "openai", "url": "http://h/v1", "model": "m", "api_key": "s3cret-key"}
ME = CallContext(device_id="d")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (VendorRejected("h", "HTTP 401 no", status=401), "401, the key in api_key was refused"),
        (VendorRejected("h", "HTTP 403 no", status=403), "403, the key in api_key was refused"),
        (VendorRejected("h", "Incorrect API key provided"), "the key in api_key was refused"),
        (VendorRejected("h", "鉴权失败"), "the key in api_key was refused"),
        (VendorRejected("h", "HTTP 402", status=402), "the account is empty"),
        (VendorRejected("h", "HTTP 429 insufficient_quota", status=429), "the account is empty"),
        (VendorRejected("h", "HTTP 403 AccountOverdueError", status=403), "the account is empty"),
        (VendorRejected("h", "HTTP 404 ModelNotOpen", status=404), "model has to be activated in the vendor's console"),
        (VendorRejected("h", "HTTP 400 User location is not supported", status=400), "does not serve the country"),
        (VendorRejected("h", "HTTP 404", status=404), "no such address or model: see url and model"),
        (VendorRejected("h", "HTTP 400 model m does not exist", status=400), "see url and model"),
        (VendorRejected("h", "HTTP 400 bad", status=400), "400, the request was refused"),
        (VendorBusy("h", "HTTP 429", status=429), "429, too many requests: lower max_concurrent"),
        (VendorTimeout("h", "no answer within 3 s"), "too slow, or not reachable"),
        (VendorUnavailable("h", "HTTP 503", status=503), "503, the vendor has a failure of its own"),
        (VendorUnavailable("h", "Connection refused"), "nothing answers there: see url"),
        (VendorUnavailable("h", "Name or service not known"), "its host is not known: see url"),
        (VendorUnavailable("h", "TLS failed: certificate verify failed"), "no secure connection: see url"),
        (VendorUnavailable("h", "answer broke off"), "it cannot be reached, or broke off"),
        (VendorGarbage("h", "not JSON"), "is url the address of this kind of service?"),
        (CircuitOpen("LLM.Other", "not asked again for 3 s"), "it has failed too often"),
    ],
)
def test_the_remedy_is_in_the_error(error: VendorError, words: str) -> None:
    error.asked_at = "http://h/v1/chat/completions"

    remedies_of("llm", "Mine", BLOCK).explain(error)

    said = str(error)
    assert error.vendor == "LLM.Mine"
    assert said.startswith("LLM.Mine: ")
    assert words in said.partition("; it was asked at http://h/v1/chat/completions")[0]
    assert "s3cret" not in said


def test_a_key_that_is_missing_is_asked_for() -> None:
    error = VendorRejected("h", "HTTP 401", status=401)
    remedies_of("llm", "Mine", {**BLOCK, "api_key": ""}).explain(error)

    assert str(error) == "LLM.Mine: 401, a key is wanted: set api_key (HTTP 401)"


def test_the_block_that_failed_is_named_not_the_one_that_asked_it() -> None:
    error = VendorTimeout("h", "slow")
    remedies_of("llm", "Small", BLOCK).explain(error)
    remedies_of("intent", "Decider", {"type": "intent_llm"}).explain(error)

    assert error.vendor == "LLM.Small"


class Site:
    """A server's providers, at one vendor."""

    def __init__(self, url: str, ws_url: str = "ws://127.0.0.1:9") -> None:
        self.reports: list[CallReport] = []
        self.pool = ProviderPool(InferencePool(1), self.reports.append)
        host, _, port = ws_url.removeprefix("ws://").partition(":")
        block = {**BLOCK, "url": f"{url}/v1?tenant=s3cret"}
        ears = {"type": "fun_server", "host": host, "port": int(port), "is_ssl": False, "api_key": "s3cret-key"}
        everything: Any = {
            "selected_module": {"LLM": "Mine", "ASR": "Ears"},
            "LLM": {"Mine": block},
            "ASR": {"Ears": ears},
        }
        self.loaded: Loaded = load(environ={}, overrides=everything)
        self.leased = LeasedProviders(self.pool, self.loaded)


@pytest.fixture
def vendor() -> Iterator[HttpVendor]:
    with HttpVendor(lambda request: VendorAnswer(b"{}", "application/json")) as opened:
        yield opened


def test_a_refused_key_over_http(vendor: HttpVendor) -> None:
    vendor.script("/v1/chat/completions?tenant=s3cret", Script(status=401, error="Incorrect API key: s3cret-key"))
    site = Site(vendor.url)

    with pytest.raises(VendorRejected) as caught:
        list(site.leased.selected("llm").chat([Message("user", "Hi")], [], ME))
    site.leased.release()
    site.pool.close()

    said = str(caught.value)
    address = f"{vendor.url}/v1/chat/completions"
    assert said.startswith(f"LLM.Mine: 401, the key in api_key was refused; it was asked at {address} (")
    assert "s3cret" not in said
    assert [(report.vendor, report.outcome) for report in site.reports] == [(caught.value.vendor, "rejected")]


def test_a_refused_upgrade_of_a_websocket() -> None:
    class Refusing(WsVendor):
        def converse(self, peer: Any) -> None:
            del peer

    with Refusing() as vendor:
        vendor.reject += [401] * 4
        site = Site("http://127.0.0.1:9", vendor.url)
        with pytest.raises(VendorRejected) as caught:
            ears = site.leased.selected("asr").open(ME)
            ears.feed(bytes(32_000))
            ears.finish()
        site.leased.release()
        site.pool.close()

    assert str(caught.value).startswith("ASR.Ears: 401, the key in api_key was refused; it was asked at ws://127.0.0.1")
    assert caught.value.vendor == site.reports[-1].vendor == "ASR.Ears"
