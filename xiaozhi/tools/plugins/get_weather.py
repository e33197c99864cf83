"""The weather where the user is, or anywhere else."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from xiaozhi.errors import ToolError, VendorError
from xiaozhi.runtime.logs import get_logger
from xiaozhi.settings.fields import HttpUrl
from xiaozhi.tools.base import ToolContext, ToolOptions, ToolServices
from xiaozhi.tools.registry import tool
from xiaozhi.tools.weather import AddressPlaces, QWeather

log = get_logger(__name__)


class WeatherOptions(ToolOptions):
    """`plugins.get_weather`."""

    api_host: str = Field("devapi.qweather.com", min_length=1, description="Host of the account; see its settings.")
    api_key: SecretStr = Field(SecretStr(""), description="Key of an account at QWeather.")
    default_location: str = Field("广州", description="Where devices are whose place is not known.")
    ip_url: HttpUrl = Field(
        "https://whois.pconline.com.cn/ipJson.jsp",
        description="Who is asked where an internet address is; empty: nobody, all are at default_location.",
    )

    def missing(self) -> str:
        if self.api_key.get_secret_value():
            return ""
        return "api_key: is empty; dev.qweather.com gives one for nothing"


class Weather:
    """Knows the account, and where devices are."""

    def __init__(self, options: WeatherOptions, services: ToolServices) -> None:
        self._options = options
        self._places = AddressPlaces(services, options.ip_url)
        self._qweather = QWeather(options.api_host, options.api_key.get_secret_value(), services)

    @property
    def works(self) -> bool:
        """Whether there is an account."""
        return not self._options.missing()

    def surroundings(self, address: str) -> tuple[str, str]:
        """Where a device is, and the weather there, "" when that is not known. Blocking; never raises."""
        place = self._places.city(address) or self._options.default_location
        try:
            return place, self._qweather.report(place).brief
        except (ToolError, VendorError) as error:
            log.warning("no weather for the prompt", error=str(error)[:200])
            return place, ""

    @tool("get_weather", WeatherOptions, timeout=15.0)
    def get_weather(
        self,
        context: ToolContext,
        location: Annotated[
            str, Field(description="The place, such as 杭州; empty for where the user is. 地点，不指定则为用户所在地。")
        ] = "",
        lang: Annotated[
            str, Field(description="Language of the user, such as zh_CN, zh_HK, en_US, ja_JP. 用户使用的语言。")
        ] = "",
    ) -> str:
        """Tells the weather of a place: now and the next seven days. Without a place it is that of where the user is.
        查询某个地点现在和未来七天的天气；用户没有指定地点时查询所在地。"""
        if missing := self._options.missing():
            raise ToolError(f"The weather is not set up on this server ({missing}). 服务器没有配置天气。")
        place = location.strip() or self._places.city(context.client_ip) or self._options.default_location
        report = self._qweather.report(place, lang or context.language)
        return f"{report.text}\nAnswer what was asked, in a sentence or two. 用一两句话回答用户的问题。"
