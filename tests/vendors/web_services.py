"""The services behind the server's own tools, on loopback ports: each refuses what the real one refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest

KEY = "service-key-1234"


def answered(value: Any, charset: str = "utf-8") -> VendorAnswer:
    """A JSON answer."""
    return VendorAnswer(json.dumps(value, ensure_ascii=False).encode(charset), f"application/json;charset={charset}")


class WebService(HttpVendor):
    """Scripted by path."""

    def kind(self, request: VendorRequest) -> str:
        return urlsplit(request.path).path

    def query(self, request: VendorRequest) -> dict[str, str]:
        """The parameters of the address."""
        return dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True, strict_parsing=True))

    def must(self, wanted: bool, status: int, message: str) -> None:
        """Refuse unless `wanted`."""
        if not wanted:
            raise VendorRefusal(status, message)

    def bearer(self, request: VendorRequest, status: int = 401) -> None:
        """Refuse a request without the key."""
        self.must(request.headers.get("authorization") == f"Bearer {KEY}", status, "bad token")

    def posted(self, request: VendorRequest) -> dict[str, Any]:
        """The JSON object of a POST."""
        self.must(request.method == "POST", 405, "POST only")
        self.must(request.headers.get("content-type", "").startswith("application/json"), 415, "JSON only")
        body = request.json()
        self.must(isinstance(body, dict), 400, "an object only")
        return dict(body)


class QWeatherService(WebService):
    """Knows 杭州 and London. Old accounts answer refusals with status 200 and a code, new ones with an `error`."""

    PLACES = {
        "杭州": {"name": "杭州", "id": "101210101", "adm1": "浙江省", "adm2": "杭州"},
        "london": {"name": "London", "id": "4BB45", "adm1": "England", "adm2": "Greater London"},
    }
    old = False

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if script.answer is not None:
            return answered(script.answer)
        query = self.query(request)
        if query.get("key") != KEY:
            return answered({"code": "401"}) if self.old else self._refused(401, "Unauthorized")
        path = self.kind(request)
        if path == "/geo/v2/city/lookup":
            found = self.PLACES.get(query["location"].lower().removesuffix("市"))
            if found is None:
                return answered({"code": "404"}) if self.old else self._refused(404, "No Such Location")
            return answered({"code": "200", "location": [found, {"name": "other", "id": "1"}]})
        self.must(query.get("location") in {place["id"] for place in self.PLACES.values()}, 400, "Invalid Location")
        if path == "/v7/weather/now":
            now = {"temp": "24", "feelsLike": "26", "text": "多云", "windDir": "东南风", "windScale": "1",
                   "humidity": "72", "precip": "0.0", "pressure": "1003", "vis": "16"}  # fmt: skip
            return answered({"code": "200", "now": now})
        self.must(path == "/v7/weather/7d", 404, "Not Found")
        days = [
            {"fxDate": f"2026-03-{day:02d}", "tempMin": str(day), "tempMax": str(day + 9), "textDay": "晴",
             "textNight": "晴" if day % 2 else "阴"}
            for day in range(1, 8)
        ]  # fmt: skip
        return answered({"code": "200", "daily": days})

    def _refused(self, status: int, title: str) -> VendorAnswer:
        body = {"error": {"status": status, "type": "https://dev.qweather.com/docs", "title": title, "detail": title}}
        return VendorAnswer(json.dumps(body).encode(), "application/problem+json", status)


class AddressService(WebService):
    """The place of an address, in GBK and behind empty lines, as the real one answers."""

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        query = self.query(request)
        self.must(self.kind(request) == "/ipJson.jsp" and query.get("json") == "true", 404, "not found")
        city = {"": "杭州市", "203.0.113.9": "", "8.8.8.8": "上海市"}.get(query.get("ip", ""), "")
        body = json.dumps({"ip": query.get("ip"), "pro": "", "city": city, "err": ""}, ensure_ascii=False)
        return VendorAnswer(f"\n\n{body}\n".encode("gbk"), "text/html; charset=GBK")


class NewsService(WebService):
    """NewsNow's lists, an RSS feed, and the pages they lead to."""

    ARTICLE = (
        "<html><head><meta charset='gbk'><title>大雨</title></head><body><nav><a href='/'>首页</a> 登录 注册</nav>"
        "<div class='content_desc'><h1>杭州大雨</h1>"
        "<p>昨日杭州普降大雨，气象台发布了黄色预警，提醒市民注意出行安全。</p>"
        "<p>截至今晨，道路已经恢复通行，供电正常，工人们正在清理积水。</p></div><footer>版权所有</footer></body></html>"
    )

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if script.answer is not None:
            return script.answer if isinstance(script.answer, VendorAnswer) else answered(script.answer)
        path = self.kind(request)
        if path == "/api/s":
            identity = self.query(request)["id"]
            self.must(re.fullmatch(r"[a-z0-9-]+", identity) is not None, 500, "Invalid source id")
            items = [{"id": str(n), "title": f"{identity} 新闻{n}", "url": f"{self.url}/page/{n}"} for n in range(3)]
            return answered({"status": "cache", "id": identity, "items": items})
        if path == "/rss.xml":
            items = "".join(
                f"<item><title>要闻{n}</title><link>{self.url}/page/{n}</link>"
                f"<description>&lt;p&gt;摘要{n}&lt;/p&gt;</description></item>"
                for n in range(2)
            )
            feed = f"<?xml version='1.0' encoding='utf-8'?><rss version='2.0'><channel>{items}</channel></rss>"
            return VendorAnswer(feed.encode(), "text/xml")
        self.must(path.startswith("/page/"), 404, "no such page")
        return VendorAnswer(self.ARTICLE.encode("gbk"), "text/html")


class SearchService(WebService):
    """Metaso and Tavily at one address."""

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if script.answer is not None:
            return answered(script.answer)
        body = self.posted(request)
        if self.kind(request) == "/metaso":
            if request.headers.get("authorization") != f"Bearer {KEY}":
                return answered({"errCode": 2002, "errMsg": "key is not valid"})
            known = {"q", "size", "stream", "scope", "includeSummary", "includeRawContent", "conciseSnippet"}
            self.must(set(body) <= known and body["scope"] == "webpage" and body["stream"] is False, 400, "parameters")
            page = {"title": "标题", "summary": "摘要", "date": "2026年03月01日", "link": "https://x.example"}
            return answered({"webpages": [page] * body["size"], "credits": 3})
        self.bearer(request)
        self.must(isinstance(body.get("query"), str) and len(body["query"]) <= 400, 400, "Query is too long")
        self.must(body.get("search_depth") in ("basic", "advanced"), 422, "search_depth")
        return answered({"query": body["query"], "answer": "It is so.", "results": [{"title": "t", "content": "c"}]})


class RagflowService(WebService):
    """RAGFlow: everything has status 200, also refusals."""

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if script.answer is not None:
            return answered(script.answer)
        self.must(self.kind(request) == "/api/v1/retrieval", 404, "Not Found")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return answered({"code": 109, "data": False, "message": "Authentication error: API key is invalid!"})
        body = self.posted(request)
        if not body.get("dataset_ids"):
            return answered({"code": 102, "message": "`dataset_ids` is required."})
        chunks = [{"content": f"chunk {n} of {body['question']}", "similarity": 0.9} for n in range(7)]
        return answered({"code": 0, "data": {"chunks": chunks, "total": 7}})


class HouseService(WebService):
    """Home Assistant with a lamp, a player, a cover and a vacuum cleaner."""

    SERVICES: Mapping[str, Mapping[str, set[str]]] = {
        "light": {
            "turn_on": {"entity_id", "brightness_pct", "brightness_step_pct", "rgb_color", "color_temp_kelvin"},
            "turn_off": {"entity_id"},
        },
        "media_player": {
            "turn_on": {"entity_id"},
            "turn_off": {"entity_id"},
            "volume_up": {"entity_id"},
            "volume_down": {"entity_id"},
            "volume_set": {"entity_id", "volume_level"},
            "volume_mute": {"entity_id", "is_volume_muted"},
            "media_pause": {"entity_id"},
            "media_play": {"entity_id"},
        },
        "cover": {name: {"entity_id"} for name in ("open_cover", "close_cover", "stop_cover")},
        "vacuum": {name: {"entity_id"} for name in ("start", "stop", "pause")},
        "music_assistant": {"play_media": {"entity_id", "media_id"}},
    }
    STATES: Mapping[str, Mapping[str, Any]] = {
        "light.desk": {"state": "on", "attributes": {"brightness": 128, "rgb_color": [255, 0, 0], "icon": "mdi:lamp"}},
        "media_player.kitchen": {"state": "playing", "attributes": {"media_title": "Imagine", "volume_level": 0.4}},
    }

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        self.bearer(request)
        steps = self.kind(request).strip("/").split("/")
        if steps[:2] == ["api", "states"]:
            state = self.STATES.get(steps[2])
            if state is None:
                raise VendorRefusal(404, "Entity not found.")
            return answered({"entity_id": steps[2], **state})
        self.must(steps[:2] == ["api", "services"] and len(steps) == 4, 404, "Not Found")
        fields = self.SERVICES.get(steps[2], {}).get(steps[3])
        if fields is None:
            raise VendorRefusal(400, f"Service {steps[2]}.{steps[3]} not found.")
        body = self.posted(request)
        self.must(set(body) <= fields, 400, f"extra keys not allowed: {sorted(set(body) - fields)}")
        if "volume_level" in body:
            self.must(0 <= body["volume_level"] <= 1, 400, "volume_level must be 0..1")
        return answered([])
