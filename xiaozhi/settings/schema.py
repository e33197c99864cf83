"""Everything that can be set, with units, ranges and defaults. `Settings()` is the server as it comes out of the box,
minus its providers.

The defaults stand here and, commented for people, in config/default.yaml; a test holds the two together. Blocks of
providers and plugins are carried as written: only their owners know what belongs in them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator

from xiaozhi.settings.boards import Board, BoardTraits, FirmwareRelease
from xiaozhi.settings.conversation import Conversation
from xiaozhi.settings.fields import (
    DatabaseUrl,
    EmptyIsNone,
    EndpointUrl,
    LogLevel,
    Seconds,
    SecondsOrOff,
    Section,
    TextByLanguage,
    Words,
    words,
)
from xiaozhi.settings.fixed_texts import APOLOGY, QUOTA_REACHED
from xiaozhi.settings.history import HistorySettings
from xiaozhi.settings.management import ManagerApi
from xiaozhi.settings.mcp import McpSettings
from xiaozhi.settings.mqtt import MqttSettings
from xiaozhi.settings.server import ServerSettings
from xiaozhi.settings.services import ContextProvider, VoiceprintService
from xiaozhi.settings.turn import TurnSettings
from xiaozhi.settings.vendor_limits import AiProviders

VOICEPRINT = "voiceprint"
"""The kind without selected_module: its section is its block."""
SECTIONS: Mapping[str, str] = {
    "vad": "VAD",
    "asr": "ASR",
    "llm": "LLM",
    "vllm": "VLLM",
    "tts": "TTS",
    "memory": "Memory",
    "intent": "Intent",
    "end_of_turn": "EndOfTurn",
}
"""Kind of provider -> name of its section, and of its key in `selected_module` and `fallback`."""

REFERRING = ("memory", "intent")
"""Kinds whose selected block may name a language model of its own under `llm`."""

FALLING_BACK = ("asr", "llm", "vllm", "tts")
"""Kinds of which another block may take over, as the section `fallback` or `fallback` in a block says."""

CHIME_OF_OTHERS = "config/assets/tts_notify.mp3"
"""What files written for the existing server point at. It is not shipped here; the built-in chime takes its place."""

AUTO = "auto"
"""Of `selected_module.EndOfTurn`: the block AUTOMATIC where the recogniser works on this machine, nothing elsewhere. A
server that hears by a vendor need not hold a model for this."""
AUTOMATIC = "SmartTurn"

Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], LogLevel]
Blocks = dict[str, dict[str, Any]]


class Log(Section):
    """Where log lines go and how much they tell."""

    log_level: Level = Field(default="INFO", description="Least severe level that is written.")
    log_dir: str = Field(default="tmp", description="Directory of log files; empty: no files.")
    log_file: str = Field(default="server.log", description="Name of the log file (JSON lines).")
    data_dir: str = Field(
        default="data", min_length=1, description="Directory of everything that must survive a restart."
    )
    levels: dict[str, Level] = Field(
        default_factory=dict, description="Level by module, such as xiaozhi.session: DEBUG."
    )
    content: bool = Field(default=False, description="Log what is said. Off: speech and texts are left out.")
    json_console: bool = Field(default=False, alias="json", description="JSON on the terminal too, for containers.")
    max_bytes: int = Field(
        default=10_485_760, ge=65_536, le=10_737_418_240, description="Size at which the log file is rotated, bytes."
    )
    backups: int = Field(default=5, ge=0, le=1_000, description="Rotated files to keep.")


class StorageSettings(Section):
    """The database of everything that must survive a restart."""

    url: DatabaseUrl = Field(
        default="",
        repr=False,
        description="sqlite:///file or postgresql://user:password@host/name; empty: xiaozhi.sqlite in log.data_dir.",
    )


class SelectedModule(Section):
    """Which block of each section is in use."""

    VAD: str = Field(default="SileroVAD", min_length=1, description="Block under VAD.")
    ASR: str = Field(default="Offline", min_length=1, description="Block under ASR.")
    LLM: str = Field(default="Offline", min_length=1, description="Block under LLM.")
    VLLM: str = Field(default="", description="Block under VLLM; empty: pictures are not looked at.")
    TTS: str = Field(default="Offline", min_length=1, description="Block under TTS.")
    Memory: str = Field(default="nomem", min_length=1, description="Block under Memory.")
    Intent: str = Field(default="function_call", min_length=1, description="Block under Intent.")
    EndOfTurn: str = Field(
        default=AUTO,
        description="Block under EndOfTurn; auto: SmartTurn beside a recogniser on this machine; empty: no model hears "
        "whether you have finished.",
    )


class FallbackSettings(Section):
    """Blocks that take over, in this order, when the selected one fails."""

    ASR: Words = Field(default=(), description="Blocks under ASR.")
    LLM: Words = Field(default=(), description="Blocks under LLM.")
    VLLM: Words = Field(default=(), description="Blocks under VLLM.")
    TTS: Words = Field(default=(), description="Blocks under TTS.")


class AudioParamSettings(Section):
    """The sound sent to devices."""

    format: Literal["opus", "pcm"] = Field(default="opus", description="Encoding.")
    sample_rate: Literal[8000, 12000, 16000, 24000, 48000] = Field(default=24000, description="Hz.")
    channels: Literal[1] = Field(default=1, description="Mono.")
    frame_duration: Literal[20, 40, 60] = Field(default=60, description="Sound per frame, ms.")


class HelloReplySettings(Section):
    """What the server says of itself in its hello."""

    type: Literal["hello"] = Field(default="hello", description="Fixed by the protocol.")
    version: int = Field(default=1, ge=1, le=3, description="Protocol version told in the hello.")
    transport: Literal["websocket"] = Field(default="websocket", description="Fixed by the protocol.")
    audio_params: AudioParamSettings = Field(
        default_factory=AudioParamSettings, description="The sound sent to devices."
    )


class LlmTimeout(Section):
    """Patience with language models."""

    connect: Seconds = Field(default=5.0, description="Until connected, s.")
    first_token: Seconds = Field(default=15.0, description="Until the first piece of the answer, s.")
    stall: Seconds = Field(default=15.0, description="Between two pieces, s.")
    total: Seconds = Field(default=90.0, description="Whole answer, s.")


class EndPrompt(Section):
    """How a conversation ends that nobody continues."""

    enable: bool = Field(default=True, description="Say goodbye before closing.")
    prompt: str = Field(
        default=(
            "The user has been silent for a long time. Say a short, warm goodbye in the language of this conversation."
        ),
        description="What the language model is told, to find its goodbye.",
    )


def _pair(value: str) -> str:
    source, bar, target = value.partition("|")
    if not bar or not source.strip():
        raise ValueError("must be 'what is written|what is spoken'")
    return f"{source.strip()}|{target.strip()}"


def _part_of_the_day(value: str) -> str:
    hours = [part.strip().rpartition(":") for part in value.split("-")]
    right = len(hours) == 2 and all(
        hour.isdecimal() and minute.isdecimal() and len(minute) == 2 and int(hour) < 24 and int(minute) < 60
        for hour, _, minute in hours
    )
    if value.strip() and not (right and value.isascii()):
        raise ValueError("must be two times of the day such as 22:00-07:00, or empty")
    return value.strip()


class ConsoleSettings(Section):
    """The pages in the browser for the owner of this server: /talk and /console on the HTTP port."""

    enabled: bool = Field(
        default=True,
        description="Offer them to this machine and, with a password, to the home network; false: nobody.",
    )


class Monitoring(Section):
    """Regular samples of what the process uses."""

    sample_interval: SecondsOrOff = Field(default=30.0, description="Between two samples, s; 0: none.")
    probe_at_start: bool = Field(
        default=True, description="Ask every vendor in use once, in the background, after a start or a change."
    )


class Settings(Section):
    """The whole configuration, frozen. Times in seconds unless a name says `_ms`."""

    server: ServerSettings = Field(
        default_factory=ServerSettings, description="Addresses, admission, limits, shutdown."
    )
    mqtt: MqttSettings = Field(default_factory=MqttSettings, description="Devices that can be reached while they idle.")
    log: Log = Field(default_factory=Log, description="Log lines and the data directory.")
    storage: StorageSettings = Field(default_factory=StorageSettings, description="The database.")
    manager_api: ManagerApi = Field(default_factory=ManagerApi, alias="manager-api", description="Management console.")
    read_config_from_api: Annotated[bool | None, EmptyIsNone] = Field(
        default=None, description="Ask the console; empty: where manager-api.url is set."
    )
    selected_module: SelectedModule = Field(default_factory=SelectedModule, description="Which providers are in use.")
    fallback: FallbackSettings = Field(default_factory=FallbackSettings, description="Which providers take over.")

    wakeup_words: Words = Field(
        default=(
            "你好小智",
            "嘿你好呀",
            "你好小志",
            "小爱同学",
            "你好小鑫",
            "你好小新",
            "小美同学",
            "小龙小龙",
            "喵喵同学",
            "小滨小滨",
            "小冰小冰",
            "小智小智",
            "嗨小智",
            "小智同学",
            "hi xiaozhi",
            "hey xiaozhi",
            "hello xiaozhi",
        ),
        description="Detected texts that are a greeting, not a question.",
    )
    enable_greeting: bool = Field(default=True, description="Answer the wake word.")
    enable_wakeup_words_response_cache: bool = Field(
        default=True, description="Answer the wake word with ready-made speech."
    )
    exit_commands: Words = Field(default=("退出", "关闭"), description="Utterances that close the connection at once.")
    close_connection_no_voice_time: SecondsOrOff = Field(
        default=120.0, description="Silence after which the connection is closed, s; 0: never."
    )
    end_prompt: EndPrompt = Field(default_factory=EndPrompt, description="The goodbye after a long silence.")
    prompt: str = Field(
        default="You are Xiaozhi (小智), a cheerful voice companion who lives in a small device on the desk.\n"
        "You are curious, kind and quick-witted, speak like a good friend, and keep to two or three short sentences\n"
        "unless a story is asked for.\n",
        description="Who the assistant is.",
    )
    summaryMemory: str = Field(
        default="", repr=False, description="What is remembered of earlier visits where the console keeps the memory."
    )
    language: str = Field(
        default="", max_length=80, description="Language to answer in, as a prompt calls it; empty: the user's."
    )
    prompt_template: str = Field(
        default="agent-base-prompt.txt",
        min_length=1,
        description="Jinja2 file around the prompt: a path, or a name in config/prompts.",
    )
    context_providers: tuple[ContextProvider, ...] = Field(
        default=(), description="Sources of live data for the prompt."
    )
    system_error_response: TextByLanguage = Field(
        default_factory=lambda: dict(APOLOGY),
        description="Spoken when recognition, language model or synthesis fail: one text, or one per language.",
    )
    device_max_output_size: int = Field(
        default=0, ge=0, description="Characters a device may be told per day; 0: no limit."
    )
    quota_response: TextByLanguage = Field(
        default_factory=lambda: dict(QUOTA_REACHED),
        description="Spoken when a device has used up device_max_output_size: one text, or one per language.",
    )
    correct_words: tuple[Annotated[str, AfterValidator(_pair)], ...] = Field(
        default=(), description="Pronunciations: 'written|spoken'."
    )

    xiaozhi: HelloReplySettings = Field(default_factory=HelloReplySettings, description="The hello.")
    prebuffer_frames: int = Field(
        default=3, ge=1, le=40, description="Frames sent ahead of time, so that the network may hesitate."
    )
    max_prebuffer_frames: int = Field(
        default=4, ge=1, le=40, description="Most frames that a device is ahead on a line that jitters."
    )
    tts_audio_send_delay: int = Field(
        default=0, ge=0, le=1_000, description="Fixed distance of audio frames, ms; 0: the frame's own duration."
    )
    enable_stop_tts_notify: bool = Field(default=False, description="A chime at the end of every answer.")
    stop_tts_notify_voice: str = Field(default="", description="Sound file of that chime; empty: the built-in one.")
    enable_websocket_ping: bool = Field(
        default=False, description="WebSocket pings to devices (some boards cannot bear them)."
    )
    boards: dict[str, Board] = Field(
        # Pages in browsers begin to play at the sixth frame and throw away at tts stop what they still hold.
        default={"Mozilla": Board(prebuffer_frames=6, max_prebuffer_frames=12)},
        description="Exceptions by board: type or name in its OTA request or MCP answer, or the User-Agent it sends.",
    )
    groups: Words = Field(
        default=(),
        description="Groups of devices that a device belongs to, such as upstairs: messages reach all of one.",
    )
    quiet_hours: Annotated[str, AfterValidator(_part_of_the_day)] = Field(
        default="", description="When messages wait, as 22:00-07:00; alarms do not; empty: never."
    )
    intercom: bool = Field(
        default=True, description="Devices of this household may send messages to each other and call each other."
    )
    history: HistorySettings = Field(default_factory=HistorySettings, description="What is kept of what was said.")
    firmware: dict[str, FirmwareRelease] = Field(
        default_factory=dict,
        description="Files of data/bin that are not for all devices: name, such as board_2.0.1.bin, and for whom.",
    )
    delete_audio: bool = Field(default=True, description="Keep no recordings.")

    asr_timeout: Seconds = Field(default=15.0, description="Recognition of one utterance, s.")
    llm_timeout: LlmTimeout = Field(default_factory=LlmTimeout, description="Patience with language models.")
    tts_timeout: Seconds = Field(default=10.0, description="Until synthesis gives (more) sound, s.")
    tool_call_timeout: Seconds = Field(default=30.0, description="One tool call, s.")
    show_tool_calls: bool = Field(default=False, description="Show the names of called tools on the device.")
    conversation: Conversation = Field(default_factory=Conversation, description="Turn-taking and history.")
    turn: TurnSettings = Field(default_factory=TurnSettings, description="When somebody who pauses has finished.")

    ai_providers: AiProviders = Field(default_factory=AiProviders, description="Limits by kind of vendor.")
    console: ConsoleSettings = Field(default_factory=ConsoleSettings, description="Pages for the owner.")
    monitoring: Monitoring = Field(default_factory=Monitoring, description="Regular samples.")

    mcp: McpSettings = Field(default_factory=McpSettings, description="MCP servers.")
    mcp_endpoint: EndpointUrl = Field(
        default="", repr=False, description="MCP access point, with its token; empty: none."
    )
    voiceprint: VoiceprintService = Field(default_factory=VoiceprintService, description="Speaker recognition.")
    plugins: dict[str, Any] = Field(default_factory=dict, repr=False, description="Options of tools, by tool.")

    VAD: Blocks = Field(default_factory=dict, repr=False, description="Voice activity detection.")
    ASR: Blocks = Field(default_factory=dict, repr=False, description="Speech recognition.")
    LLM: Blocks = Field(default_factory=dict, repr=False, description="Language models.")
    VLLM: Blocks = Field(default_factory=dict, repr=False, description="Models that look at pictures.")
    TTS: Blocks = Field(default_factory=dict, repr=False, description="Speech synthesis.")
    Memory: Blocks = Field(default_factory=dict, repr=False, description="Memory between visits.")
    Intent: Blocks = Field(default_factory=dict, repr=False, description="How intentions are found.")
    EndOfTurn: Blocks = Field(default_factory=dict, repr=False, description="Models of the end of a turn.")

    @field_validator("stop_tts_notify_voice")
    @classmethod
    def _our_own_chime(cls, path: str) -> str:
        return "" if path == CHIME_OF_OTHERS and not Path(path).is_file() else path

    @field_validator("context_providers")
    @classmethod
    def _drop_blank_forms(cls, providers: tuple[ContextProvider, ...]) -> tuple[ContextProvider, ...]:
        return tuple(provider for provider in providers if provider.url)

    @property
    def data_dir(self) -> Path:
        """Where everything lives that must survive a restart."""
        return Path(self.log.data_dir)

    @property
    def under_console(self) -> bool:
        """The settings of this server and of its devices come from a management console."""
        return bool(self.manager_api.url) and self.read_config_from_api is not False

    @property
    def management_secret(self) -> SecretStr:
        """The management API's secret, wherever it was written; empty when there is none."""
        return self.manager_api.secret if self.manager_api.secret.get_secret_value() else self.server.secret

    def modules(self, kind: str) -> dict[str, dict[str, Any]]:
        """All blocks of a kind ("tts"), by name; a copy. Values are as written, secrets included."""
        return copy.deepcopy(self._blocks(kind))

    def block(self, kind: str, name: str) -> dict[str, Any]:
        """The block of one provider; a copy. Raises KeyError for a name that is not there."""
        return copy.deepcopy(self._blocks(kind)[name])

    def shares(self, kind: str, other: Settings) -> bool:
        """Whether the blocks of a kind are the very ones of other settings, as an overlay leaves them."""
        return self._blocks(kind) is other._blocks(kind)

    def selected(self, kind: str) -> str:
        """The name of the block in use for a kind; "" for none (vllm and end_of_turn only), or `automatic`."""
        if kind == VOICEPRINT:
            return next(iter(self._blocks(kind)), "")
        name: str = getattr(self.selected_module, SECTIONS[kind])
        return "" if kind == "end_of_turn" and name == AUTO else name

    @property
    def automatic(self) -> tuple[tuple[str, str], ...]:
        """(kind, name) of the blocks that are in use where others are of a certain kind."""
        automatic = self.selected_module.EndOfTurn == AUTO and AUTOMATIC in self.EndOfTurn
        return (("end_of_turn", AUTOMATIC),) if automatic else ()

    def fallbacks(self, kind: str, name: str | None = None) -> tuple[str, ...]:
        """Names of the blocks that take over for the block `name` (None: the selected one), in order: those that the
        block itself names under `fallback`, then those of the section `fallback`; empty for kinds that have none."""
        if kind not in FALLING_BACK:
            return ()
        first = name or self.selected(kind)
        general: tuple[str, ...] = getattr(self.fallback, SECTIONS[kind], ()) if first == self.selected(kind) else ()
        found = {first: None}
        waiting = [*self._own_fallbacks(kind, first), *general]
        while waiting:
            other = waiting.pop(0)
            if other not in found:
                found[other] = None
                waiting[:0] = self._own_fallbacks(kind, other)
        return tuple(found)[1:]

    def _own_fallbacks(self, kind: str, name: str) -> list[str]:
        written = self._blocks(kind).get(name, {}).get("fallback")
        if isinstance(written, str):
            return words(written)
        return [str(other) for other in written] if isinstance(written, list | tuple) else []

    def in_use(self) -> tuple[tuple[str, str], ...]:
        """Every (kind, name) that can come into play: selected, fallback, or named by a selected memory or intent."""
        found: dict[tuple[str, str], None] = {}
        for kind in SECTIONS:
            for name in (self.selected(kind), *self.fallbacks(kind)):
                if name:
                    found[kind, name] = None
        for kind in REFERRING:
            referred = self._blocks(kind).get(self.selected(kind), {}).get("llm")
            if isinstance(referred, str) and referred:
                for name in (referred, *self.fallbacks("llm", referred)):
                    found["llm", name] = None
        if speakers := self.selected(VOICEPRINT):
            found[VOICEPRINT, speakers] = None
        return tuple(found)

    def board_for(self, names: Iterable[str]) -> BoardTraits:
        """What holds for a device whose board goes by these names ("bread-compact-wifi", "bread-compact-wifi/1.8.0");
        the longest key of `boards` that one of them begins with wins."""
        heard = [name.casefold() for name in names]
        matching = [key for key in self.boards if key and any(name.startswith(key.casefold()) for name in heard)]
        board = self.boards[max(matching, key=len)] if matching else Board()
        return BoardTraits(
            prebuffer_frames=self.prebuffer_frames if board.prebuffer_frames is None else board.prebuffer_frames,
            ping=self.enable_websocket_ping if board.ping is None else board.ping,
            protocol_version=board.protocol_version,
            transport=board.transport,
            notify=board.notify,
            max_prebuffer_frames=self.max_prebuffer_frames
            if board.max_prebuffer_frames is None
            else board.max_prebuffer_frames,
            echo=board.echo or self.conversation.echo,
        )

    def _blocks(self, kind: str) -> Blocks:
        if kind == VOICEPRINT:
            return self.voiceprint.blocks()
        blocks: Blocks = getattr(self, SECTIONS[kind])
        return blocks
