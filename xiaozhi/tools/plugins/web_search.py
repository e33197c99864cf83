"""Searches the web: with Metaso (Chinese) or Tavily. Source: metaso.cn/search-api, docs.tavily.com."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr

from xiaozhi.errors import ToolError, VendorGarbage
from xiaozhi.settings.fields import HttpUrl
from xiaozhi.tools.base import ToolOptions, ToolServices
from xiaozhi.tools.registry import tool

MAX_SUMMARY_CHARS: Final = 1_200
_ADDRESSES: Final = {"metaso": "https://metaso.cn/api/v1/search", "tavily": "https://api.tavily.com/search"}


class WebSearchOptions(ToolOptions):
    """`plugins.web_search`."""

    provider: Literal["metaso", "tavily", ""] = Field("", description="metaso or tavily.")
    api_key: SecretStr = Field(SecretStr(""), description="Key of that provider.")
    max_results: int = Field(3, ge=1, le=20, description="Pages that are looked at.")
    url: HttpUrl = Field("", description="Another address of the same interface; empty: the provider's own.")

    def missing(self) -> str:
        if not self.provider:
            return "provider: say metaso or tavily"
        return "" if self.api_key.get_secret_value() else f"api_key: {self.provider} needs one"


class WebSearch:
    """Asks the configured provider."""

    def __init__(self, options: WebSearchOptions, services: ToolServices) -> None:
        key = options.api_key.get_secret_value()
        self._options = options
        self._http = services.http(
            options.provider or "web_search",
            connect=3.0,
            read=15.0,
            total=15.0,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            secrets=[key],
        )

    @tool("web_search", WebSearchOptions)
    def web_search(
        self, query: Annotated[str, Field(description="What to search for. 要搜索的内容。", min_length=1)]
    ) -> str:
        """Searches the web. Call it for current events and for facts that you do not know for certain.
        联网搜索；需要实时信息或不确定的事实时调用。"""
        missing = self._options.missing()
        if missing:
            raise ToolError(f"Web search is not set up on this server ({missing}). 服务器没有配置联网搜索。")
        found = self._metaso(query) if self._options.provider == "metaso" else self._tavily(query)
        return found or f"Nothing was found for {query[:80]!r}. 没有搜索到相关内容。"

    def _metaso(self, query: str) -> str:
        answer = self._ask(
            {
                "q": query,
                "size": self._options.max_results,
                "stream": False,
                "scope": "webpage",
                "includeSummary": True,
                "includeRawContent": False,
                "conciseSnippet": False,
            }
        )
        # Metaso answers a refused key with status 200 and a code.
        if "webpages" not in answer and answer.get("errCode"):
            raise VendorGarbage("metaso", str(answer.get("errMsg") or answer["errCode"])[:200])
        return _listed(answer.get("webpages"), self._options.max_results, "summary", "snippet")

    def _tavily(self, query: str) -> str:
        answer = self._ask(
            {
                "query": query,
                "max_results": self._options.max_results,
                "search_depth": "advanced",
                "include_answer": "advanced",
            }
        )
        summary = answer.get("answer")
        return str(summary) if summary else _listed(answer.get("results"), self._options.max_results, "content")

    def _ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        provider = self._options.provider
        answer = self._http.json("POST", self._options.url or _ADDRESSES[provider], json=question)
        if not isinstance(answer, Mapping):
            raise VendorGarbage(provider, "not an object")
        return answer


def _listed(pages: Any, count: int, *texts: str) -> str:
    """Numbered pages: title, date, text."""
    lines: list[str] = []
    for page in [page for page in pages if isinstance(page, Mapping)][:count] if isinstance(pages, list) else ():
        text = next((str(page[key]) for key in texts if page.get(key)), "")
        date = f" ({page['date']})" if page.get("date") else ""
        lines.append(f"{len(lines) + 1}. {page.get('title') or ''}{date}\n{text[:MAX_SUMMARY_CHARS]}".strip())
    return "\n".join(lines)
