"""All memories keep their contract."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.contract.loopback import failing
from tests.contract.suites import MemoryContract, Subject
from tests.databases import opened
from tests.fakes.inference import InlineInference
from tests.fakes.thinking import FakeLlm
from tests.vendors.memory_services import ANY, KEY, Mem0Platform, Mem0Server, MemoryService, PowerMemServer
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

DEADLINES = {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5}


@contextmanager
def service_subject(service: MemoryService, where: str, block: dict[str, Any]) -> Iterator[Subject]:
    """A provider of `block` whose address under the key `where` is the service's."""
    with service as vendor:
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        full = {"api_key": KEY, "timeout": DEADLINES, where: vendor.url, **block}
        provider = build("memory", "Subject", full, services)
        yield Subject(provider, failing(vendor, ANY), vendor.wait_gone, lambda: vendor.active)
        provider.close()
        assert vendor.refusals == []


@contextmanager
def local_memory(block: dict[str, Any]) -> Iterator[Subject]:
    """A provider that keeps what it keeps in this server's database."""
    model = FakeLlm(*["The user's cat is called Tofu."] * 5)
    with tempfile.TemporaryDirectory() as directory, opened(Path(directory)) as database:
        services = Services(
            inference=InlineInference(),  # type: ignore[arg-type]
            database=database,
            provider=lambda kind, name: model,
        )
        provider = build("memory", "Subject", block, services)
        yield Subject(provider)
        provider.close()


class TestMem0Platform(MemoryContract):
    type_name = "mem0ai"
    service: ClassVar[Callable[[], MemoryService]] = Mem0Platform
    where: ClassVar[str] = "host"
    block: ClassVar[dict[str, Any]] = {}

    def subject(self) -> Any:
        return service_subject(type(self).service(), self.where, {"type": self.type_name, **self.block})


class TestMem0Server(TestMem0Platform):
    service = Mem0Server
    where = "base_url"


class TestOldMem0Server(TestMem0Server):
    service = staticmethod(lambda: Mem0Server(old=True))


class TestPowerMem(TestMem0Platform):
    type_name = "powermem"
    service = PowerMemServer
    where = "base_url"


class TestPowerMemWithProfiles(TestPowerMem):
    block: ClassVar[dict[str, Any]] = {"enable_user_profile": True}


class TestLocalShortMemory(MemoryContract):
    type_name = "mem_local_short"
    vendor = False

    def subject(self) -> Any:
        return local_memory({"type": self.type_name})


class TestNoMemory(TestLocalShortMemory):
    type_name = "nomem"


class TestReportOnly(TestLocalShortMemory):
    type_name = "mem_report_only"
