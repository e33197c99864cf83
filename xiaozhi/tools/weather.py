"""The weather of a place, from QWeather, and the place of an internet address.

Source: dev.qweather.com/docs/api (GeoAPI city lookup, weather now, daily forecast); whois.pconline.com.cn for the
addresses of China's networks. Both are asked seldom: what they said is kept."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from cachetools import TTLCache

from xiaozhi.errors import ToolError, VendorError, VendorGarbage, VendorRejected
from xiaozhi.tools.base import ToolServices

DAYS: Final = 7
REPORT_S: Final = 1_800.0
"""How long a report is good for."""
PLACE_S: Final = 86_400.0
"""How long the place of an address, or the id of a place, is good for."""
KEPT: Final = 500
"""Places and addresses."""

# QWeather's own codes; what it does not know is asked for in English.
_LANGUAGES: Final = frozenset(
    {
        "zh", "en", "de", "es", "fr", "it", "ja", "ko", "ru", "hi", "th", "ar", "pt", "bn", "ms", "nl", "el", "la",
        "sv", "id", "pl", "tr", "cs", "et", "vi", "fil", "fi", "he", "is", "nb",
    }
)  # fmt: skip
_NOW: Final[Mapping[str, tuple[str, str]]] = {
    "feelsLike": ("体感温度 feels like", "°C"),
    "windDir": ("风向 wind", ""),
    "windScale": ("风力 wind scale", ""),
    "humidity": ("湿度 humidity", "%"),
    "precip": ("降水 rain", " mm"),
    "pressure": ("气压 pressure", " hPa"),
    "vis": ("能见度 visibility", " km"),
}
_OK: Final = "200"
_UNKNOWN_PLACE: Final = "404"


@dataclass(frozen=True, slots=True)
class Report:
    """The weather of one place."""

    place: str
    now: str
    """In a few words: "多云 24°C"."""
    details: str
    days: str
    """One line a day."""

    @property
    def text(self) -> str:
        """All of it, for a language model."""
        return f"地点 place: {self.place}\n现在 now: {self.now}; {self.details}\n未来{DAYS}天 next days:\n{self.days}"

    @property
    def brief(self) -> str:
        """Today and tomorrow, for the system prompt."""
        return "; ".join([self.now, *self.days.splitlines()[:2]])


class QWeather:
    """One account. `host`: without scheme, or with one. Blocking."""

    def __init__(self, host: str, key: str, services: ToolServices) -> None:
        self._base = host.rstrip("/") if "://" in host else f"https://{host.rstrip('/')}"
        self._key = key
        self._http = services.http("qweather", connect=3.0, read=5.0, total=5.0, secrets=[key])
        self._places: TTLCache[tuple[str, str], tuple[str, str]] = TTLCache(KEPT, PLACE_S)
        self._reports: TTLCache[tuple[str, str], Report] = TTLCache(KEPT, REPORT_S)

    def report(self, location: str, language: str = "zh") -> Report:
        """The weather of a place, in a language (BCP 47, or as in zh_CN). Raises VendorError; ToolError when there is
        no such place."""
        asked = location, code_of(language)
        known = self._reports.get(asked)
        if known is None:
            known = self._reports[asked] = self._report(*asked)
        return known

    def _report(self, location: str, language: str) -> Report:
        place, identity = self._place(location, language)
        now = self._ask("/v7/weather/now", location=identity, lang=language).get("now")
        days = self._ask(f"/v7/weather/{DAYS}d", location=identity, lang=language).get("daily")
        if not isinstance(now, Mapping) or not isinstance(days, list):
            raise VendorGarbage("qweather", "no weather in the answer")
        return Report(
            place,
            f"{now.get('text', '')} {now.get('temp', '')}°C".strip(),
            ", ".join(
                f"{words} {now[key]}{unit}"
                for key, (words, unit) in _NOW.items()
                if str(now.get(key, "")).strip("0.") not in ("",) or key == "feelsLike"
            ),
            "\n".join(_day(day) for day in days[:DAYS] if isinstance(day, Mapping)),
        )

    def _place(self, location: str, language: str) -> tuple[str, str]:
        """Name and id of a place."""
        known = self._places.get((location, language))
        if known is not None:
            return known
        answer = self._ask("/geo/v2/city/lookup", location=location, lang=language)
        found = answer.get("location")
        if not isinstance(found, list) or not found or not isinstance(found[0], Mapping):
            raise ToolError(f"No place is called '{location[:60]}'; ask where it is. 未找到相关的城市，请确认地点。")
        first = found[0]
        names = dict.fromkeys(str(first[key]) for key in ("adm1", "adm2", "name") if first.get(key))
        known = self._places[location, language] = " ".join(names), str(first.get("id", ""))
        return known

    def _ask(self, path: str, **query: str) -> Mapping[str, Any]:
        url = f"{self._base}{path}?{urlencode({**query, 'key': self._key})}"
        try:
            answer = self._http.json("GET", url)
        except VendorRejected as error:
            if "404" in str(error) and "No Such Location" in error.details:
                return {}
            raise
        if not isinstance(answer, Mapping):
            raise VendorGarbage("qweather", "not an object")
        refusal = answer.get("error")
        if isinstance(refusal, Mapping):
            raise VendorRejected("qweather", f"{refusal.get('status', '')} {refusal.get('detail', '')}"[:200])
        code = str(answer.get("code", ""))
        if code == _UNKNOWN_PLACE:
            return {}
        if code != _OK:
            raise VendorRejected("qweather", f"code {code or 'missing'}")
        return answer


def _day(day: Mapping[str, Any]) -> str:
    by_day, by_night = day.get("textDay", ""), day.get("textNight", "")
    sky = by_day if by_day == by_night or not by_night else f"{by_day}/{by_night}"
    return f"{day.get('fxDate', '')}: {sky}, {day.get('tempMin', '')}~{day.get('tempMax', '')}°C"


def code_of(language: str) -> str:
    """QWeather's code for a language."""
    tag = language.replace("_", "-").lower()
    first, _, rest = tag.partition("-")
    if first in ("zh", "yue", ""):
        return "zh-hant" if any(part in rest for part in ("hant", "tw", "hk", "mo")) or first == "yue" else "zh"
    return first if first in _LANGUAGES else "en"


class AddressPlaces:
    """The city of an internet address, as far as China's networks are concerned. Blocking; never raises: "" where none
    is found. `url`: where to ask; "" asks nobody."""

    def __init__(self, services: ToolServices, url: str) -> None:
        self._url = url
        self._http = services.http("ip-location", connect=2.0, read=3.0, total=3.0)
        self._known: TTLCache[str, str] = TTLCache(KEPT, PLACE_S)

    def city(self, address: str) -> str:
        """The city. For a device in the same private network, or without an address: this server's own."""
        if not self._url:
            return ""
        asked = public(address)
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = self._ask(asked)
        return known

    def _ask(self, address: str) -> str:
        try:
            body = self._http.read("GET", f"{self._url}?{urlencode({'json': 'true', 'ip': address})}", limit=65_536)
            found = orjson.loads(_decoded(body).strip())
        except (VendorError, ValueError):
            return ""
        city = found.get("city") or found.get("pro") if isinstance(found, Mapping) else ""
        return str(city or "").strip()


def public(address: str) -> str:
    """An address that has a place; "" for private ones and for what is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(found) if found.is_global else ""


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("gb18030", "replace")
