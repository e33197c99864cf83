"""The system prompt of a turn: a Jinja2 template filled with what is known of the moment, the place and the device.

Not a memory (it is asked under a deadline, and left out when it is late) and not a source of live data (`context.py`).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from xiaozhi.errors import Fault, SettingsError, VendorError
from xiaozhi.providers.contracts.memory import Memory
from xiaozhi.runtime.deadlines import at_most
from xiaozhi.runtime.logs import get_logger
from xiaozhi.session.link import Identity
from xiaozhi.session.turns.context import NOTHING_KNOWN, LiveContext, LiveData
from xiaozhi.speech.emotion import EMOJI_LIST

log = get_logger(__name__)

RECALL_DEADLINE_S = 1.5
_WEEKDAYS = (
    "星期一 Monday",
    "星期二 Tuesday",
    "星期三 Wednesday",
    "星期四 Thursday",
    "星期五 Friday",
    "星期六 Saturday",
    "星期日 Sunday",
)


class Prompter:
    """Renders system prompts. `briefing`: what the tools on offer have to say. `speakers`: who is known by voice, one
    per line. `remembered`: what is known of earlier visits where no memory provider keeps it. `lunar` must not block
    (it answers from a cache). `like`: a prompter of the same template, which need not be compiled again."""

    def __init__(
        self,
        *,
        base_prompt: str,
        template_dir: Path,
        template_name: str,
        zone: datetime.tzinfo,
        language: str = "",
        quota_refusal: Mapping[str, str] = MappingProxyType({}),
        briefing: str = "",
        speakers: str = "",
        remembered: str = "",
        context: LiveContext | None = None,
        lunar: Callable[[datetime.date], str] = lambda day: "",
        now: Callable[[], float] = time.time,
        like: Prompter | None = None,
        recall_deadline: float = RECALL_DEADLINE_S,
    ) -> None:
        self.quota_refusal = quota_refusal
        self._base_prompt = base_prompt
        self._zone = zone
        self._language = language
        self._briefing = briefing
        self._speakers = speakers
        self._remembered = remembered
        self._context = context or LiveContext(())
        self._lunar = lunar
        self._now = now
        self._recall_deadline = recall_deadline
        self._template: Template
        if like is not None:
            self._template = like._template
            return
        environment: Environment = SandboxedEnvironment(
            loader=FileSystemLoader(template_dir), undefined=StrictUndefined, autoescape=False
        )
        try:
            self._template = environment.get_template(template_name)
            self._render(Identity(device_id=""), "", "", NOTHING_KNOWN, emoji=True, timeless=False)
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

    def system_prompt(
        self, identity: Identity, role: str, remembered: str, *, emoji: bool = True, timeless: bool = False
    ) -> str:
        """The system prompt for one question; `role` replaces the configured base prompt when not empty.

        `remembered`: what `recall` gave. `timeless`: without the time of day and who asks, to tell whether two prompts
        mean the same."""
        return self._render(identity, role, remembered, self._context.data(identity), emoji=emoji, timeless=timeless)

    def prefetch(self, identity: Identity) -> None:
        """A device has arrived: have its live data ready; returns at once."""
        self._context.prefetch(identity)

    def await_context(self, identity: Identity) -> None:
        """Before a device's first question: wait a moment for its live data, if that is still on its way."""
        self._context.await_first(identity)

    def recall(self, memory: Memory, device_id: str, query: str) -> str:
        """What is remembered of earlier sessions, "" when nothing is, or not soon enough. Blocks at most
        `recall_deadline` seconds."""
        if not memory.traits.remembers:
            return self._remembered
        try:
            with at_most(self._recall_deadline, VendorError(memory.name, "recall too slow")):
                return memory.recall(device_id, query)
        except VendorError as error:
            log.warning("memory not recalled", vendor=error.vendor, error=str(error)[:200])
            return ""

    def _render(
        self, identity: Identity, role: str, remembered: str, context: LiveData, *, emoji: bool, timeless: bool
    ) -> str:
        moment = datetime.datetime.fromtimestamp(self._now(), self._zone)
        return self._template.render(
            base_prompt="\n\n".join(filter(None, [role or self._base_prompt, self._briefing])),
            current_time="" if timeless else f"{moment:%H:%M}",
            today_date=f"{moment:%Y-%m-%d}",
            today_weekday=_WEEKDAYS[moment.weekday()],
            lunar_date=self._lunar(moment.date()),
            local_address=context.place,
            weather_info=context.weather,
            device_id="" if timeless else identity.device_id,
            client_ip="" if timeless else identity.peer_ip,
            emoji_list=EMOJI_LIST,
            emojiList=EMOJI_LIST,
            emoji_enabled=emoji,
            speakers=self._speakers,
            language=self._language,
            memory=remembered,
            dynamic_context="\n".join(f"- {line}" for line in context.lines),
        ).strip()
