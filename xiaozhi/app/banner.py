"""What a person sees at the start: where to connect, what is in use, what to try next; or every fault of the
configuration.

Not logging: these lines are for the terminal of whoever typed the command, in English and Chinese, 80 columns wide
where addresses allow it."""

from __future__ import annotations

import datetime
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xiaozhi import __version__
from xiaozhi.errors import Fault
from xiaozhi.models.catalogue import FOLDER
from xiaozhi.models.fetching import is_here
from xiaozhi.models.speech import RECOGNITION, VOICES
from xiaozhi.settings import Settings, zone_of

COLUMNS = 80
_LABEL_COLUMNS = 31
_TALKED_TO = "ws://127.0.0.1:8000/xiaozhi/v1/"
"""Where `make talk` goes by itself."""
_BASIC_TYPES: Mapping[str, tuple[str, ...]] = {
    "asr": ("pocketsphinx", "offline"),
    "llm": ("offline",),
    "tts": ("espeak", "local_neural"),
}
"""What works offline out of the box, and is not for living with (`offline` recognition and `local_neural` voices as
long as they have no models)."""

_BASIC: Mapping[str, tuple[str, ...]] = {
    "asr": (
        "Recognition is the offline one: it knows the English phrases of",
        "config/offline.yaml and nothing else. For free speech in Chinese and English",
        "server.py models fetch default (make run does it); in any language set",
        "XIAOZHI_ASR_BASE_URL, XIAOZHI_ASR_API_KEY and XIAOZHI_ASR_MODEL.",
        "语音识别为离线默认：只认得 config/offline.yaml 里的英文短句，不认得中文；",
        "要识别任意语句：server.py models fetch default，或设置以上三个环境变量。",
    ),
    "llm": (
        "Answers are the offline ones: fixed, for the phrases of config/offline.yaml.",
        "For a real conversation set XIAOZHI_LLM_BASE_URL, XIAOZHI_LLM_API_KEY and",
        "XIAOZHI_LLM_MODEL.",
        "回答为离线默认：只会 config/offline.yaml 里的固定回答；要真正对话，请设置",
        "以上三个环境变量。",
    ),
    "tts": (
        "The voice is the offline one, and sounds like a robot. For a better one:",
        "server.py models fetch default (make run does), or set",
        "XIAOZHI_TTS_BASE_URL, XIAOZHI_TTS_API_KEY, XIAOZHI_TTS_MODEL and _VOICE.",
        "语音合成为离线默认，机器味很重；要更自然的声音：",
        "server.py models fetch default，或设置以上环境变量。",
    ),
}
"""What to say of each part that is still the offline default."""


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What there is to tell."""

    version: str
    websocket: str
    ota: str
    providers: Mapping[str, str]
    workers: int
    offline: Sequence[str]
    """Kinds of providers that are still the offline default: "asr", "llm", "tts"."""
    local: str
    """The WebSocket address from this machine; "": the one that `make talk` takes by itself."""
    time_zone: str
    started_s: float
    talk: str = ""
    """The page that talks, as a browser on this machine opens it; "": there are no pages."""
    console: str = ""
    """The console, as other machines of the home network open it."""
    password: str = field(default="", repr=False)
    """Of the console, where it has just been made; told once."""


def start_facts(
    settings: Settings,
    names: Mapping[str, str],
    addresses: tuple[str, str, str],
    *,
    port: int,
    http_port: int,
    workers: int,
    started_s: float,
    password: str = "",
) -> StartFacts:
    """The facts of a server that was started. `names`: blocks in use, by kind. `addresses`: WebSocket, OTA and console,
    as others reach them. `port`: of devices. `password`: see StartFacts."""
    server = settings.server
    here = "127.0.0.1" if server.ip in ("0.0.0.0", "::") else server.ip
    here = f"[{here}]" if ":" in here else here
    local = f"ws{'s' if server.tls.enabled else ''}://{here}:{port}/xiaozhi/v1/"
    return StartFacts(
        version=__version__,
        websocket=addresses[0],
        ota=addresses[1],
        providers={kind: name for kind, name in names.items() if kind not in ("memory", "intent")},
        workers=workers,
        offline=still_offline(settings, names),
        local="" if local == _TALKED_TO else local,
        time_zone=_zone_words(settings),
        started_s=started_s,
        talk=f"http{'s' if server.tls.enabled else ''}://{here}:{http_port}/talk" if settings.console.enabled else "",
        console=addresses[2] if settings.console.enabled else "",
        password=password,
    )


def still_offline(settings: Settings, names: Mapping[str, str]) -> list[str]:
    """Kinds of providers that are still the offline default: "asr", "llm", "tts". `names`: blocks in use, by kind."""
    types = {kind: _type_of(settings, kind, names.get(kind)) for kind in _BASIC_TYPES}
    basic = [kind for kind, found in types.items() if found in _BASIC_TYPES[kind]]
    for kind, found, models in (("asr", "offline", RECOGNITION), ("tts", "local_neural", VOICES)):
        if types[kind] == found and all(is_here(model, FOLDER / model.folder) for model in models):
            basic.remove(kind)
    return basic


def _type_of(settings: Settings, kind: str, name: str | None) -> str:
    return str(settings.modules(kind).get(name or "", {}).get("type") or name)


def _zone_words(settings: Settings) -> str:
    now = datetime.datetime.now(zone_of(settings))
    offset = now.strftime("%z")
    name = str(now.tzinfo)
    shown = f"UTC{offset[:3]}:{offset[3:5]}"
    if settings.server.timezone_offset is None and name in ("UTC", "Etc/UTC"):
        return f"{name}; yours? set server.timezone_offset"  # what containers say
    return shown if name.startswith("UTC") else f"{name} ({shown})"


def show_banner(facts: StartFacts) -> None:
    """Print the greeting of a server that is ready."""
    print("\n".join(banner(facts)), flush=True)


def banner(facts: StartFacts) -> list[str]:
    """The lines of the greeting."""
    used = [f"{kind.upper()} {name}" for kind, name in facts.providers.items()]
    there = f"URL={facts.local} " if facts.local else ""
    lines = [
        "",
        f"  xiaozhi {facts.version} is ready ({facts.started_s:.1f} s)  已就绪",
        "",
        *(_row("talk in a browser", "浏览器对话", [facts.talk]) if facts.talk else ()),
        *(_row("console", "控制台", [facts.console]) if facts.console else ()),
        *(_row("its password", "控制台密码", [f"{facts.password}  (shown once 只显示一次)"]) if facts.password else ()),
        *_row("devices connect to", "设备连接", [facts.websocket]),
        *_row("OTA address", "OTA 地址", [facts.ota]),
        *_row("in use", "使用中", used),
        *_row("CPU threads", "推理线程", [str(facts.workers)]),
        *_row("time zone", "时区", [facts.time_zone]),
        "",
        "  try it in another terminal  另开一个终端试一试",
        f'    make talk {there}SAY="what time is it"',
    ]
    for kind in facts.offline:
        lines += ["", *(f"  {line}" for line in _BASIC[kind])]
    if facts.offline:
        lines += ["", "  Recipes for vendors 各服务商的配置方法: README.md, README.zh.md"]
    return [*lines, ""]


def _row(english: str, chinese: str, words: Iterable[str]) -> list[str]:
    """A label and what it is about, in as many lines as that needs."""
    label = f"  {english:<19}{chinese}"
    margin = " " * (_LABEL_COLUMNS - width(label))
    lines: list[str] = [label + margin]
    for word in words:
        joined = f"{lines[-1]}{', ' if lines[-1][-1] != ' ' else ''}{word}"
        if width(joined) <= COLUMNS or lines[-1][-1] == " ":
            lines[-1] = joined
        else:
            lines[-1] += ","
            lines.append(" " * _LABEL_COLUMNS + word)
    return lines


def width(text: str) -> int:
    """Columns of a terminal that `text` takes; Chinese characters take two (Unicode Standard Annex 11)."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def show_faults(faults: Sequence[Fault]) -> None:
    """Print every fault of a configuration that cannot be used."""
    print("The configuration cannot be used  配置有误：", file=sys.stderr)
    for fault in faults:
        print(f"  - {fault}", file=sys.stderr)
