"""From settings to an agent: providers with their fallbacks, tools, prompts, phrases.

Part of the composition root. Not a registry: which class serves a block is found by `providers/registry.py`. What is
made here belongs to one configuration, or to one device's settings over it; what outlives a reload (the inference pool,
caches, stores) comes in as `SessionServices`, and providers are leased from the `ProviderPool`."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import gevent
from lunar_python import Solar

from xiaozhi.devices.quota import OutputQuota
from xiaozhi.errors import Fault, Overloaded, SettingsError, StorageError
from xiaozhi.net.http import VendorHttp
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.asr import AsrTraits
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn
from xiaozhi.providers.contracts.voiceprint import LearningVoiceprint
from xiaozhi.providers.pool import LIMITED_BY, OWN_LIMITS, LeasedProviders, ProviderPool, vendor_limits
from xiaozhi.session.agent import Agent, ProviderSet
from xiaozhi.session.services import SessionServices
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.phrases import Phrases
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.context import LiveContext
from xiaozhi.session.turns.context_sources import DEADLINE_S as CONTEXT_DEADLINE_S
from xiaozhi.session.turns.context_sources import HttpContextSource
from xiaozhi.session.turns.prompt import Prompter
from xiaozhi.session.turns.wakeup import greetings_for
from xiaozhi.settings import Loaded, Settings, zone_of
from xiaozhi.settings.fields import text_in, words
from xiaozhi.settings.layers import ships
from xiaozhi.settings.schema import FALLING_BACK, REFERRING
from xiaozhi.speech.language import named_language, spoken_language
from xiaozhi.storage.database import Database, sqlite_url
from xiaozhi.tools import registry as tool_registry
from xiaozhi.tools.base import ToolServices
from xiaozhi.tools.plugins.get_weather import Weather
from xiaozhi.tools.shared_tools import check_shared
from xiaozhi.tools.voices import VoiceBook

OFFLOAD_DEADLINE_S = 10.0
VOICE_TOOLS = ("remember_voice", "forget_voice")
"""On offer where voices are learnt, whatever the configuration lists."""


def check(loaded: Loaded, known: Settings | None = None) -> list[Fault]:
    """Every fault in the blocks of providers and tools that are in use, and in the files that they name; builds
    nothing. `known`: provider blocks that stand there in the same way have been checked."""
    faults: list[Fault] = []
    settings = loaded.settings
    for kind, name in _unlike(settings, known):
        try:
            block = settings.block(kind, name)
            options = registry.validate(kind, name, block)
            # Two blocks may share a file, and its faults.
            found = registry.registration(kind, name, block).cls.faults(options, loaded.config_dir)
            faults += [fault for fault in found if fault not in faults]
        except SettingsError as error:
            faults += error.faults
        if kind in LIMITED_BY:
            try:
                vendor_limits(settings, kind, name)
            except SettingsError as error:
                faults += [fault for fault in error.faults if fault.key not in {other.key for other in faults}]
    faults += _unheard_ends(settings)
    if known is None or not _same_tools(settings, known):
        faults += selected_tools(settings).faults
    return [*faults, *check_shared(settings)[0]]


def warnings(loaded: Loaded, known: Settings | None = None) -> list[str]:
    """Everything in a configuration that has no effect or cannot work as it is written. `known`: as for `check`."""
    settings = loaded.settings
    found = list(loaded.warnings)
    if settings.voiceprint.url and settings.voiceprint.type != "http":
        found.append(f"voiceprint.url has no effect: voiceprint.type is {settings.voiceprint.type}")
    elif settings.voiceprint.url and not settings.voiceprint.speakers:
        found.append("voiceprint.url has no effect: voiceprint.speakers names nobody to be recognised")
    conversation = settings.conversation
    if conversation.late_answer_limit < min(conversation.late_answer_seconds, settings.tool_call_timeout):
        found.append("conversation.late_answer_limit has no effect: a call is waited for longer before it is late")
    for kind, name in _unlike(settings, known):
        block = settings.block(kind, name)
        if kind == "end_of_turn" and (kind, name) not in settings.automatic:
            found += _unasked(name, block)
        found += registry.ignored(kind, name, block, _read_elsewhere(kind, name, block))
        found += registry.oddities(kind, name, block)
    if known is None or not _same_tools(settings, known):
        untouched = [block for block in settings.plugins if _ships(loaded, "plugins", block)]
        listed = not _ships(loaded, "Intent", settings.selected("intent"))
        found += selected_tools(settings, untouched, listed=listed).warnings
    if known is None:
        found += check_shared(settings)[1]
    return found


def _same_tools(settings: Settings, known: Settings) -> bool:
    """Whether both ask for the same tools of the server, with the same options."""
    return (
        settings.plugins == known.plugins
        and settings.Intent == known.Intent
        and settings.selected("intent") == known.selected("intent")
        and settings.voiceprint.type == known.voiceprint.type
    )


def _ships(loaded: Loaded, *path: str) -> bool:
    """Whether everything at a place in the configuration stands as it ships."""
    found = [source for key, source in loaded.merged.origins.items() if key[: len(path)] == path]
    return bool(found) and all(ships(source) for source in found)


def _unlike(settings: Settings, known: Settings | None) -> Iterator[tuple[str, str]]:
    """(kind, name) of the blocks in use that are there and stand in `known` in another way."""
    checked = (*known.in_use(), *known.automatic) if known is not None else ()
    for kind, name in (*settings.in_use(), *settings.automatic):
        if known is not None and (kind, name) in checked and settings.shares(kind, known):
            continue  # without comparing what a device's own settings have left alone
        if name not in settings.modules(kind):
            continue  # that is a fault of its own
        if known is None or (kind, name) not in checked or known.block(kind, name) != settings.block(kind, name):
            yield kind, name


def _unheard_ends(settings: Settings) -> Iterator[Fault]:
    """Utterances may be longer than a recogniser takes."""
    longest_ms = settings.conversation.max_utterance_ms
    for kind, name in settings.in_use():
        if kind != "asr" or name not in settings.modules(kind):
            continue
        try:
            traits = registry.registration(kind, name, settings.block(kind, name)).cls.traits
        except SettingsError:
            continue  # that is a fault of its own
        if isinstance(traits, AsrTraits) and 0 < traits.longest_s * 1000 < longest_ms:
            expected = f"must be at most {traits.longest_s * 1000:.0f}: the vendor of ASR.{name} hears no more"
            yield Fault("conversation.max_utterance_ms", str(longest_ms), expected)


def _unasked(name: str, block: Mapping[str, Any]) -> list[str]:
    """A warning for a model of the end of a turn that was chosen and is not here. By default it may come later."""
    try:
        cls = registry.registration("end_of_turn", name, block).cls
        missing = cls.missing(registry.validate("end_of_turn", name, block)) if issubclass(cls, EndOfTurn) else ""
    except SettingsError:
        return []  # that is a fault of its own
    return [f"selected_module.EndOfTurn has no effect yet: {name} needs {missing}"] if missing else []


def _read_elsewhere(kind: str, name: str, block: Mapping[str, Any]) -> list[str]:
    """Keys of a block that somebody else than its provider looks at."""
    try:
        cls = registry.registration(kind, name, block).cls
    except SettingsError:
        return []
    keys = list(OWN_LIMITS) if kind in LIMITED_BY and not cls.traits.offline else []
    keys += ["fallback"] if kind in FALLING_BACK else []
    keys += ["llm"] if kind in REFERRING and cls.needs_services else []
    keys += ["language"] if kind == "tts" and _named(block) else []
    return keys + {"vad": ["pause_ms"], "intent": ["functions"]}.get(kind, [])


def make_database(settings: Settings) -> Database:
    """The database of a configuration, not started."""
    return Database(settings.storage.url or sqlite_url(settings.data_dir / "xiaozhi.sqlite"))


def make_agent(
    loaded: Loaded,
    provider_pool: ProviderPool,
    services: SessionServices,
    *,
    on_unused: Callable[[Agent], None],
    like: Agent | None = None,
) -> Agent:
    """The agent of one configuration, its providers warmed up. `like`: an agent of the same configuration, whose prompt
    template need not be compiled again. Blocks while models load.

    Raises SettingsError, and whatever a provider's warm-up raises; then nothing of it is left."""
    settings = loaded.settings
    leased = LeasedProviders(provider_pool, loaded)
    closing = ExitStack()
    closing.callback(leased.release)
    try:
        providers = _provider_set(leased, settings)
        # Each step keeps the hub for milliseconds; sound that is due goes out in between.
        gevent.sleep(0)
        sources = [HttpContextSource(provider) for provider in settings.context_providers]
        for source in sources:
            closing.callback(source.close)
        voices = providers.voiceprint if isinstance(providers.voiceprint, LearningVoiceprint) else None
        plugins = selected_tools(settings).build(_tool_services(settings, services, closing, voices))
        weather = plugins.owner(Weather)
        context = LiveContext(
            sources,
            surroundings=weather.surroundings if weather is not None and weather.works else None,
            deadline=CONTEXT_DEADLINE_S,
        )
        briefing = plugins.briefing if providers.intent.traits.offers_tools else ""
        prompter = _prompter(loaded, context, briefing, like)
        shared = services.shared_tools.lease(settings)
        closing.callback(shared.release)
    except BaseException:
        closing.close()
        raise
    phrases = Phrases(
        providers.tts,
        texts=_phrases(settings, providers),
        patient=_usual_replies(settings, providers),
        correct_words=settings.correct_words,
        replies=services.speech_cache,
        inference=services.inference,
        emergency=leased.emergency_voice,
    )
    closing.callback(phrases.close)
    return Agent(
        settings=settings,
        providers=providers,
        prompter=prompter,
        phrases=phrases,
        plugins=plugins.source,
        shared_tools=shared.sources,
        answers=AnswerCache(shared=services.shared_answers) if settings.conversation.llm_cache else None,
        output_limit=_own_limit(settings, like),
        close=closing.close,
        on_unused=on_unused,
    )


def _own_limit(settings: Settings, like: Agent | None) -> int | None:
    if like is None or settings.device_max_output_size == like.settings.device_max_output_size:
        return None
    return settings.device_max_output_size


def _provider_set(leased: LeasedProviders, settings: Settings) -> ProviderSet:
    kinds = ("vad", "asr", "llm", "vllm", "tts", "memory", "intent", "end_of_turn")
    used = {kind: settings.selected(kind) for kind in kinds if settings.selected(kind)}
    recogniser = leased.selected("asr")
    if recogniser.traits.offline:
        used |= dict(settings.automatic)
    return ProviderSet(
        vad=leased.selected("vad"),
        asr=recogniser,
        llm=leased.selected("llm"),
        tts=leased.selected("tts"),
        memory=leased.selected("memory"),
        intent=leased.selected("intent"),
        vllm=leased.selected("vllm") if settings.selected("vllm") else None,
        voiceprint=leased.selected("voiceprint") if settings.selected("voiceprint") else None,
        end_of_turn=leased.get("end_of_turn", used["end_of_turn"]) if "end_of_turn" in used else None,
        names=used,
    )


def _prompter(loaded: Loaded, context: LiveContext, briefing: str, like: Agent | None) -> Prompter:
    """The renderer of system prompts. Raises SettingsError."""
    settings, template = loaded.settings, loaded.prompt_template
    return Prompter(
        base_prompt=settings.prompt,
        template_dir=template.parent,
        template_name=template.name,
        zone=zone_of(settings),
        language=language_to_answer_in(settings),
        quota_refusal=settings.quota_response,
        briefing=briefing,
        speakers=_speakers(settings),
        remembered=settings.summaryMemory,
        context=context,
        lunar=_lunar_date,
        like=like.prompter if like is not None else None,
    )


def language_to_answer_in(settings: Settings) -> str:
    """As the prompt calls it; without a setting what the block of the voice names, as existing files have it. "": the
    user's."""
    return settings.language or _named(settings.block("tts", settings.selected("tts")))


def _named(block: Mapping[str, Any]) -> str:
    written = block.get("language")
    return written if isinstance(written, str) and named_language(written) else ""


def limit_output(quota: OutputQuota, limit: int) -> None:
    """Hold devices to `limit` characters a day. Raises SettingsError when their counts cannot be kept."""
    try:
        quota.adopt(limit)
    except (StorageError, Overloaded) as error:
        expected = f"a limit whose counts can be kept ({error})"
        raise SettingsError([Fault("device_max_output_size", str(limit), expected)]) from error


def usual_voice(settings: Settings) -> VoiceFormat:
    """What most devices will play: phrases are prepared for it before the first one comes."""
    audio = settings.xiaozhi.audio_params
    return VoiceFormat(audio.format, audio.sample_rate, audio.frame_duration)


def _phrases(settings: Settings, providers: ProviderSet) -> list[str]:
    """Texts that will be said again and again, the most urgent first."""
    languages = likely_languages(settings.language, settings.wakeup_words)
    texts = [text_in(settings.system_error_response, language) for language in languages]
    if settings.enable_greeting and settings.enable_wakeup_words_response_cache:
        texts += greetings_for(settings.wakeup_words)
    if settings.device_max_output_size:
        texts += [text_in(settings.quota_response, language) for language in languages]
    return list(dict.fromkeys(filter(None, [*texts, providers.asr.traits.unheard_reply])))


def _usual_replies(settings: Settings, providers: ProviderSet) -> list[str]:
    """Those that are in a language which the assistant will be spoken to in."""
    languages = likely_languages(settings.language, settings.wakeup_words)
    replies = providers.llm.traits.usual_replies
    return [text for text in replies if languages == ("",) or spoken_language(text) in languages]


@functools.lru_cache(maxsize=64)
def likely_languages(language: str, wakeup_words: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the assistant will be spoken to in, as far as the configuration shows."""
    named = named_language(language)
    if named:
        return (named,)
    return tuple(dict.fromkeys(map(spoken_language, wakeup_words))) or ("",)


def selected_tools(
    settings: Settings, untouched: Collection[str] = (), *, listed: bool = True
) -> tool_registry.Selection:
    """The server's own tools that the configuration asks for: checked, not built. `untouched`, `listed`: what of it
    somebody wrote, for warnings."""
    intent = settings.selected("intent")
    wanted = settings.modules("intent").get(intent, {}).get("functions") or []
    names = words(wanted) if isinstance(wanted, str) else map(str, wanted) if isinstance(wanted, list) else ()
    return tool_registry.select(
        [*names, *(VOICE_TOOLS if _learns_voices(settings) else ())],
        settings.plugins,
        where=f"Intent.{intent}.functions",
        untouched=untouched,
        listed=listed,
        under_console=settings.under_console,
    )


def _learns_voices(settings: Settings) -> bool:
    """Whether people can tell the assistant to know them by their voices."""
    name = settings.selected("voiceprint")
    if not name:
        return False
    try:
        cls = registry.registration("voiceprint", name, settings.block("voiceprint", name)).cls
    except SettingsError:
        return False  # that is a fault of its own
    return issubclass(cls, LearningVoiceprint)


def _tool_services(
    settings: Settings, services: SessionServices, closing: ExitStack, voices: VoiceBook | None
) -> ToolServices:
    here, inference = zone_of(settings), services.inference

    def http(vendor: str, **deadlines: Any) -> VendorHttp:
        client = VendorHttp(vendor, **deadlines)
        closing.callback(client.close)
        return client

    return ToolServices(
        now=lambda: datetime.datetime.now(here),
        offload=lambda function: inference.run(function, kind="other", deadline=OFFLOAD_DEADLINE_S),
        http=http,
        ring=services.ring or services.sessions.ring,
        others=services.others,
        address_book=services.address_book,
        reminders=services.reminders,
        voices=voices,
    )


def _speakers(settings: Settings) -> str:
    """The people that are known by their voices, one per line, for the prompt."""
    if not settings.selected("voiceprint"):
        return ""
    parts = [[part.strip() for part in speaker.split(",", 2)] for speaker in settings.voiceprint.speakers]
    return "\n".join(": ".join(filter(None, part[1:])) for part in parts)


@functools.lru_cache(maxsize=4)
def _lunar_date(day: datetime.date) -> str:
    lunar = Solar.fromYmd(day.year, day.month, day.day).getLunar()
    return f"{lunar.getYearInGanZhi()}年{lunar.getMonthInChinese()}月{lunar.getDayInChinese()}"
