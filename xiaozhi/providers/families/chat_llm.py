"""A language model behind any chat API: streamed, with tools, and with what its vendor was found to be unable to do
remembered. How the API writes it is told by a `Dialect`.

Not the vendors' SDKs: openai's costs eight times the CPU per answer and retries on its own, while retries have one
owner here. A refusal from which something is learnt is not retried: the request that follows is another one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from cachetools import LRUCache

from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorError, VendorGarbage, VendorRejected
from xiaozhi.net.http import VendorHttp
from xiaozhi.providers.contracts.llm import Llm, Retraction
from xiaozhi.providers.families.call_arguments import BadToolCall
from xiaozhi.providers.families.completion import Completion
from xiaozhi.providers.families.dialect import OPENAI, Dialect
from xiaozhi.providers.families.json_body import DONE, JsonBody, json_values
from xiaozhi.providers.families.learnt_limits import (
    CONSEQUENCES,
    NO_TOOLS,
    LearntLimits,
    OfferedTools,
    compose,
    is_missing_model,
    learn,
    merged,
    offered,
)
from xiaozhi.providers.families.thinking_habit import ThinkingHabit
from xiaozhi.providers.families.thinking_switches import Switches
from xiaozhi.providers.families.tool_names import NOTHING_OFFERED
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)

END_GRACE_S = 0.1
"""How long the end of the HTTP body is waited for once the answer itself is complete, so that the connection can be
used again."""
STOP_GRACE_S = 0.5
"""How long text and calls are waited for behind a finish_reason, from a server that neither says [DONE] nor ends."""
LATE_STOP_GRACE_S = 5.0
"""The same with a server that was found to go on behind a finish_reason."""
EARLY_STOP_GRACE_S = 2.0
"""The same when the reason came with the first text."""
MAX_LESSONS = 6
"""Refusals from which something is learnt in one request."""
SIGN_OF_LIFE_S = 1.0
"""How often "" tells that the model is thinking."""
_KEPT_OFFERS = 32
"""Sets of tools kept ready to be sent."""


class ChatLlm(Llm):
    """Streams answers. One pooled client for all devices. What a vendor was found to be unable to do is remembered as
    long as this object lives.

    `fixed`: what every request says alike, in OpenAI's form. `switches`: what keeps the model from thinking
    (`thinking_switches.py`). `known`: what the vendor is known to refuse.
    `missing`: what to do where it has no such model."""

    def __init__(
        self,
        http: VendorHttp,
        url: str,
        fixed: Mapping[str, Any],
        *,
        switches: Switches = (),
        dialect: Dialect = OPENAI,
        known: LearntLimits | None = None,
        missing: str = "",
    ) -> None:
        self._http = http
        self._url = url
        self._fixed = fixed
        self._switches = switches
        self._dialect = dialect
        self._missing = missing
        self._limits = known or LearntLimits()
        self._habit = ThinkingHabit(fixed["model"])
        self._goes_on_behind_stop = False
        self._stays_open = False
        self._offers: LRUCache[bytes, OfferedTools] = LRUCache(_KEPT_OFFERS)

    @property
    def limitations(self) -> tuple[str, ...]:
        """See `Provider`."""
        habits = (("finish_reason", self._goes_on_behind_stop), ("thinking_marks", self._habit.known))
        return (*self._limits.names, *(name for name, found in habits if found))

    def chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], context: CallContext
    ) -> Iterator[str | ToolCall]:
        """Text as it comes, tool calls when they are whole; "" now and then while a model thinks."""
        limits = before = self._limits
        offer = self._offered(tools, limits)
        body = self._composed(messages, offer, limits)
        for lessons in range(MAX_LESSONS + 1):
            answer = Completion(self._http.vendor, offer.offer if "tools" in body else NOTHING_OFFERED)
            try:
                yield from self._ask(body, answer)
                return
            except BadToolCall as error:
                raise VendorGarbage(self._http.vendor, str(error)) from error
            except VendorError as error:
                learnt = learn(error, body, offer, limits) if lessons < MAX_LESSONS and not answer.spoke else None
                if learnt is None:
                    if self._missing and is_missing_model(error):
                        said = f"{self._missing}: {error.message}"
                        raise VendorRejected(error.vendor, said, details=error.details, status=error.status) from error
                    raise
                offer = self._offered(tools, learnt)
                again = self._composed(messages, offer, learnt)
                if again == body:
                    raise
                limits, body = learnt, again
            finally:
                if answer.heard and limits is not before:
                    self._remember(merged(self._limits, before, limits))

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()

    def _composed(self, messages: Sequence[Message], offer: OfferedTools, limits: LearntLimits) -> dict[str, Any]:
        return compose(self._fixed, messages, offer, limits, switches=self._switches, vendor=self._http.vendor)

    def _offered(self, tools: Sequence[ToolSpec], limits: LearntLimits) -> OfferedTools:
        if not tools or not limits.tools:
            return NO_TOOLS
        if limits is not self._limits:
            return offered(tools, limits, self._dialect)
        # By content: devices with the same firmware describe the same tools, each in objects of its own.
        written = orjson.dumps([(tool.name, tool.description, tool.parameters) for tool in tools], default=str)
        key = hashlib.blake2b(written, digest_size=16).digest()
        found = self._offers.get(key)
        if found is None:
            found = self._offers[key] = offered(tools, limits, self._dialect)
        return found

    def _remember(self, limits: LearntLimits) -> None:
        before, self._limits = self._limits.names, limits
        self._offers.clear()
        for name in limits.names:
            if name not in before:
                log.warning(
                    "vendor limitation",
                    provider=self.name,
                    vendor=self._http.vendor,
                    limitation=name,
                    consequence=CONSEQUENCES.get(name, "it is not sent"),
                )

    # --- reading ------------------------------------------------------------------------------------------------------

    def _ask(self, body: dict[str, Any], answer: Completion) -> Iterator[str | ToolCall]:
        parser, spoken, take = JsonBody(), answer.text, answer.take
        hold = self._habit.hold_seconds
        held: list[str] | None = [] if hold else None
        release_at = 0.0
        sign_at = time.monotonic() + SIGN_OF_LIFE_S
        retractions = 0
        done = False
        dialect, vendor = self._dialect, self._http.vendor
        with self._http.stream("POST", self._url, json=dialect.request(body)) as reply:
            try:
                for value in dialect.values(json_values(reply, parser), vendor):
                    if value is DONE or answer.filtered:
                        done = value is DONE
                        break
                    text = take(value)
                    if answer.may_end:
                        reply.expect_end(self._grace(answer))
                    if held is None:
                        if spoken.retractions != retractions:
                            retractions = spoken.retractions
                            yield Retraction()
                        if text:
                            yield text
                            continue
                    elif text or spoken.retractions != retractions:
                        now = time.monotonic()
                        if spoken.retractions != retractions:
                            # All that was held was thought; what follows is the answer.
                            retractions, held, release_at = spoken.retractions, [], now
                        held.append(text)
                        release_at = release_at or now + hold
                        if now >= release_at or answer.reasoned:
                            yield from filter(None, held)
                            held = None
                            continue
                    if (held or answer.reasoned) and time.monotonic() >= sign_at:
                        sign_at = time.monotonic() + SIGN_OF_LIFE_S
                        yield ""
            except VendorError:
                # When an answer is complete, it does not matter how its connection ended.
                if answer.failed or not answer.reason:
                    if held and not self._habit.known:
                        yield from held
                    raise
            if done:
                reply.finish(END_GRACE_S)
            if not answer.heard:
                raise answer.nothing(parser.odd, reply.content_type)
            if not done and parser.odd and (error := answer.ended_by(parser.odd)) is not None:
                yield from held or ()
                raise error
            self._learn_ends(answer, ended=done or reply.complete)
            yield from self._rest(answer, held, retractions)

    def _rest(self, answer: Completion, held: list[str] | None, retractions: int) -> Iterator[str | ToolCall]:
        try:
            for item in answer.end():
                if answer.text.retractions != retractions:
                    retractions = answer.text.retractions
                    if held is None:
                        yield Retraction()
                    held = None
                yield from held or ()
                held = None
                yield item
        except VendorError:
            yield from held or ()
            raise
        yield from held or ()
        if answer.spoke:
            self._habit.answered(lone_end=answer.text.retractions > 0 and not answer.reasoned)

    def _grace(self, answer: Completion) -> float:
        if self._goes_on_behind_stop or answer.spoke_behind_the_end:
            return LATE_STOP_GRACE_S
        if self._stays_open:
            return END_GRACE_S
        return EARLY_STOP_GRACE_S if answer.ended_early else STOP_GRACE_S

    def _learn_ends(self, answer: Completion, *, ended: bool) -> None:
        if answer.spoke_behind_the_end and not self._goes_on_behind_stop:
            self._goes_on_behind_stop = True
            log.warning("vendor goes on behind finish_reason", provider=self.name, vendor=self._http.vendor)
        self._stays_open = not ended
