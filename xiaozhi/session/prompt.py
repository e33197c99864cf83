"""The system prompt of a turn: a Jinja2 template filled with what is known of the moment, the place and the device.

Not a memory and not a context provider: both are asked with a deadline, and what does not come in time is left out. Context providers are
fetched in the background and kept for a minute, so that a slow one never stands between a question and its answer.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import gevent
from cachetools import TTLCache
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from xiaozhi.errors import Fault, SettingsError, VendorError
from xiaozhi.providers.base import Memory
from xiaozhi.runtime import tasks
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.visit import Identity
from xiaozhi.speech.emotion import EMOJI_LIST

log = get_logger(__name__)

RECALL_DEADLINE_S = 1.5
CONTEXT_KEPT_S = 60.0
CONTEXT_CACHE_SIZE = 2_000
_WEEKDAYS = ("星期一 Monday", "星期二 Tuesday", "星期三 Wednesday", "星期四 Thursday", "星期五 Friday", "星期六 Saturday", "星期日 Sunday")

ContextProvider = Callable[[Identity], Mapping[str, str]]
"""Blocking; raises VendorError. Each entry becomes a line of the prompt."""


class Prompter:
    """Renders system prompts. `lunar`, `locate` are injected lookups that must not block (they answer from a cache)."""

    def __init__(
        self,
        *,
        base_prompt: str,
        template_dir: Path,
        template_name: str,
        timezone_offset: float,
        language: str = "",
        quota_refusal: str = "",
        context_providers: Sequence[ContextProvider] = (),
        lunar: Callable[[datetime.date], str] = lambda day: "",
        locate: Callable[[str], tuple[str, str]] = lambda ip: ("", ""),
        now: Callable[[], float] = time.time,
        context_deadline: float = 3.0,
    ) -> None:
        self.quota_refusal = quota_refusal
        self._base_prompt = base_prompt
        self._zone = datetime.timezone(datetime.timedelta(hours=timezone_offset))
        self._language = language
        self._context_providers = tuple(context_providers)
        self._context_deadline = context_deadline
        self._context: TTLCache[str, tuple[str, ...]] = TTLCache(CONTEXT_CACHE_SIZE, CONTEXT_KEPT_S)
        self._fetching: set[str] = set()
        self._lunar = lunar
        self._locate = locate
        self._now = now
        environment: Environment = SandboxedEnvironment(loader=FileSystemLoader(template_dir), undefined=StrictUndefined, autoescape=False)
        try:
            self._template = environment.get_template(template_name)
        except TemplateError as error:
            raise SettingsError(
                [
                    Fault(
                        "prompt_template",
                        repr(template_name),
                        f"a valid Jinja2 template in {template_dir} ({type(error).__name__}: {error})",
                    )
                ]
            ) from error

    def system_prompt(self, identity: Identity, role: str, memory: Memory, query: str = "", *, emoji: bool = True) -> str:
        """The system prompt for one question; `role` replaces the configured base prompt when not empty."""
        moment = datetime.datetime.fromtimestamp(self._now(), self._zone)
        location, weather = self._locate(identity.peer_ip)
        return self._template.render(
            base_prompt=role or self._base_prompt,
            current_time=f"{moment:%H:%M}",
            today_date=f"{moment:%Y-%m-%d}",
            today_weekday=_WEEKDAYS[moment.weekday()],
            lunar_date=self._lunar(moment.date()),
            local_address=location,
            weather_info=weather,
            device_id=identity.device_id,
            client_ip=identity.peer_ip,
            emoji_list=EMOJI_LIST,
            emojiList=EMOJI_LIST,
            emoji_enabled=emoji,
            speakers="",
            language=self._language,
            memory=self._recall(memory, identity.device_id, query),
            dynamic_context="\n".join(self._context_of(identity)),
        ).strip()

    def prefetch(self, identity: Identity) -> None:
        """Start fetching the context of a device that has just arrived; returns at once."""
        if self._context_providers and identity.device_id not in self._fetching:
            self._fetching.add(identity.device_id)
            tasks.spawn("context", self._fetch, identity)

    def _context_of(self, identity: Identity) -> Sequence[str]:
        known = self._context.get(identity.device_id)
        if known is None:
            self.prefetch(identity)
        return known or ()

    def _fetch(self, identity: Identity) -> None:
        lines: list[str] = []
        try:
            for fetch in self._context_providers:
                try:
                    with gevent.Timeout(self._context_deadline, VendorError("context", "too slow")):
                        lines += [f"- {key}: {value}" for key, value in fetch(identity).items()]
                except VendorError as error:
                    log.warning("context provider failed", error=str(error)[:200])
            self._context[identity.device_id] = tuple(lines)
        finally:
            self._fetching.discard(identity.device_id)

    @staticmethod
    def _recall(memory: Memory, device_id: str, query: str) -> str:
        if not memory.remembers:
            return ""
        try:
            with gevent.Timeout(RECALL_DEADLINE_S, VendorError(memory.name, "recall too slow")):
                return memory.recall(device_id, query)
        except VendorError as error:
            log.warning("memory not recalled", vendor=error.vendor, error=str(error)[:200])
            return ""
