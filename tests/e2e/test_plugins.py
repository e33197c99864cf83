"""The server's own tools, from a question through the model's call and the service behind the tool to the spoken
answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import CHAT, Script, Stage, ask, open_stage, tool_call
from tests.vendors.web_services import (
    KEY,
    AddressService,
    HouseService,
    NewsService,
    QWeatherService,
    RagflowService,
    SearchService,
    WebService,
)

TOOLS = [
    "get_weather", "get_news_from_newsnow", "get_news_from_chinanews", "hass_state", "search_from_ragflow",
    "web_search", "get_lunar",
]  # fmt: skip


class Town:
    """All services."""

    def __init__(self, closing: ExitStack) -> None:
        self._closing = closing
        self.qweather = self._open(QWeatherService(keep_alive=False))
        self.addresses = self._open(AddressService(keep_alive=False))
        self.news = self._open(NewsService(keep_alive=False))
        self.search = self._open(SearchService(keep_alive=False))
        self.ragflow = self._open(RagflowService(keep_alive=False))
        self.house = self._open(HouseService(keep_alive=False))

    def _open(self, service: WebService) -> WebService:
        self._closing.enter_context(service)
        return service

    @property
    def plugins(self) -> dict[str, Any]:
        """The section of the configuration."""
        feed = f"{self.news.url}/rss.xml"
        return {
            "get_weather": {
                "api_host": self.qweather.url,
                "api_key": KEY,
                "ip_url": f"{self.addresses.url}/ipJson.jsp",
            },
            "get_news_from_newsnow": {"url": f"{self.news.url}/api/s?id="},
            "get_news_from_chinanews": {"default_rss_url": feed, "society_rss_url": feed},
            "home_assistant": {"base_url": self.house.url, "api_key": KEY, "devices": ["客厅,台灯,light.desk"]},
            "search_from_ragflow": {"base_url": self.ragflow.url, "api_key": KEY, "dataset_ids": ["a"]},
            "web_search": {"provider": "tavily", "api_key": KEY, "url": f"{self.search.url}/tavily"},
        }


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with ExitStack() as closing:
        yield Town(closing)


@pytest.fixture(scope="module")
def house_stage(town: Town, tmp_path_factory: pytest.TempPathFactory, sounds: Sounds) -> Iterator[Stage]:
    options = {"plugins": town.plugins, "Intent": {"function_call": {"functions": TOOLS}}}
    directory: Path = tmp_path_factory.mktemp("plugins")
    with open_stage(directory, sounds, options) as running:
        yield running


@pytest.fixture
def stage(house_stage: Stage) -> Iterator[Stage]:
    yield house_stage
    house_stage.close_devices()
    house_stage.reset()


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("get_weather", {"location": "杭州", "lang": "zh_CN"}, "多云 24°C"),
        ("get_weather", {"lang": "zh_CN"}, "浙江省 杭州"),
        ("get_news_from_newsnow", {"source": "百度热搜", "lang": "zh_CN"}, "baidu 新闻"),
        ("get_news_from_chinanews", {"category": "社会", "lang": "zh_CN"}, "要闻"),
        ("hass_get_state", {"entity_id": "light.desk"}, "on"),
        ("hass_set_state", {"entity_id": "light.desk", "state": {"type": "turn_off"}}, "Done"),
        ("search_from_ragflow", {"question": "rules"}, "chunk 0 of rules"),
        ("web_search", {"query": "is it so"}, "It is so."),
        ("get_lunar", {"date": "2026-02-17"}, "农历"),
    ],
)
def test_a_tool_from_the_question_to_the_spoken_answer(
    stage: Stage, name: str, arguments: Mapping[str, Any], told: str
) -> None:
    device = stage.device()
    stage.vendor.script(CHAT, Script(answer=[tool_call(name, **arguments)]), Script(answer="Here it is."))

    answer = ask(device, "tell me")

    assert [sentence.rstrip(".") for sentence in answer.sentences] == ["Here it is"]
    assert answer.frames
    last = stage.messages()[-1]
    assert last["role"] == "tool"
    assert told in last["content"]


def test_music_on_a_player_is_announced_without_asking_again(stage: Stage) -> None:
    device = stage.device()
    call = tool_call("hass_play_music", media_content_id="Imagine", entity_id="media_player.kitchen")
    stage.vendor.script(CHAT, Script(answer=[call]))

    answer = ask(device, "play Imagine in the kitchen")

    assert "Imagine" in answer.text
    assert len(stage.questions()) == 1


def test_the_prompt_knows_the_house_the_place_and_the_weather_at_the_first_question(stage: Stage, town: Town) -> None:
    """Nothing was known of this device before its hello."""
    device = stage.device(device_id="02:77:00:00:00:01")
    stage.vendor.script(CHAT, Script(answer="Yes."))

    ask(device, "is it warm")

    prompt = stage.messages()[0]["content"]
    for part in ("客厅,台灯,light.desk", "杭州市", "多云 24°C"):
        assert part in prompt
    assert [service.refusals for service in (town.qweather, town.house)] == [[], []]


def test_a_service_that_is_down_costs_its_own_answer(stage: Stage, town: Town) -> None:
    device = stage.device()
    town.search.script("/tavily", Script(status=500))
    stage.vendor.script(
        CHAT, Script(answer=[tool_call("web_search", query="x")]), Script(answer="I cannot look it up now.")
    )

    answer = ask(device, "look it up")

    assert "cannot look it up" in answer.text
    assert "not available" in stage.messages()[-1]["content"]
