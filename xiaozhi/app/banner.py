"""What a person sees at the start: where to connect, what is in use, what to try next; or every fault of the
configuration.

Not logging: these lines are for the terminal of whoever typed the command, in English and Chinese.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xiaozhi.errors import Fault


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What there is to tell."""

    version: str
    websocket: str
    ota: str
    providers: Mapping[str, str]
    workers: int
    offline: bool
    started_s: float


def show_banner(facts: StartFacts) -> None:
    """Print the greeting of a server that is ready."""
    used = "   ".join(f"{kind.upper()} {name}" for kind, name in facts.providers.items())
    lines = [
        "",
        f"  xiaozhi {facts.version} is ready ({facts.started_s:.1f} s)  已就绪",
        "",
        f"  devices connect to  设备连接   {facts.websocket}",
        f"  OTA address         OTA 地址   {facts.ota}",
        f"  in use              使用中     {used}",
        f"  CPU threads         推理线程   {facts.workers}",
        "",
        '  try it   试一试     make talk SAY="what time is it"      (in another terminal 另开一个终端)',
    ]
    if facts.offline:
        lines += [
            (
                "  This is the offline default: it understands the "
                "phrases of config/offline.yaml. For a real conversation set"
            ),
            "  XIAOZHI_LLM_BASE_URL, XIAOZHI_LLM_API_KEY and XIAOZHI_LLM_MODEL (likewise ASR, TTS); see README.md.",
            (
                "  当前为离线默认配置，只听得懂 config/offline.yaml "
                "里的短句；接入真实模型请设置以上环境变量，详见 README.zh-CN.md。"
            ),
        ]
    print("\n".join([*lines, ""]), flush=True)


def show_faults(faults: Sequence[Fault]) -> None:
    """Print every fault of a configuration that cannot be used."""
    print("The configuration cannot be used  配置有误：", file=sys.stderr)
    for fault in faults:
        print(f"  - {fault}", file=sys.stderr)
