"""Looks something up in knowledge bases of RAGFlow. Source: ragflow.io/docs (HTTP API, "Retrieve chunks")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, SecretStr, field_validator

from xiaozhi.errors import ToolError, VendorGarbage, VendorRejected
from xiaozhi.settings.fields import HttpUrl
from xiaozhi.tools.base import ToolOptions, ToolServices
from xiaozhi.tools.registry import tool

MAX_CHUNKS: Final = 5
MAX_CHUNK_CHARS: Final = 1_500


class RagflowOptions(ToolOptions):
    """`plugins.search_from_ragflow`. `description` is what tells the model when to look here."""

    base_url: HttpUrl = Field("", description="Where RAGFlow is, such as http://192.168.1.8.")
    api_key: SecretStr = Field(SecretStr(""), description="Key of RAGFlow's API.")
    dataset_ids: tuple[str, ...] = Field((), description="Knowledge bases that are searched.")
    verify_tls: bool = Field(True, description="False: any certificate is accepted.")

    @field_validator("dataset_ids", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    def missing(self) -> str:
        for key, value in (
            ("base_url", self.base_url),
            ("api_key", self.api_key.get_secret_value()),
            ("dataset_ids", self.dataset_ids),
        ):
            if not value:
                return f"{key}: is empty"
        return ""


class Ragflow:
    """Asks one server."""

    def __init__(self, options: RagflowOptions, services: ToolServices) -> None:
        key = options.api_key.get_secret_value()
        self._options = options
        self._http = services.http(
            "ragflow",
            connect=3.0,
            read=5.0,
            total=8.0,
            headers={"Authorization": f"Bearer {key}"},
            secrets=[key],
            verify=options.verify_tls,
        )

    @tool("search_from_ragflow", RagflowOptions)
    def search(
        self, question: Annotated[str, Field(description="The question to look up. 要查询的问题。", min_length=1)]
    ) -> str:
        """Looks something up in the owner's knowledge base. Call it for questions about the owner's own documents,
        products or rules. 从知识库中查询信息。"""
        options = self._options
        if missing := options.missing():
            raise ToolError(f"The knowledge base is not set up on this server ({missing}). 服务器没有配置知识库。")
        answer = self._http.json(
            "POST",
            f"{options.base_url.rstrip('/')}/api/v1/retrieval",
            json={"question": question, "dataset_ids": list(options.dataset_ids)},
        )
        chunks = _chunks(answer)[:MAX_CHUNKS]
        if not chunks:
            return "The knowledge base has nothing about it. 根据知识库查询结果，没有相关信息。"
        return "From the knowledge base 来自知识库:\n" + "\n\n".join(chunk[:MAX_CHUNK_CHARS] for chunk in chunks)


def _chunks(answer: Any) -> list[str]:
    if not isinstance(answer, Mapping):
        raise VendorGarbage("ragflow", "not an object")
    if answer.get("code") != 0:
        # Refusals come with status 200.
        error = answer.get("error")
        told = answer.get("message") or (error.get("message") or error.get("detail") if isinstance(error, dict) else "")
        raise VendorRejected("ragflow", f"code {answer.get('code')}: {told or 'no reason given'}"[:200])
    data = answer.get("data")
    found = data.get("chunks") if isinstance(data, Mapping) else None
    if not isinstance(found, list):
        return []
    return [str(chunk["content"]).strip() for chunk in found if isinstance(chunk, Mapping) and chunk.get("content")]
