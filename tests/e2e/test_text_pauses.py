"""Voices that take text while they speak give up when none comes for a while. An answer that says something, calls a
tool for longer than that, and goes on is heard from its beginning to its end all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Script, a_tool, ask, open_stage, tool_call
from tests.vendors.aliyun_nls_vendor import APPKEY, SECRET, NlsGateway
from tests.vendors.dashscope_vendor import DashscopeVendor
from tests.vendors.volcengine_vendor import VolcengineVendor
from tests.vendors.xunfei_vendor import TTS, XunfeiVendor
from xiaozhi.tools.base import Action, ToolContext, ToolOutcome

PATIENCE_S = 0.7
TOOL_S = 1.5

Voice = tuple[Any, dict[str, Any]]


def slowly(arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
    """Takes longer than the vendor waits for text."""
    gevent.sleep(TOOL_S)  # sleep: the tool is slow
    return ToolOutcome(Action.ASK_LLM, "found")


@contextmanager
def _aliyun() -> Iterator[Voice]:
    with NlsGateway() as vendor:
        yield vendor, {"type": "aliyun_stream", "appkey": APPKEY, "token": SECRET, "host": vendor.url}


@contextmanager
def _dashscope() -> Iterator[Voice]:
    with DashscopeVendor() as vendor:
        yield vendor, {"type": "alibl_stream", "ws_url": vendor.ws_url, "api_key": vendor.key}


@contextmanager
def _volcengine() -> Iterator[Voice]:
    with VolcengineVendor(access_key="secret-key") as vendor:
        account = {"appid": "app", "access_token": "secret-key", "speaker": "zh_female_wanwanxiaohe_moon_bigtts"}
        yield vendor, {"type": "huoshan_double_stream", "ws_url": vendor.ws_url, **account}


@contextmanager
def _xunfei() -> Iterator[Voice]:
    with XunfeiVendor() as vendor:
        keys = {"app_id": vendor.app, "api_key": vendor.key, "api_secret": vendor.secret}
        yield vendor, {"type": "xunfei_stream", "api_url": vendor.url + TTS, **keys}


@pytest.mark.parametrize("opened", [_aliyun, _dashscope, _volcengine, _xunfei])
def test_a_tool_that_takes_longer_than_the_vendor_waits_for_text(
    opened: Callable[[], Any], tmp_path: Path, sounds: Sounds
) -> None:
    with opened() as (vendor, block):
        vendor.patience_s = PATIENCE_S
        settings = {
            "selected_module": {"TTS": "Voice"},
            "TTS": {"Voice": {**block, "text_pause": PATIENCE_S / 2, "timeout": 2.0}},
        }
        with open_stage(tmp_path, sounds, settings) as stage, stage.tools(a_tool("look", slowly)):
            stage.vendor.script(CHAT, Script(answer=["One moment.", tool_call("look")]), Script(answer="Here it is."))

            answer = ask(stage.device(), "where is it")

            stage.close_devices()
        assert answer.sentences == ["One moment", "Here it is"]
        assert answer.arrivals[0] < answer.arrivals[-1] - TOOL_S / 2, "the first one is heard while the tool is at work"
        assert vendor.faults == []
