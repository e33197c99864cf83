"""A whole server in this process, on loopback, between scripted vendors and simulated devices: what every test here
plays on.

Sound is sent as fast as it goes: the listener counts time in samples, so an utterance of a second takes no second. What
the server plays is paced by the clock, so scripted speech is short (`SHORT`) unless a test needs time to interrupt it
(`LONG`)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from loadtest.simulator.answer import HeardAnswer
from loadtest.simulator.device import SimulatedDevice
from loadtest.simulator.speech import Speech
from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds, hum, wav
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.app.agents import Overlays
from xiaozhi.app.generations import Generation
from xiaozhi.app.management import ManagementConsole
from xiaozhi.app.server import Server
from xiaozhi.app.wiring import check
from xiaozhi.chat import ToolSpec
from xiaozhi.errors import SettingsError
from xiaozhi.runtime.watchdog import ShedPolicy
from xiaozhi.session.speaking.speech_cache import SpeechKey
from xiaozhi.session.turns.cascade import Cascade
from xiaozhi.session.turns.pipeline import PipelineFactory
from xiaozhi.settings import Examined, Loaded, examine, load
from xiaozhi.tools.base import FixedTools, FunctionTool, Tool, ToolContext, ToolOutcome

SHORT = Script(answer=wav(hum(0.06, 24_000), 24_000))
"""Speech that is over at once: one frame."""
QUARTER = Script(answer=("wav", 0.25))
"""Speech of a quarter of a second: five frames of 60 ms."""
LONG = Script(answer=("wav", 10.0))
"""Speech that leaves time to interrupt it."""
END_SILENCE_MS = 200
PAUSE_MS = 100

_device_numbers = iter(range(1, 1_000_000))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings laid over others."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def base_settings(vendor: OpenAiVendor, directory: Path) -> dict[str, Any]:
    """Everything at the vendor, ports of the system's choice, patience of fractions of a second."""
    endpoint = {"type": "openai", "api_key": "test-key"}
    return {
        "server": {
            "ip": "127.0.0.1",
            "port": 0,
            "http_port": 0,
            "drain_seconds": 2,
            "limits": {"frames_per_second": 0},
        },
        "log": {"log_dir": "", "data_dir": str(directory)},
        "selected_module": {
            "VAD": "Ears",
            "ASR": "Vendor",
            "LLM": "Vendor",
            "TTS": "Vendor",
            "Memory": "nomem",
            "Intent": "function_call",
        },
        "VAD": {"Ears": {"type": "silero", "min_silence_duration_ms": END_SILENCE_MS, "pause_ms": PAUSE_MS}},
        "ASR": {"Vendor": {**endpoint, "base_url": vendor.base_url, "model_name": "m"}},
        "LLM": {"Vendor": {**endpoint, "base_url": vendor.base_url, "model_name": "m"}},
        "TTS": {
            "Vendor": {**endpoint, "api_url": vendor.base_url, "model": "m", "voice": "v", "response_format": "wav"},
            "Espeak": {"type": "tests.e2e.voices:Beeper"},
        },
        "wakeup_words": ["hello robot"],
        "Intent": {"function_call": {"functions": []}},
        "close_connection_no_voice_time": 0,
        "monitoring": {"sample_interval": 0, "probe_at_start": False},
    }


UNANSWERED = ("assistant", "…")
"""What stands in a request where nobody answered: templates demand that somebody speaks."""


class Stage:
    """Use `open_stage`. `vendor` is everything a test scripts; `server` is the server under test."""

    def __init__(self, vendor: OpenAiVendor, server: Server, loaded: Loaded) -> None:
        self.vendor = vendor
        self.server = server
        self.settings = loaded.settings
        self.devices: list[SimulatedDevice] = []
        self._phrases: dict[SpeechKey, Any] = {}

    @property
    def generation(self) -> Generation:
        """What belongs to the configuration in force."""
        current = self.server.generation
        assert current is not None
        return current

    # --- devices ------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where devices connect."""
        return f"ws://127.0.0.1:{self.server.port}/xiaozhi/v1/"

    def device(
        self,
        *,
        features: Mapping[str, Any] | None = None,
        audio_params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> SimulatedDevice:
        """A connected device that has said hello; closed at the end of the test."""
        number = next(_device_numbers)
        options.setdefault("device_id", f"02:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}")
        device = SimulatedDevice(self.url, **options)
        self.devices.append(device)
        device.connect()
        device.hello(features, audio_params)
        return device

    def close_devices(self) -> None:
        """Let all devices leave, and wait until the server has forgotten them."""
        for device in self.devices:
            device.close()
        self.devices.clear()
        wait_for(lambda: len(self.server.connections) == 0, "the server to be empty")

    # --- the vendor ---------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """A vendor that answers everything well, with short speech; nothing remembered, no breaker open."""
        self.calm()
        self.server.rates.clear()
        self._forget_speech()
        self.forget_requests()
        self._close_breakers()

    def calm(self) -> None:
        """From now on the vendor answers everything well, with short speech."""
        vendor = self.vendor
        vendor.forget_scripts()
        vendor.stand(TTS, SHORT)
        vendor.stand(CHAT, Script(answer="Fine."))

    def keep_phrases(self) -> None:
        """What has been spoken so far is what every test may find in the reply cache, and nothing else."""
        replies = self.server.services.speech_cache
        self._phrases = {key: replies.get(key) or () for key in replies}

    def _forget_speech(self) -> None:
        replies = self.server.services.speech_cache
        replies.clear()
        for key, frames in self._phrases.items():
            replies.put(key, frames)

    def forget_requests(self) -> None:
        """Only what comes from now on counts."""
        self.vendor.requests.clear()
        self.vendor.refusals.clear()
        self.vendor.counts.clear()
        while not self.vendor.gone.empty():
            self.vendor.gone.get_nowait()

    def _close_breakers(self) -> None:
        for guard in self.server.provider_pool.guards:
            if guard.breaker is not None:
                guard.breaker.reset()

    def questions(self) -> list[dict[str, Any]]:
        """Bodies of the chat requests so far."""
        return [request.json() for request in self.vendor.requests if self.vendor.kind(request) == CHAT]

    def messages(self) -> list[dict[str, Any]]:
        """The messages of the last chat request."""
        asked: list[dict[str, Any]] = self.questions()[-1]["messages"]
        return asked

    def said(self) -> list[tuple[str, str]]:
        """(role, content) of the last chat request, without the system prompt."""
        return [(message["role"], message["content"]) for message in self.messages() if message["role"] != "system"]

    def spoken(self) -> list[str]:
        """Texts of the speech requests so far."""
        return [request.json()["input"] for request in self.vendor.requests if self.vendor.kind(request) == TTS]

    def wait_for(self, kind: str, count: int = 1) -> None:
        """Until the vendor has seen `count` requests of a kind (counted from the start of the test)."""
        wait_for(lambda: self.vendor.counts.get(kind, 0) >= count, f"{count} requests of {kind}")

    @contextmanager
    def tools(self, *tools: Tool) -> Iterator[None]:
        """Further plugins, for the visits that begin inside the block."""
        agent = self.generation.agent
        before = agent.plugins
        object.__setattr__(agent, "plugins", FixedTools("plugins", [*before.tools(), *tools]))
        try:
            yield
        finally:
            object.__setattr__(agent, "plugins", before)

    # --- what the server counts ---------------------------------------------------------------------------------------

    def count(self, metric: str, **labels: str) -> float:
        """The value of a counter or gauge."""
        return self.server.metrics.registry.get_sample_value(metric, labels) or 0.0

    def outcomes(self) -> dict[str, float]:
        """Turns that ended, by outcome, without zeros."""
        family = next(metric for metric in self.server.metrics.registry.collect() if metric.name == "xiaozhi_turns")
        samples = {
            sample.labels["outcome"]: sample.value for sample in family.samples if sample.name.endswith("_total")
        }
        return {outcome: value for outcome, value in samples.items() if value}


@contextmanager
def open_stage(
    directory: Path,
    sounds: Sounds,
    overrides: Mapping[str, Any] | None = None,
    overlays: Overlays | None = None,
    pipeline: PipelineFactory = Cascade,
) -> Iterator[Stage]:
    """Vendor and server, started; stopped at the end. The phrases of the voice are ready. `overlays`: devices' own
    settings."""
    with OpenAiVendor(sounds=sounds, keep_alive=False, heard="what is up") as vendor:
        assert isinstance(vendor, OpenAiVendor)
        vendor.stand(TTS, SHORT)
        own = merged(base_settings(vendor, directory), overrides or {})
        loaded = load(environ={}, overrides=own)
        console = None
        if loaded.settings.under_console:
            console = ManagementConsole(loaded.settings)
            console.at_start(lambda text: None)
            loaded = _under(console, own)
        server = Server(
            loaded,
            reload=lambda: loaded if console is None else _under(console, own),
            overlays=overlays,
            console=console,
            pipeline=pipeline,
            shed_policy=unshakable(),
        )
        stage = Stage(vendor, server, loaded)
        try:
            server.start()
            settle_phrases(stage)
            stage.keep_phrases()
            stage.reset()
            yield stage
        finally:
            stage.close_devices()
            server.stop(drain_seconds=0)


def _under(console: ManagementConsole, own: Mapping[str, Any]) -> Loaded:
    """The configuration with what the console says of the server; raises SettingsError."""

    def read(tree: Mapping[str, Any]) -> Examined:
        examined = examine(environ={}, overrides=own, console=tree)
        assert examined.loaded is not None
        return Examined(examined.loaded, [*examined.faults, *check(examined.loaded)], examined.warnings)

    examined = console.examine(read)
    if examined.faults or examined.loaded is None:
        raise SettingsError(examined.faults)
    return examined.loaded


def settle_phrases(stage: Stage) -> None:
    """Until the background work on fixed phrases is over, well or not."""
    phrases = stage.generation.agent.phrases
    wait_for(lambda: not phrases.preparing, "the phrases")


def unshakable() -> ShedPolicy:
    """Vendors, devices and server share this hub, and perhaps a busy machine: lag is no reason to refuse anybody."""
    return ShedPolicy(turns_lag_s=math.inf, connections_lag_s=math.inf)


def tool_call(name: str, number: int = 0, **arguments: Any) -> dict[str, Any]:
    """A tool call as a vendor's stream brings it."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"index": number, "id": f"call-{number}", "type": "function", "function": function}]}


def a_tool(
    name: str,
    function: Callable[[Mapping[str, Any], ToolContext], ToolOutcome],
    *,
    uninterruptible: bool = False,
    timeout: float = 5.0,
) -> Tool:
    """A plugin made of a function."""
    return FunctionTool(ToolSpec(name, f"Does {name}."), function, uninterruptible=uninterruptible, timeout=timeout)


def ask(device: SimulatedDevice, text: str, timeout: float = PATIENCE_S) -> HeardAnswer:
    """Type a question and hear its answer."""
    device.replies.forget_answers()
    device.detect(text)
    return device.collect_answer(timeout)


def utter(
    device: SimulatedDevice, words: Speech, mode: Any = "auto", *, silence_ms: int = 1_000, start: bool = True
) -> None:
    """Say something as fast as the socket takes it, and the silence behind it; manual mode: then `listen stop`."""
    if start:
        device.listen_start(mode)
    device.send_frames(words.packets(device.frame_ms), realtime=False)
    if mode == "manual":
        device.listen_stop()
    elif silence_ms:
        device.send_silence(silence_ms, realtime=False)


def speak_to(device: SimulatedDevice, words: Speech, mode: Any = "auto", timeout: float = PATIENCE_S) -> HeardAnswer:
    """Say something and hear the answer."""
    device.replies.forget_answers()
    utter(device, words, mode)
    return device.collect_answer(timeout)


def wait_for_sound(device: SimulatedDevice, frames: int = 1) -> None:
    """Until so many frames of the answer under way have come."""
    device.wait_until(lambda: len(device.replies.answer.arrivals) >= frames, PATIENCE_S, f"{frames} frames")


def hear_nothing_more(device: SimulatedDevice, seconds: float = 0.3) -> None:
    """Assert that nothing is heard that nobody announced."""
    gevent.sleep(seconds)  # sleep: what should not come would come by the clock, a frame every 60 ms
    assert device.replies.stray == []
    assert device.replies.bad_frames == []
