"""News: the headlines of NewsNow, a service that collects the lists of many sites, and of RSS feeds. One headline at a
time; what it is about is read from its page when the user asks for more.

Source: the pages of github.com/ourongxing/newsnow; RSS 2.0 (rssboard.org/rss-specification)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit

import fastfeedparser
from cachetools import TTLCache
from pydantic import Field
from rapidfuzz import fuzz, process

from xiaozhi.errors import ToolError, VendorGarbage
from xiaozhi.settings.fields import HttpUrl
from xiaozhi.tools.base import ToolContext, ToolOptions, ToolServices
from xiaozhi.tools.pages import Pages, readable
from xiaozhi.tools.registry import tool

MAX_SESSIONS: Final = 1_000
KEPT_S: Final = 1_800.0
"""How long a headline can be asked about."""
MAX_TITLE_CHARS: Final = 300
MAX_TOLD: Final = 50
"""Headlines of a session that are not told again."""
FEED_S: Final = 300.0
"""How long a feed is good for."""
_LIKENESS: Final = 75

SITES: Final[Mapping[str, str]] = {
    "澎湃新闻": "thepaper",
    "百度热搜": "baidu",
    "财联社": "cls-depth",
    "知乎": "zhihu",
    "微博": "weibo",
    "抖音": "douyin",
    "今日头条": "toutiao",
    "IT之家": "ithome",
    "36氪": "36kr-quick",
    "华尔街见闻": "wallstreetcn-quick",
    "哔哩哔哩": "bilibili-hot-search",
    "虎扑": "hupu",
    "百度贴吧": "tieba",
    "参考消息": "cankaoxiaoxi",
    "联合早报": "zaobao",
    "卫星通讯社": "sputniknewscn",
    "雪球": "xueqiu-hotstock",
    "格隆汇": "gelonghui",
    "法布财经": "fastbull-express",
    "金十数据": "jin10",
    "MKTNews": "mktnews-flash",
    "快手": "kuaishou",
    "靠谱新闻": "kaopu",
    "凤凰网": "ifeng",
    "虫部落": "chongbuluo-latest",
    "牛客": "nowcoder",
    "少数派": "sspai",
    "稀土掘金": "juejin",
    "酷安": "coolapk",
    "远景论坛": "pcbeta-windows11",
    "V2EX": "v2ex-share",
    "Solidot": "solidot",
    "Hacker News": "hackernews",
    "Product Hunt": "producthunt",
    "Github": "github-trending-today",
}
"""Names of NewsNow's lists, and their ids."""

_CATEGORIES: Final[Mapping[str, str]] = {
    "社会": "society",
    "society": "society",
    "国际": "world",
    "世界": "world",
    "world": "world",
    "international": "world",
    "财经": "finance",
    "金融": "finance",
    "经济": "finance",
    "finance": "finance",
    "economy": "finance",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """One piece of news. `summary`: "" where a list has none."""

    title: str
    url: str
    summary: str = ""


class Shown:
    """What each session has been told: the last headline, to be asked about, and those before, not to be repeated."""

    def __init__(self) -> None:
        self._last: TTLCache[str, Headline] = TTLCache(MAX_SESSIONS, KEPT_S)
        self._told: TTLCache[str, tuple[str, ...]] = TTLCache(MAX_SESSIONS, KEPT_S)

    def choose(self, session: str, headlines: Sequence[Headline]) -> Headline:
        """A headline that this session has not been told, as long as there is one."""
        told = self._told.get(session, ())
        chosen = random.choice([each for each in headlines if each.title not in told] or list(headlines))
        self._last[session] = chosen
        self._told[session] = (*told, chosen.title)[-MAX_TOLD:]
        return chosen

    def last(self, session: str) -> Headline:
        """The headline that the user means. Raises ToolError when there is none."""
        found = self._last.get(session)
        if found is None:
            raise ToolError("No headline was read out lately; get one first. 没有最近读过的新闻，请先获取一条新闻。")
        return found


def announced(headline: Headline, lang: str) -> str:
    """What the model is told of a headline."""
    about = f"\nSummary: {headline.summary}" if headline.summary else ""
    return (
        f"Headline: {headline.title}{about}\n"
        f"Tell it to the user in a natural way{_in(lang)}, and offer to tell the details."
    )


def in_detail(headline: Headline, text: str, lang: str) -> str:
    """What the model is told of the page of a headline."""
    return f"Headline: {headline.title}\nArticle:\n{text}\nSummarise it for the user{_in(lang)}, to be listened to."


def _in(lang: str) -> str:
    return f" in the language {lang}" if lang else ""


Lang = Annotated[str, Field(description="Language of the user, such as zh_CN, zh_HK, en_US, ja_JP. 用户使用的语言。")]
Detail = Annotated[
    bool,
    Field(description="True when the user wants the details of the headline told last. 是否获取上一条新闻的详情。"),
]


class NewsNowOptions(ToolOptions):
    """`plugins.get_news_from_newsnow`."""

    blocks: ClassVar[tuple[str, ...]] = ("get_news_from_newsnow",)

    url: HttpUrl = Field(
        "https://newsnow.busiyi.world/api/s?id=", min_length=1, description="Address of the service; an id is added."
    )
    news_sources: str = Field("澎湃新闻;百度热搜;财联社", description="Lists on offer, separated by ;; empty: all.")

    @property
    def offered(self) -> list[str]:
        """Names of the lists."""
        return [name.strip() for name in self.news_sources.replace("；", ";").split(";") if name.strip()] or list(SITES)

    def words(self) -> Mapping[str, str]:
        return {"sources": "、".join(self.offered)}

    def missing(self) -> str:
        unknown = [name for name in self.offered if name not in SITES]
        return f"news_sources: {unknown[0]!r} is none of {', '.join(SITES)}" if unknown else ""


class NewsNow:
    """The headlines of one service."""

    def __init__(self, options: NewsNowOptions, services: ToolServices) -> None:
        self._options = options
        self._http = services.http("newsnow", connect=3.0, read=10.0, total=10.0)
        self._pages = Pages("news", services)
        self._shown = Shown()

    @tool("get_news_from_newsnow", NewsNowOptions)
    def get_news(
        self,
        context: ToolContext,
        source: Annotated[str, Field(description="One of: {sources}. 新闻来源。")] = "",
        detail: Detail = False,
        lang: Lang = "",
    ) -> str:
        """Tells a current headline of {sources}, or the details of the one told last. Call it when the user asks for
        news. 用户想听新闻时调用，可以指定来源，也可以要求上一条新闻的详情。"""
        if detail:
            headline = self._shown.last(context.session_id)
            return in_detail(headline, self._pages.text(headline.url), lang)
        return announced(self._shown.choose(context.session_id, self._headlines(source)), lang)

    def _headlines(self, source: str) -> list[Headline]:
        answer = self._http.json(
            "GET",
            self._options.url + self._id(source),
            limit=2 * 1024 * 1024,
            headers={"Accept": "application/json", "User-Agent": "Mozilla/5.0 (compatible; xiaozhi-server)"},
        )
        items = answer.get("items") if isinstance(answer, Mapping) else None
        found = [headline for item in items if (headline := _of(item))] if isinstance(items, list) else []
        if not found:
            raise VendorGarbage("newsnow", "no headlines in the answer")
        return found

    def _id(self, source: str) -> str:
        offered = [name for name in self._options.offered if name in SITES] or ["澎湃新闻"]
        match = process.extractOne(source, offered, scorer=fuzz.WRatio, processor=str.lower, score_cutoff=_LIKENESS)
        return SITES[match[0] if match else offered[0]]


def _of(item: Any) -> Headline | None:
    if not isinstance(item, Mapping) or not item.get("title"):
        return None
    url = item.get("url")
    return Headline(" ".join(str(item["title"]).split())[:MAX_TITLE_CHARS], url if isinstance(url, str) else "")


class FeedOptions(ToolOptions):
    """`plugins.get_news_from_chinanews`. The addresses of RSS or Atom feeds, of any site."""

    blocks: ClassVar[tuple[str, ...]] = ("get_news_from_chinanews",)

    default_rss_url: HttpUrl = Field("https://www.chinanews.com.cn/rss/society.xml", min_length=1)
    society_rss_url: HttpUrl = Field("https://www.chinanews.com.cn/rss/society.xml")
    world_rss_url: HttpUrl = Field("https://www.chinanews.com.cn/rss/world.xml")
    finance_rss_url: HttpUrl = Field("https://www.chinanews.com.cn/rss/finance.xml")

    def feed(self, category: str) -> str:
        """The address of the feed for a category as people call it."""
        key = next((key for word, key in _CATEGORIES.items() if word in category.lower()), "")
        return str(getattr(self, f"{key}_rss_url", "") or self.default_rss_url)


class Feeds:
    """The headlines of RSS and Atom feeds."""

    def __init__(self, options: FeedOptions, services: ToolServices) -> None:
        self._options = options
        urls = (options.default_rss_url, options.society_rss_url, options.world_rss_url, options.finance_rss_url)
        hosts = {urlsplit(url).hostname or "" for url in urls}
        self._client = services.fetch("chinanews", named_hosts=hosts)
        self._pages = Pages("news", services, hosts)
        self._offload = services.offload
        self._shown = Shown()
        self._feeds: TTLCache[str, Sequence[Headline]] = TTLCache(len(urls), FEED_S)

    @tool("get_news_from_chinanews", FeedOptions)
    def get_news(
        self,
        context: ToolContext,
        category: Annotated[str, Field(description="社会 society, 国际 world, 财经 finance. 新闻类别。")] = "",
        detail: Detail = False,
        lang: Lang = "",
    ) -> str:
        """Tells a current headline of society, world or finance, or the details of the one told last. Call it when the
        user asks for news. 用户想听社会、国际或财经新闻时调用，也可以要求上一条新闻的详情。"""
        if detail:
            headline = self._shown.last(context.session_id)
            return in_detail(headline, self._article(headline), lang)
        return announced(self._shown.choose(context.session_id, self._headlines(category)), lang)

    def _headlines(self, category: str) -> Sequence[Headline]:
        url = self._options.feed(category)
        known = self._feeds.get(url)
        if known is None:
            body = self._client.get(url).body
            known = self._feeds[url] = self._offload(lambda: headlines(body))
        if not known:
            raise VendorGarbage("chinanews", "no headlines in the feed")
        return known

    def _article(self, headline: Headline) -> str:
        if not headline.url:
            return headline.summary
        try:
            return self._pages.text(headline.url)
        except ToolError:
            if headline.summary:
                return headline.summary
            raise


def headlines(feed: bytes) -> list[Headline]:
    """The entries of an RSS or Atom feed; none when it is no feed. CPU-bound."""
    try:
        entries = fastfeedparser.parse(feed).entries
    except ValueError:
        return []
    return [
        Headline(
            " ".join(entry["title"].split())[:MAX_TITLE_CHARS],
            entry.get("link") or "",
            " ".join(_plain(entry.get("description") or "").split())[:500],
        )
        for entry in entries
        if entry.get("title")
    ]


def _plain(html: str) -> str:
    return readable(html.encode(), "utf-8") if "<" in html else html
