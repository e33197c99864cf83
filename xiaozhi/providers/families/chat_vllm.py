"""A vision model behind any chat API: one picture and one question, one answer. How the API writes it is told by a
`Dialect`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError, VendorGarbage
from xiaozhi.net.http import VendorHttp
from xiaozhi.providers.contracts.vllm import Vllm
from xiaozhi.providers.families.call_arguments import BadToolCall
from xiaozhi.providers.families.completion import Completion
from xiaozhi.providers.families.dialect import OPENAI, Dialect
from xiaozhi.providers.families.json_body import DONE, JsonBody, json_values
from xiaozhi.providers.families.learnt_limits import NO_TOOLS, LearntLimits, learn, merged, parameters
from xiaozhi.providers.families.thinking_switches import Switches
from xiaozhi.runtime.logs import get_logger

log = get_logger(__name__)


class ChatVllm(Vllm):
    """One request per picture. The answer comes as a whole: the caller reads it out so anyway. Arguments as for
    `ChatLlm`."""

    def __init__(
        self,
        http: VendorHttp,
        url: str,
        fixed: Mapping[str, Any],
        *,
        switches: Switches = (),
        dialect: Dialect = OPENAI,
    ) -> None:
        self._http = http
        self._url = url
        self._fixed = fixed
        self._switches = switches
        self._dialect = dialect
        self._limits = LearntLimits()

    @property
    def limitations(self) -> tuple[str, ...]:
        """See `Provider`."""
        return self._limits.names

    def describe(self, question: str, image: bytes, mime: str, context: CallContext) -> str:
        """The model's answer to `question` about `image`."""
        picture = f"data:{mime};base64,{base64.b64encode(image).decode()}"
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}]
        messages = [{"role": "user", "content": content}]
        limits = before = self._limits
        while True:
            body = {**self._parameters(limits), "messages": messages}
            try:
                text = self._ask(body)
            except BadToolCall as error:
                raise VendorGarbage(self._http.vendor, str(error)) from error
            except VendorError as error:
                learnt = learn(error, body, NO_TOOLS, limits)
                if learnt is None or self._parameters(learnt) == self._parameters(limits):
                    raise
                limits = learnt
                continue
            if limits is not before:
                self._limits = merged(self._limits, before, limits)
                log.warning("vendor limitation", provider=self.name, vendor=self._http.vendor, limitations=limits.names)
            return text

    def _parameters(self, limits: LearntLimits) -> dict[str, Any]:
        return parameters(self._fixed, limits, self._switches)

    def _ask(self, body: dict[str, Any]) -> str:
        vendor = self._http.vendor
        answer, parser = Completion(vendor), JsonBody()
        pieces: list[str] = []
        with self._http.stream("POST", self._url, json=self._dialect.request(body)) as reply:
            for value in self._dialect.values(json_values(reply, parser), vendor):
                if value is DONE:
                    break
                retractions = answer.text.retractions
                pieces.append(answer.take(value))
                if answer.text.retractions != retractions:
                    del pieces[:-1]
            if not answer.heard:
                raise answer.nothing(parser.odd, reply.content_type)
        pieces += [piece for piece in answer.end() if isinstance(piece, str)]
        text = "".join(pieces).strip()
        if not text:
            raise VendorGarbage(vendor, "no text in the answer")
        return text

    def close(self) -> None:
        """Break off what runs."""
        self._http.close()
