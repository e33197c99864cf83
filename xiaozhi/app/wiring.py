"""From settings to objects: providers with their guards and fallbacks, tools, prompts, and the kit that sessions share.

Part of the composition root (`app.py` starts and stops what is assembled here). Not a registry: which class serves a
block is found by `providers/registry.py`. Everything made here belongs to one configuration and is replaced as a whole
when it is reloaded; what outlives a reload (the inference pool, caches, stores) comes in as `Fixtures`."""

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
from xiaozhi.devices.quota import OutputQuota
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.net.http import VendorHttp
from xiaozhi.protocol import messages as wire
from xiaozhi.providers import registry
from xiaozhi.providers.pool import LIMITED_BY, ProviderPool, vendor_limits
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.agent import ProviderSet
from xiaozhi.session.link import Identity
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.session.services import Quota, SessionServices
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.turn_record import TurnRecord
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.context import LiveContext
from xiaozhi.session.turns.context_sources import DEADLINE_S as CONTEXT_DEADLINE_S
from xiaozhi.session.turns.context_sources import HttpContextSource
from xiaozhi.session.turns.dialogue import ResumeStore
from xiaozhi.session.turns.prompt import Prompter
from xiaozhi.session.turns.wakeup import greetings_for
from xiaozhi.settings import Loaded, Settings
from xiaozhi.storage.database import Database, sqlite_url
from xiaozhi.tools import registry as tool_registry
from xiaozhi.tools.base import ToolServices
from xiaozhi.tools.device_mcp import Vision

log = get_logger(__name__)

OFFLOAD_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Fixtures:
    """What stays when the configuration changes."""

    inference: InferencePool
    database: Database
    replies: SpeechCache
    resume: ResumeStore
    memories: MemoryWriter
    quota: OutputQuota
    lasting: Tasks
    vision: Callable[[Identity], Vision | None]
    admit_turn: Callable[[], None]
    observe: Callable[[str, TurnRecord], None]
    on_discard: Callable[[], None]
    on_frame: Callable[[float], None] | None
    on_drop: Callable[[str], None]
    server_command: Callable[[wire.ServerCommand, str], wire.ServerReply]


def check(loaded: Loaded) -> list[Fault]:
    """Every fault in the blocks of providers and tools that are in use, and in the files that they name; builds
    nothing."""
    faults: list[Fault] = []
    settings = loaded.settings
    for kind, name in settings.in_use():
        try:
            block = settings.block(kind, name)
            options = registry.validate(kind, name, block)
            # Two blocks may share a file, and its faults.
            found = registry.find(kind, str(block["type"])).cls.faults(options, loaded.config_dir)
            faults += [fault for fault in found if fault not in faults]
        except SettingsError as error:
            faults += error.faults
        if kind in LIMITED_BY:
            try:
                vendor_limits(settings, kind, name)
            except SettingsError as error:
                faults += [fault for fault in error.faults if fault.key not in {known.key for known in faults}]
    return [*faults, *selected_tools(settings).faults]


def make_database(settings: Settings) -> Database:
    """The database of a configuration, not started."""
    return Database(settings.storage.url or sqlite_url(settings.data_dir / "xiaozhi.sqlite"))


def provider_set(provider_pool: ProviderPool, settings: Settings) -> ProviderSet:
    """The providers a session works with. Raises SettingsError."""
    kinds = ("vad", "asr", "llm", "vllm", "tts", "memory", "intent")
    return ProviderSet(
        vad=provider_pool.selected("vad"),
        asr=provider_pool.selected("asr"),
        llm=provider_pool.selected("llm"),
        tts=provider_pool.selected("tts"),
        memory=provider_pool.selected("memory"),
        intent=provider_pool.selected("intent"),
        vllm=provider_pool.selected("vllm") if settings.selected("vllm") else None,
        names={kind: settings.selected(kind) for kind in kinds if settings.selected(kind)},
    )


def session_kit(loaded: Loaded, provider_pool: ProviderPool, fixtures: Fixtures) -> tuple[SessionServices, list[str]]:
    """The kit of one configuration, and warnings for the log. Raises SettingsError."""
    settings = loaded.settings
    providers = provider_set(provider_pool, settings)
    tools = selected_tools(settings)
    phrases = Phrases(
        providers.tts,
        texts=_phrases(settings, providers),
        correct_words=settings.correct_words,
        replies=fixtures.replies,
        inference=fixtures.inference,
        emergency=provider_pool.emergency_voice,
    )
    provider_pool.close_with_me(phrases.close)
    kit = SessionServices(
        settings=settings,
        providers=providers,
        inference=fixtures.inference,
        replies=fixtures.replies,
        phrases=phrases,
        clips=Clips(decode_file),
        answers=AnswerCache() if settings.conversation.llm_cache else None,
        resume=fixtures.resume,
        prompter=prompter(loaded.prompt_template, settings, _live_context(settings, provider_pool)),
        memories=fixtures.memories,
        quota=Quota(left=fixtures.quota.left, spend=fixtures.quota.spend),
        plugins=tools.build(_tool_services(settings, fixtures.inference, provider_pool)),
        lasting=fixtures.lasting,
        vision=fixtures.vision,
        admit_turn=fixtures.admit_turn,
        observe=fixtures.observe,
        on_discard=fixtures.on_discard,
        on_frame=fixtures.on_frame,
        on_drop=fixtures.on_drop,
        server_command=fixtures.server_command,
    )
    return kit, list(tools.warnings)


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
    return [*texts, *filter(None, [providers.asr.traits.unheard_reply])]


def _live_context(settings: Settings, provider_pool: ProviderPool) -> LiveContext:
    sources = [HttpContextSource(provider) for provider in settings.context_providers]
    for source in sources:
        provider_pool.close_with_me(source.close)
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


def selected_tools(settings: Settings) -> tool_registry.Selection:
    """The server's own tools that the configuration asks for: checked, not built."""
    intent = settings.selected("intent")
    wanted = settings.block("intent", intent).get("functions") or []
    names = [str(name) for name in wanted] if isinstance(wanted, list) else []
    return tool_registry.select(names, settings.plugins, where=f"Intent.{intent}.functions")


def _tool_services(settings: Settings, inference: InferencePool, provider_pool: ProviderPool) -> ToolServices:
    here = zone(settings)

    def http(vendor: str, **deadlines: Any) -> VendorHttp:
        client = VendorHttp(vendor, **deadlines)
        provider_pool.close_with_me(client.close)
        return client

    return ToolServices(
        now=lambda: datetime.datetime.now(here),
        offload=lambda function: inference.run(function, kind="other", deadline=OFFLOAD_DEADLINE_S),
        http=http,
    )


@functools.lru_cache(maxsize=4)
def _lunar_date(day: datetime.date) -> str:
    lunar = Solar.fromYmd(day.year, day.month, day.day).getLunar()
    return f"{lunar.getYearInGanZhi()}年{lunar.getMonthInChinese()}月{lunar.getDayInChinese()}"
