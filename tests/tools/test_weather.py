"""The weather, through QWeather and the place of an address as their services answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.vendors.http_vendor import Script
from tests.tools.fakes import call, context
from tests.vendors.web_services import KEY, AddressService, QWeatherService
from xiaozhi.net.http import VendorHttp
from xiaozhi.tools.base import Action, ToolServices
from xiaozhi.tools.plugins.get_weather import Weather
from xiaozhi.tools.registry import Plugins, select
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.tools.weather import QWeather, code_of, public

Build = Callable[..., Plugins]
NOW = "/v7/weather/now"
LOOK_UP = "/geo/v2/city/lookup"


@pytest.fixture
def service() -> Iterator[QWeatherService]:
    with QWeatherService() as running:
        yield running  # type: ignore[misc]


@pytest.fixture
def addresses() -> Iterator[AddressService]:
    with AddressService() as running:
        yield running  # type: ignore[misc]


@pytest.fixture
def build(service: QWeatherService, addresses: AddressService, services: ToolServices) -> Callable[..., Plugins]:
    def built(**options: Any) -> Plugins:
        block = {"api_host": service.url, "api_key": KEY, "ip_url": f"{addresses.url}/ipJson.jsp", **options}
        return select(["get_weather"], {"get_weather": block}).build(services)

    return built


def ask(plugins: Plugins, client_ip: str = "", **arguments: Any) -> Any:
    return Toolbox(plugins.source).call(call("get_weather", **arguments), context(client_ip=client_ip))


def test_a_place_is_looked_up_and_its_weather_told(
    build: Build, service: QWeatherService, addresses: AddressService
) -> None:
    outcome = ask(build(), location="杭州", lang="zh_CN")

    assert outcome.action is Action.ASK_LLM
    for part in (
        "浙江省 杭州",
        "多云 24°C",
        "26°C",
        "东南风",
        "72%",
        "2026-03-01: 晴, 1~10°C",
        "2026-03-02: 晴/阴",
        "2026-03-07",
    ):
        assert part in outcome.text
    assert "降水" not in outcome.text, "nothing is said of what is zero"
    assert service.refusals == []
    assert not addresses.requests


@pytest.mark.parametrize(
    ("client_ip", "asked", "city"),
    [
        ("8.8.8.8", "8.8.8.8", "上海市"),
        ("192.168.1.5", "", "杭州市"),
        ("", "", "杭州市"),
        ("203.0.113.9", "", "杭州市"),
    ],
)
def test_without_a_place_it_is_where_the_device_is(
    build: Build, service: QWeatherService, addresses: AddressService, client_ip: str, asked: str, city: str
) -> None:
    service.stand(LOOK_UP, Script(answer={"code": "200", "location": [{"name": city, "id": "101210101"}]}))

    outcome = ask(build(), client_ip)

    assert city in outcome.text
    assert [addresses.query(request)["ip"] for request in addresses.requests] == [asked]


def test_where_nobody_knows_the_place_the_configured_one_is_meant(build: Build, addresses: AddressService) -> None:
    addresses.stand("/ipJson.jsp", Script(status=500))

    assert "England" in ask(build(default_location="London")).text


@pytest.mark.parametrize("old", [True, False])
def test_an_unknown_place_is_asked_about(build: Build, service: QWeatherService, old: bool) -> None:
    service.old = old

    outcome = ask(build(), location="Atlantis")

    assert outcome.action is Action.ERROR
    assert "Atlantis" in outcome.text


@pytest.mark.parametrize("old", [True, False])
def test_a_refused_key_is_told_without_the_key(build: Build, service: QWeatherService, old: bool) -> None:
    service.old = old

    with capture_logs() as logged:
        outcome = ask(build(api_key="wrong-key-9876"), location="杭州")

    assert outcome.action is Action.ERROR
    assert "401" in str(logged)
    assert "wrong-key" not in outcome.text + str(logged)


@pytest.mark.parametrize(
    "script", [Script(garbage="html"), Script(garbage="json"), Script(status=503), Script(answer=[])]
)
def test_a_service_that_fails_is_told(build: Build, service: QWeatherService, script: Script) -> None:
    service.stand(NOW, script)

    assert ask(build(), location="杭州").action is Action.ERROR


def test_a_report_is_kept_for_a_while(build: Build, service: QWeatherService, addresses: AddressService) -> None:
    plugins = build()
    for _ in range(3):
        ask(plugins, location="杭州")

    assert service.counts == {LOOK_UP: 1, NOW: 1, "/v7/weather/7d": 1}


def test_without_a_key_the_model_is_told_what_is_missing(services: ToolServices) -> None:
    chosen = select(["get_weather"], {"get_weather": {}})
    plugins = chosen.build(services)

    assert [warning for warning in chosen.warnings if "get_weather cannot work" in warning]
    assert "api_key" in ask(plugins).text
    weather = plugins.owner(Weather)
    assert weather is not None
    assert not weather.works


def test_what_the_prompt_is_told_of_the_place(
    build: Build, service: QWeatherService, addresses: AddressService
) -> None:
    service.stand(LOOK_UP, Script(answer={"code": "200", "location": [{"name": "x", "id": "101210101"}]}))
    weather = build().owner(Weather)
    assert weather is not None

    assert weather.surroundings("8.8.8.8") == ("上海市", "多云 24°C; 2026-03-01: 晴, 1~10°C; 2026-03-02: 晴/阴, 2~11°C")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("zh_CN", "zh"),
        ("zh-TW", "zh-hant"),
        ("zh_HK", "zh-hant"),
        ("", "zh"),
        ("en_US", "en"),
        ("pt-BR", "pt"),
        ("sw", "en"),
    ],
)
def test_languages(language: str, code: str) -> None:
    assert code_of(language) == code


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("10.0.0.1", ""),
        ("fe80::1%eth0", ""),
        ("::1", ""),
        ("nonsense", ""),
    ],
)
def test_only_public_addresses_have_a_place(address: str, shown: str) -> None:
    assert public(address) == shown


def test_a_host_may_stand_without_its_scheme() -> None:
    seen: list[str] = []

    class Noted(VendorHttp):
        def json(self, method: str, url: str, **more: Any) -> Any:
            seen.append(url)
            return {"code": "404"}

    with pytest.raises(Exception, match="Nowhere"):
        QWeather("abc.qweatherapi.com", KEY, ToolServices(http=Noted)).report("Nowhere")
    assert seen[0].startswith("https://abc.qweatherapi.com/geo/v2/city/lookup?location=Nowhere&lang=zh&key=")


def test_a_place_is_told_to_the_prompt_without_its_weather(build: Build, service: QWeatherService) -> None:
    service.stand(NOW, Script(status=500))
    weather = build().owner(Weather)
    assert weather is not None

    assert weather.surroundings("") == ("杭州市", "")
