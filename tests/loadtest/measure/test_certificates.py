"""The certificate of encrypted load tests: who trusts it, and scripted vendors and simulated devices that use it."""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Iterator

import pytest

from loadtest.measure.certificates import Certificate, certificate
from loadtest.vendors.openai_vendor import OpenAiVendor


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Certificate]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    monkeypatch.setenv("SSL_CERT_FILE", "")
    certificate.cache_clear()
    yield certificate()
    certificate.cache_clear()


def test_what_is_started_from_here_trusts_it(made: Certificate) -> None:
    assert certificate() is made
    assert os.environ["SSL_CERT_FILE"] == str(made.certfile)
    assert b"CERTIFICATE" in made.certfile.read_bytes() and b"PRIVATE KEY" in made.keyfile.read_bytes()


def test_a_vendor_is_asked_over_https(made: Certificate) -> None:
    with (
        OpenAiVendor(tls=(str(made.certfile), str(made.keyfile)), keep_alive=False) as vendor,
        urllib.request.urlopen(f"{vendor.url}/v1/models", timeout=10) as answer,  # type: ignore[attr-defined]
    ):
        assert vendor.url.startswith("https://")
        assert b"scripted" in answer.read()
