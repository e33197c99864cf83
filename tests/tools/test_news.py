"""Headlines from NewsNow's lists and from feeds, and the pages behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.vendors.http_vendor import Script, VendorAnswer
from tests.tools.fakes import call, context
from tests.vendors.web_services import NewsService
from xiaozhi.tools.base import Action, ToolOutcome, ToolServices
from xiaozhi.tools.pages import MAX_CHARS, readable
from xiaozhi.tools.plugins.news import SITES, headlines
from xiaozhi.tools.registry import select
from xiaozhi.tools.toolbox import Toolbox

NOW, FEED = "get_news_from_newsnow", "get_news_from_chinanews"


@pytest.fixture
def service() -> Iterator[NewsService]:
    with NewsService() as running:
        yield running  # type: ignore[misc]


@pytest.fixture
def box(service: NewsService, services: ToolServices) -> Toolbox:
    feeds = {f"{key}_rss_url": f"{service.url}/rss.xml" for key in ("default", "society", "world")}
    blocks = {
        NOW: {"url": f"{service.url}/api/s?id=", "news_sources": "澎湃新闻; 百度热搜；Hacker News"},
        FEED: {**feeds, "finance_rss_url": f"{service.url}/finance.xml"},
    }
    return Toolbox(select([NOW, FEED], blocks).build(services).source)


def ask(box: Toolbox, tool: str, session: str = "s1", **arguments: Any) -> ToolOutcome:
    return box.call(call(tool, **arguments), context(session_id=session))


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("百度热搜", "baidu"),
        ("百度", "baidu"),
        ("hacker news", "hackernews"),
        ("", "thepaper"),
        ("天气预报", "thepaper"),
    ],
)
def test_a_headline_of_a_list(box: Toolbox, service: NewsService, source: str, asked: str) -> None:
    outcome = ask(box, NOW, source=source, lang="zh_CN")

    assert outcome.action is Action.ASK_LLM
    assert f"Headline: {asked} 新闻" in outcome.text
    assert "zh_CN" in outcome.text
    assert service.refusals == []


def test_the_lists_on_offer_are_told(box: Toolbox) -> None:
    [spec] = [spec for spec in box.specs() if spec.name == NOW]

    assert "澎湃新闻、百度热搜、Hacker News" in spec.description
    assert "澎湃新闻、百度热搜、Hacker News" in spec.parameters["properties"]["source"]["description"]


def test_a_session_is_told_each_headline_once(box: Toolbox) -> None:
    told = [ask(box, NOW).text for _ in range(3)]

    assert len(set(told)) == 3
    assert ask(box, NOW).text in told, "then they come again"


@pytest.mark.parametrize("tool", [NOW, FEED])
def test_the_details_are_those_of_the_sessions_own_headline(box: Toolbox, service: NewsService, tool: str) -> None:
    ask(box, tool, "mine")

    outcome = ask(box, tool, "mine", detail=True)

    assert outcome.action is Action.ASK_LLM
    assert "道路已经恢复通行" in outcome.text
    assert "登录" not in outcome.text, "navigation is not news"
    other = ask(box, tool, "other", detail=True)
    assert other.action is Action.ERROR
    assert "请先获取一条新闻" in other.text


def test_true_may_be_a_word(box: Toolbox) -> None:
    ask(box, NOW)

    assert "Article" in ask(box, NOW, detail="true").text


@pytest.mark.parametrize(
    "script",
    [
        Script(garbage="html"), Script(status=500), Script(answer={"status": "success", "items": []}),
        Script(answer={"items": "none"}), Script(answer=[1]), Script(answer={"items": [{"url": "x"}, 5, None]}),
    ],
)  # fmt: skip
def test_a_list_that_fails(box: Toolbox, service: NewsService, script: Script) -> None:
    service.stand("/api/s", script)

    assert ask(box, NOW).action is Action.ERROR


@pytest.mark.parametrize("category", ["社会新闻", "国际", "world", "", "体育"])
def test_a_headline_of_a_feed(box: Toolbox, category: str) -> None:
    text = ask(box, FEED, category=category).text

    assert "Headline: 要闻" in text
    assert "Summary: 摘要" in text


def test_a_feed_is_asked_for_now_and_then(box: Toolbox, service: NewsService) -> None:
    for session in ("a", "b", "c"):
        ask(box, FEED, session)

    assert service.counts == {"/rss.xml": 1}


def test_a_feed_that_is_not_there(box: Toolbox) -> None:
    assert ask(box, FEED, category="财经").action is Action.ERROR


def test_where_the_page_says_nothing_the_feed_does(box: Toolbox, service: NewsService) -> None:
    for number in range(2):
        service.stand(f"/page/{number}", Script(answer=VendorAnswer(b"\xff\xd8\xff", "image/jpeg")))
    ask(box, FEED)

    assert "摘要" in ask(box, FEED, detail=True).text


def test_a_headline_may_not_lead_into_the_network(service: NewsService, services: ToolServices) -> None:
    """The real guard: only hosts that the configuration names may be private."""
    plain = ToolServices(http=services.http)
    url = f"{service.url.replace('127.0.0.1', 'localhost')}/api/s?id="
    box = Toolbox(select([NOW], {NOW: {"url": url}}).build(plain).source)
    assert ask(box, NOW).action is Action.ASK_LLM

    outcome = ask(box, NOW, detail=True)

    assert outcome.action is Action.ERROR
    assert not [request for request in service.requests if "page" in request.path]


def test_an_unknown_list_is_warned_about() -> None:
    warnings = select([NOW], {NOW: {"news_sources": "晚报"}}).warnings

    assert any("news_sources: '晚报' is none of" in warning for warning in warnings)


def test_ids_are_fit_for_an_address() -> None:
    assert len(SITES) == 35
    assert all(identity.replace("-", "").isalnum() and identity.islower() for identity in SITES.values())


@pytest.mark.parametrize(
    "feed", [b"", b"<html><body>moved</body></html>", b"\0\1\2", b"{}", b"<rss", "新闻".encode("gbk")]
)
def test_what_is_no_feed_has_no_headlines(feed: bytes) -> None:
    assert headlines(feed) == []


def test_an_atom_feed() -> None:
    feed = (
        b"<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><title>t</title>"
        b"<entry><title>One &amp; two</title><link href='https://x.example/1'/><summary>more</summary></entry></feed>"
    )

    [headline] = headlines(feed)
    assert (headline.title, headline.url, headline.summary) == ("One & two", "https://x.example/1", "more")


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "utf-16"])
def test_pages_of_any_encoding(encoding: str) -> None:
    assert "道路已经恢复通行" in readable(NewsService.ARTICLE.replace("gbk", encoding).encode(encoding))
    assert readable(b"") == ""


def test_a_long_page_is_cut(box: Toolbox, service: NewsService) -> None:
    page = "<html><body><article>" + "<p>很长的新闻内容，讲了很多事情。</p>" * 3_000 + "</article></body></html>"
    for number in range(3):
        service.stand(f"/page/{number}", Script(answer=VendorAnswer(page.encode(), "text/html; charset=utf-8")))
    ask(box, NOW)

    assert MAX_CHARS < len(ask(box, NOW, detail=True).text) < MAX_CHARS + 500
