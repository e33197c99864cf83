"""Searching the web and the owner's knowledge base."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.vendors.http_vendor import Script
from tests.tools.fakes import call, context
from tests.vendors.web_services import KEY, RagflowService, SearchService
from xiaozhi.tools.base import Action, ToolOutcome, ToolServices
from xiaozhi.tools.plugins.search_from_ragflow import MAX_CHUNKS
from xiaozhi.tools.registry import select
from xiaozhi.tools.toolbox import Toolbox


@pytest.fixture
def web() -> Iterator[SearchService]:
    with SearchService() as running:
        yield running  # type: ignore[misc]


@pytest.fixture
def ragflow() -> Iterator[RagflowService]:
    with RagflowService() as running:
        yield running  # type: ignore[misc]


def search(services: ToolServices, block: dict[str, Any], tool: str = "web_search", **arguments: Any) -> ToolOutcome:
    box = Toolbox(select([tool], {tool: block}).build(services).source)
    return box.call(call(tool, **arguments), context())


def by(web: SearchService, provider: str, **options: Any) -> dict[str, Any]:
    return {"provider": provider, "api_key": KEY, "url": f"{web.url}/{provider}", **options}


def test_metaso_lists_pages(web: SearchService, services: ToolServices) -> None:
    outcome = search(services, by(web, "metaso", max_results="2"), query="今天的新闻")

    assert outcome.action is Action.ASK_LLM
    assert outcome.text == "1. 标题 (2026年03月01日)\n摘要\n2. 标题 (2026年03月01日)\n摘要"
    assert web.refusals == []


def test_tavily_answers(web: SearchService, services: ToolServices) -> None:
    assert search(services, by(web, "tavily"), query="is it so").text == "It is so."
    web.stand("/tavily", Script(answer={"answer": None, "results": [{"title": "t", "content": "c"}, "odd"]}))
    assert search(services, by(web, "tavily"), query="is it so").text == "1. t\nc"
    assert web.refusals == []


@pytest.mark.parametrize("answer", [{"webpages": []}, {"webpages": None}, {}])
def test_nothing_found_is_said(web: SearchService, services: ToolServices, answer: Any) -> None:
    web.stand("/metaso", Script(answer=answer))

    assert "没有搜索到" in search(services, by(web, "metaso"), query="x").text


@pytest.mark.parametrize("provider", ["metaso", "tavily"])
@pytest.mark.parametrize("script", [None, Script(status=500), Script(garbage="html"), Script(answer=[])])
def test_a_search_that_fails(web: SearchService, services: ToolServices, provider: str, script: Script | None) -> None:
    """None: the key is refused."""
    if script is not None:
        web.stand(f"/{provider}", script)
    with capture_logs() as logged:
        outcome = search(services, by(web, provider, api_key="wrong-key-9876"), query="x")

    assert outcome.action is Action.ERROR
    assert "wrong-key" not in str(logged)


@pytest.mark.parametrize("block", [{}, {"provider": "metaso"}, {"provider": "", "api_key": KEY}])
def test_a_search_that_is_not_set_up(services: ToolServices, block: dict[str, Any]) -> None:
    assert "not set up" in search(services, block, query="x").text
    assert any(
        "web_search cannot work" in warning for warning in select(["web_search"], {"web_search": block}).warnings
    )


def test_an_unknown_provider_is_a_fault() -> None:
    [fault] = select(["web_search"], {"web_search": {"provider": "altavista"}}).faults

    assert fault.key == "plugins.web_search.provider"


def base(ragflow: RagflowService, **options: Any) -> dict[str, Any]:
    return {"base_url": ragflow.url + "/", "api_key": KEY, "dataset_ids": ["a", "b"], **options}


def test_the_knowledge_base_gives_its_first_chunks(ragflow: RagflowService, services: ToolServices) -> None:
    outcome = search(services, base(ragflow), "search_from_ragflow", question="rules")

    assert outcome.action is Action.ASK_LLM
    assert outcome.text.count("of rules") == MAX_CHUNKS
    assert ragflow.requests[0].json() == {"question": "rules", "dataset_ids": ["a", "b"]}


def test_the_owner_says_when_to_look_there(ragflow: RagflowService, services: ToolServices) -> None:
    block = base(ragflow, description="Questions about our school.", dataset_ids="a, b")
    source = select(["search_from_ragflow"], {"search_from_ragflow": block}).build(services).source

    assert "Questions about our school." in [spec.description for spec in Toolbox(source).specs()]


def test_a_knowledge_base_with_nothing_about_it(ragflow: RagflowService, services: ToolServices) -> None:
    ragflow.stand("/api/v1/retrieval", Script(answer={"code": 0, "data": {"chunks": []}}))

    assert "没有相关信息" in search(services, base(ragflow), "search_from_ragflow", question="x").text


@pytest.mark.parametrize(
    "script", [None, Script(status=502), Script(answer="text"), Script(answer={"code": 102, "error": {"detail": "no"}})]
)
def test_a_knowledge_base_that_fails(ragflow: RagflowService, services: ToolServices, script: Script | None) -> None:
    """None: the key is refused, with status 200."""
    if script is not None:
        ragflow.stand("/api/v1/retrieval", script)
    with capture_logs() as logged:
        outcome = search(services, base(ragflow, api_key="wrong-key-9876"), "search_from_ragflow", question="x")

    assert outcome.action is Action.ERROR
    assert script is not None or "API key is invalid" in str(logged)


@pytest.mark.parametrize("missing", ["base_url", "api_key", "dataset_ids"])
def test_a_knowledge_base_that_is_not_set_up(ragflow: RagflowService, services: ToolServices, missing: str) -> None:
    block = {key: value for key, value in base(ragflow).items() if key != missing}

    assert f"{missing}: is empty" in search(services, block, "search_from_ragflow", question="x").text
