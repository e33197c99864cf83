"""An application of Dify, in the cloud or self-hosted: a chat (with or without a flow), a workflow, a text generator.
Source: docs.dify.ai/api-reference (chats, workflows, completions; stop endpoints), and the pages "API access" of Dify's
own console.

Dify keeps the conversation and has the prompt; see `families/agent_talks.py`. Workflows and text generators remember
nothing: each question stands alone. Their input is called `query`, the output of a workflow `answer`. A workflow is
heard while it writes, where its end node passes on the text of a model; `answer` at its end is what counts."""

from __future__ import annotations

import urllib.parse
from collections.abc import Generator, Mapping
from typing import Any, Final, Literal

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorBusy, VendorError, VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.providers.families.agent_talks import AgentLlm, Piece, Replaced, Talk
from xiaozhi.providers.families.http_options import ApiKey, HttpUrl, KeyedOptions
from xiaozhi.providers.families.named_events import named_values
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.registry import provider

END_GRACE_S: Final = 0.1
_NOBODY: Final = "xiaozhi"
"""The user on whose behalf is asked where there is no session; Dify wants one."""
_WORKING: Final = frozenset({"ping", "node_started", "node_finished", "agent_thought", "agent_log", "iteration_next"})
_SUCCEEDED: Final = ("succeeded", "partial-succeeded")

Mode = Literal["chat-messages", "workflows/run", "completion-messages"]


class DifyOptions(KeyedOptions):
    """`api_key` of one application; `base_url` with its /v1."""

    api_key: ApiKey
    base_url: HttpUrl = "https://api.dify.ai/v1"
    mode: Mode = "chat-messages"
    inputs: dict[str, Any] = {}
    """Values of further variables that the application asks for."""


@provider("llm", "dify", DifyOptions)
class DifyLlm(AgentLlm):
    """Streams one application's answers."""

    def __init__(self, options: DifyOptions) -> None:
        super().__init__(options.client(options.base_url))
        self._mode = options.mode
        self._inputs = options.inputs
        self._url = f"{options.base_url}/{options.mode}"
        # Runs of a workflow are stopped elsewhere than they are started.
        self._stop_url = f"{options.base_url}/workflows/tasks" if options.mode == "workflows/run" else self._url

    def _pieces(self, query: str, talk: Talk, context: CallContext) -> Generator[Piece]:
        user = context.session_id or _NOBODY
        task, over = "", False
        try:
            with self._http.stream("POST", self._url, json=self._body(query, talk, user)) as reply:
                said: list[str] = []
                for _, event in named_values(reply):
                    if not isinstance(event, Mapping):
                        continue
                    kind = event.get("event")
                    task = task or str(event.get("task_id") or "")
                    if self._mode == "chat-messages" and event.get("conversation_id"):
                        talk.began(str(event["conversation_id"]))
                    if kind == "message_end":
                        over = True
                    elif kind == "error" or (kind is None and "code" in event):
                        over = True
                        raise self._error(event)
                    elif kind == "workflow_finished" and self._mode == "workflows/run":
                        over = True
                        yield from self._outcome(_data(event), "".join(said))
                    elif kind == "text_chunk":
                        text = str(_data(event).get("text") or "")
                        said.append(text)
                        yield text
                    elif kind == "message_replace":
                        yield Replaced(str(event.get("answer") or ""))
                    elif event.get("answer"):
                        yield str(event["answer"])
                    elif kind in _WORKING:
                        yield ""
                    if over:
                        reply.finish(END_GRACE_S)
                        return
            raise VendorUnavailable(self._http.vendor, "the answer broke off")
        finally:
            if task and not over:
                self._stop(talk, f"{self._stop_url}/{urllib.parse.quote(task, safe='')}/stop", {"user": user})

    def _body(self, query: str, talk: Talk, user: str) -> dict[str, Any]:
        body: dict[str, Any] = {"inputs": self._inputs, "response_mode": "streaming", "user": user}
        if self._mode != "chat-messages":
            return body | {"inputs": {**self._inputs, "query": query}}
        body |= {"query": query, "auto_generate_name": False}
        return body | {"conversation_id": talk.id} if talk.id else body

    def _outcome(self, data: Mapping[str, Any], said: str) -> Generator[Piece]:
        """What a workflow's end adds to what was `said` while it worked."""
        vendor = self._http.vendor
        if data.get("status") not in _SUCCEEDED:
            told = f"the workflow {data.get('status')}: {data.get('error') or ''}"
            raise VendorUnavailable(vendor, self._http.redact(told))
        outputs = data.get("outputs")
        found = outputs if isinstance(outputs, Mapping) else {}
        if "answer" not in found:
            if not said:
                names = ", ".join(map(str, found)) or "none"
                raise VendorGarbage(vendor, f"the workflow has no output called `answer` (its outputs: {names})")
            return
        answer = str(found["answer"] or "")
        if answer.startswith(said):
            yield answer[len(said) :]
        else:
            yield Replaced(answer)

    def _has_forgotten(self, error: VendorRejected) -> bool:
        return "conversation not exist" in error.details.lower()

    def _error(self, event: Mapping[str, Any]) -> VendorError:
        if event.get("code") == "completion_request_error":
            # Any failure of the model behind it, whose own words follow; the status is always 400.
            said = self._http.redact(str(event.get("message") or ""))
            busy = "rate limit" in said.lower() or "429" in said
            return (VendorBusy if busy else VendorUnavailable)(self._http.vendor, said)
        return error_in_answer(self._http.vendor, event)


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    return data if isinstance(data, Mapping) else {}
