"""From settings to objects: providers with their guards and fallbacks, tools, prompts, and the kit that sessions share.

Part of the composition root (`app.py` starts and stops what is assembled here). Not a registry: which class serves a block is found by
`providers/registry.py`. Everything made here belongs to one configuration and is replaced as a whole when it is reloaded; what outlives a
reload (the inference pool, caches, stores) comes in as `Fixtures`.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lunar_python import Solar

from xiaozhi.audio.clips import Clips
from xiaozhi.audio.decode import decode_file
from xiaozhi.context_sources import DEADLINE_S as CONTEXT_DEADLINE_S
from xiaozhi.context_sources import HttpContextSource
from xiaozhi.errors import Fault, SettingsError, XiaozhiError
from xiaozhi.history.quota import OutputQuota
from xiaozhi.protocol import messages as wire
from xiaozhi.providers import registry
from xiaozhi.providers.adapters import VendorLimits, guard, with_fallback
from xiaozhi.providers.base import Provider, ProviderSet, Services, Tts
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.resilience import Observer as VendorObserver
from xiaozhi.runtime.resilience import State
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.answers import AnswerCache
from xiaozhi.session.context import LiveContext
from xiaozhi.session.dialogue import ResumeStore
from xiaozhi.session.frames import VoiceFormat
from xiaozhi.session.kit import Quota, SessionKit
from xiaozhi.session.memories import MemoryWriter
from xiaozhi.session.phrases import Phrases
from xiaozhi.session.prompt import Prompter
from xiaozhi.session.record import TurnRecord
from xiaozhi.session.replies import ReplyCache
from xiaozhi.session.visit import Identity
from xiaozhi.session.wakeup import greetings_for
from xiaozhi.settings import Loaded, Settings
from xiaozhi.tools import plugins
from xiaozhi.tools.device_mcp import Vision

log = get_logger(__name__)

EMERGENCY_VOICE = "Espeak"
"""The block under TTS that speaks when the chosen voice cannot: it works without a network."""
# Guarded kinds and where their limits stand in `ai_providers`.
_GUARDED = ("asr", "llm", "tts")
# Keys of a provider's own block that override `ai_providers.<kind>`.
_LIMIT_KEYS = ("max_concurrent", "queue_size", "enable_queue")
OFFLOAD_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Fixtures:
    """What stays when the configuration changes."""

    inference: InferencePool
    replies: ReplyCache
    resume: ResumeStore
    memories: MemoryWriter
    quota: OutputQuota
    lasting: Tasks
    vision: Callable[[Identity], Vision | None]
    admit_turn: Callable[[], None]
    observe: Callable[[str, TurnRecord], None]
    on_discard: Callable[[], None]
    on_frame: Callable[[float], None] | None
    server_command: Callable[[wire.ServerCommand, str], wire.ServerReply]


def check(loaded: Loaded) -> list[Fault]:
    """Every fault in the provider blocks that are in use; builds nothing."""
    faults: list[Fault] = []
    for kind, name in loaded.settings.in_use():
        try:
            registry.validate(kind, name, loaded.settings.block(kind, name))
        except SettingsError as error:
            faults += error.faults
    return faults


class ProviderShop:
    """Builds the providers of one configuration, each block once, and closes them together."""

    def __init__(
        self,
        loaded: Loaded,
        inference: InferencePool,
        observer: VendorObserver,
        on_breaker: Callable[[str, State], None] = lambda name, state: None,
    ) -> None:
        self._settings = loaded.settings
        self._observer = observer
        self._on_breaker = on_breaker
        self._also_closed: list[Callable[[], None]] = []
        self._services = Services(inference=inference, data_dir=loaded.settings.data_dir, config_dir=loaded.config_dir, provider=self.get)
        self._built: dict[tuple[str, str], Any] = {}

    def get(self, kind: str, name: str = "") -> Any:
        """The provider of a block (the selected one by default), guarded; built on first use. Raises SettingsError."""
        key = (kind, name or self._settings.selected(kind))
        if key not in self._built:
            self._built[key] = self._build(*key)
        return self._built[key]

    def selected(self, kind: str) -> Any:
        """The selected provider of a kind with its fallbacks behind it."""
        names = (self._settings.selected(kind), *self._settings.fallbacks(kind))
        chain = [self.get(kind, name) for name in dict.fromkeys(names)]
        return chain[0] if len(chain) == 1 else with_fallback(chain)

    def emergency_voice(self) -> Tts | None:
        """The voice that needs no network, loaded on the first call; None when this installation has none. May block for seconds."""
        if EMERGENCY_VOICE not in self._settings.modules("tts"):
            return None
        try:
            voice: Tts = self.get("tts", EMERGENCY_VOICE)
            voice.warm_up()
        except (XiaozhiError, ImportError, OSError) as error:
            log.warning("no emergency voice", error=str(error)[:200])
            return None
        return voice

    def close_with_me(self, close: Callable[[], None]) -> None:
        """Call `close` when the providers are closed, before them."""
        self._also_closed.append(close)

    def warm_up(self) -> None:
        """Load models and open pools; blocks for seconds."""
        for built in list(self._built.values()):
            built.warm_up()

    def close(self) -> None:
        """Close every provider, and what works with them."""
        for close in self._also_closed:
            close()
        for built in self._built.values():
            built.close()

    def _build(self, kind: str, name: str) -> Provider:
        built: Provider = registry.build(kind, name, self._settings.block(kind, name), self._services)
        if built.offline or kind not in _GUARDED:
            return built
        general = getattr(self._settings.ai_providers, kind)
        own = {key: value for key, value in self._settings.block(kind, name).items() if key in _LIMIT_KEYS}
        limits = general.model_copy(update=own)
        guarded: Any = guard(
            kind,
            built,
            VendorLimits(limits.max_concurrent, limits.queue_size, limits.enable_queue, float(limits.timeout)),
            observer=self._observer,
        )
        breaker = guarded.guard.breaker
        if breaker is not None:
            breaker.listeners.append(self._on_breaker)
        done: Provider = guarded
        return done


def provider_set(shop: ProviderShop, settings: Settings) -> ProviderSet:
    """The providers a session works with. Raises SettingsError."""
    kinds = ("vad", "asr", "llm", "vllm", "tts", "memory", "intent")
    return ProviderSet(
        vad=shop.selected("vad"),
        asr=shop.selected("asr"),
        llm=shop.selected("llm"),
        tts=shop.selected("tts"),
        memory=shop.selected("memory"),
        intent=shop.selected("intent"),
        vllm=shop.selected("vllm") if settings.selected("vllm") else None,
        names={kind: settings.selected(kind) for kind in kinds if settings.selected(kind)},
    )


def session_kit(loaded: Loaded, shop: ProviderShop, fixtures: Fixtures) -> tuple[SessionKit, list[str]]:
    """The kit of one configuration, and warnings for the log. Raises SettingsError."""
    settings = loaded.settings
    providers = provider_set(shop, settings)
    warnings: list[str] = []
    tools = plugins.load(_wanted_plugins(settings), settings.plugins, _plugin_services(settings, fixtures.inference))
    if tools.unknown:
        warnings.append(f"Intent.{settings.selected('intent')}.functions: not available here, left out: {', '.join(tools.unknown)}")
    phrases = Phrases(
        providers.tts,
        texts=_phrases(settings, providers),
        correct_words=settings.correct_words,
        replies=fixtures.replies,
        inference=fixtures.inference,
        emergency=shop.emergency_voice,
    )
    shop.close_with_me(phrases.close)
    kit = SessionKit(
        settings=settings,
        providers=providers,
        inference=fixtures.inference,
        replies=fixtures.replies,
        phrases=phrases,
        clips=Clips(decode_file),
        answers=AnswerCache() if settings.conversation.llm_cache else None,
        resume=fixtures.resume,
        prompter=prompter(loaded.prompt_template, settings, _live_context(settings, shop)),
        memories=fixtures.memories,
        quota=Quota(left=fixtures.quota.left, spend=fixtures.quota.spend),
        plugins=tools.source,
        lasting=fixtures.lasting,
        vision=fixtures.vision,
        admit_turn=fixtures.admit_turn,
        observe=fixtures.observe,
        on_discard=fixtures.on_discard,
        on_frame=fixtures.on_frame,
        server_command=fixtures.server_command,
    )
    return kit, warnings


def usual_voice(settings: Settings) -> VoiceFormat:
    """What most devices will play: phrases are prepared for it before the first one comes."""
    audio = settings.xiaozhi.audio_params
    return VoiceFormat(audio.format, audio.sample_rate, audio.frame_duration)


def _phrases(settings: Settings, providers: ProviderSet) -> list[str]:
    """Texts that will be said again and again, the most urgent first."""
    texts = [settings.system_error_response]
    if settings.enable_greeting and settings.enable_wakeup_words_response_cache:
        texts += greetings_for(settings.wakeup_words)
    if settings.device_max_output_size:
        texts.append(settings.quota_response)
    return [*texts, *filter(None, [providers.asr.unheard_reply])]


def _live_context(settings: Settings, shop: ProviderShop) -> LiveContext:
    sources = [HttpContextSource(provider) for provider in settings.context_providers]
    for source in sources:
        shop.close_with_me(source.close)
    return LiveContext(sources, deadline=CONTEXT_DEADLINE_S)


def prompter(template: Path, settings: Settings, context: LiveContext) -> Prompter:
    """The renderer of system prompts. Raises SettingsError."""
    return Prompter(
        base_prompt=settings.prompt,
        template_dir=template.parent,
        template_name=template.name,
        timezone_offset=settings.server.timezone_offset,
        quota_refusal=settings.quota_response,
        context=context,
        lunar=_lunar_date,
    )


def zone(settings: Settings) -> datetime.timezone:
    """The owner's time zone."""
    return datetime.timezone(datetime.timedelta(hours=settings.server.timezone_offset))


def _wanted_plugins(settings: Settings) -> list[str]:
    wanted = settings.block("intent", settings.selected("intent")).get("functions") or []
    return [str(name) for name in wanted] if isinstance(wanted, list) else []


def _plugin_services(settings: Settings, inference: InferencePool) -> plugins.PluginServices:
    here = zone(settings)
    return plugins.PluginServices(
        now=lambda: datetime.datetime.now(here),
        offload=lambda function: inference.run(function, kind="other", deadline=OFFLOAD_DEADLINE_S),
    )


@functools.lru_cache(maxsize=4)
def _lunar_date(day: datetime.date) -> str:
    lunar = Solar.fromYmd(day.year, day.month, day.day).getLunar()
    return f"{lunar.getYearInGanZhi()}年{lunar.getMonthInChinese()}月{lunar.getDayInChinese()}"
