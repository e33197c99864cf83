"""Assistants that are made on a platform keep the contract of language models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import gevent
import pytest

from loadtest.vendors.http_vendor import HttpVendor
from tests.contract.loopback import failing
from tests.contract.suites import CONTEXT, LlmContract, Subject
from tests.fakes.inference import InlineInference
from tests.vendors import bailian_vendor, coze_vendor, dify_vendor, fastgpt_vendor, hass_agent
from tests.waiting import PATIENCE_S
from xiaozhi.errors import VendorTimeout
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.registry import build

DEADLINES = {"connect": 1, "first_byte": 0.3, "gap": 0.3, "total": 5}


@contextmanager
def agent_subject(vendor: HttpVendor, ask: str, block: Callable[[str], dict[str, Any]]) -> Iterator[Subject]:
    """The provider of the block for the vendor's address, which is asked by requests of the kind `ask`."""
    with vendor:
        services = Services(inference=InlineInference())  # type: ignore[arg-type]
        provider = build("llm", "Subject", {"timeout": DEADLINES, **block(vendor.url)}, services)
        yield Subject(provider, failing(vendor, ask), vendor.wait_gone, lambda: vendor.active)
        provider.close()
        assert vendor.refusals == []


class TestDifyChat(LlmContract):
    type_name = "dify"
    mode: ClassVar[str] = "chat-messages"

    def subject(self) -> Any:
        return agent_subject(
            dify_vendor.DifyVendor(),
            dify_vendor.ASK,
            lambda url: {
                "type": "dify",
                "base_url": f"{url}/v1",
                "api_key": dify_vendor.KEY,
                "mode": self.mode,
            },
        )


class TestDifyWorkflow(TestDifyChat):
    mode = "workflows/run"


class TestDifyCompletion(TestDifyChat):
    mode = "completion-messages"


class TestCoze(LlmContract):
    type_name = "coze"

    def subject(self) -> Any:
        # Several questions of one session at once, which the suite asks, are prevented by the guard.
        return agent_subject(
            coze_vendor.CozeVendor(one_at_a_time=False),
            coze_vendor.ASK,
            lambda url: {
                "type": "coze",
                "base_url": url,
                "personal_access_token": coze_vendor.TOKEN,
                "bot_id": coze_vendor.BOT,
                "user_id": coze_vendor.USER,
            },
        )


class TestFastGpt(LlmContract):
    type_name = "fastgpt"
    detail: ClassVar[bool] = False

    def subject(self) -> Any:
        return agent_subject(
            fastgpt_vendor.FastGptVendor(),
            fastgpt_vendor.CHAT,
            lambda url: {
                "type": "fastgpt",
                "base_url": f"{url}/api/v1",
                "api_key": fastgpt_vendor.KEY,
                "detail": self.detail,
            },
        )


class TestFastGptInDetail(TestFastGpt):
    detail = True


class TestBailian(LlmContract):
    type_name = "AliBL"

    def subject(self) -> Any:
        return agent_subject(
            bailian_vendor.BailianVendor(),
            bailian_vendor.PATH,
            lambda url: {
                "type": "AliBL",
                "base_url": f"{url}/compatible-mode/v1",
                "api_key": bailian_vendor.KEY,
                "app_id": bailian_vendor.APP,
            },
        )


class TestHomeAssistant(LlmContract):
    type_name = "homeassistant"

    def subject(self) -> Any:
        return agent_subject(
            hass_agent.HassAgent(),
            hass_agent.PATH,
            lambda url: {
                "type": "homeassistant",
                "base_url": url,
                "api_key": hass_agent.TOKEN,
                "agent_id": "conversation.chatgpt",
            },
        )

    def test_leaving_the_answer_frees_the_vendor(self, it: Subject) -> None:
        """It comes in one piece, so that there is nothing to leave before the whole of it."""
        assert it.fail is not None
        it.fail("stall_after")
        with pytest.raises(VendorTimeout), gevent.Timeout(PATIENCE_S):
            next(it.provider.chat(self.messages(), [], CONTEXT))
        assert self.use(it.provider)
