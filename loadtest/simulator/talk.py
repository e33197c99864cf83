"""Speak to a server from the command line, as a device would: `python -m loadtest.talk --say "what time is it"`.

Speaks in real time over the real protocol, shows every message as it comes and how long each stage took, and saves the
spoken reply as a WAV file. Not a load generator and not an audio player."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import requests
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.simulator import speech
from loadtest.simulator.answer import HeardAnswer, HeardMessage
from loadtest.simulator.device import DEFAULT_URL, SimulatedDevice
from loadtest.simulator.device_tools import DeviceTools
from loadtest.simulator.inbox import DeviceClosed, DeviceTimeout
from loadtest.simulator.wire import Closed, UpgradeRefused

DEFAULT_WORDS = "what time is it"
HTTP_TIMEOUT_S = 5
TOOLS_TIMEOUT_S = 2
STAGES = {
    "stt": "recognised (stt)",
    "tts_start": "answer begins (tts start)",
    "first_audio": "first sound",
    "last_audio": "last sound",
    "stop": "answer over (tts stop)",
}


class TalkError(Exception):
    """Something the user can do something about; the message says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the programme; 0 when an answer came, 1 when not, or when it was an apology."""
    options = _parse(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        words = _words(options)
        url, token = _where(options)
        with _device(options, url, token, console) as device:
            answer = _converse(device, words, options, console)
        _show(answer, options.out, console)
        for name, values in device.tools.calls if device.tools is not None else ():
            console.print(f"The server used the tool {escape(name)} with {escape(str(values))}.")
        if answer.failure:
            raise TalkError(
                f"FAILED: the server apologised instead of answering. {answer.failure}\n"
                "Its log has the details; `make check` tries every vendor of its configuration."
            )
    except TalkError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="talk", description="Speak to a running server, as a device would.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--say", metavar="TEXT", help=f"speak this text (default: {DEFAULT_WORDS!r})")
    what.add_argument("--wav", metavar="FILE", type=Path, help="speak this PCM WAV file")
    what.add_argument("--type", metavar="TEXT", help="do not speak: send the text, as a device sends a wake word")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"WebSocket address of the server (default: {DEFAULT_URL})")
    parser.add_argument(
        "--ota",
        metavar="URL",
        help="ask this OTA address for the WebSocket address and the token, as a real device does",
    )
    parser.add_argument("--token", default="", help="the token, when the server wants one and --ota is not used")
    parser.add_argument(
        "--mode", choices=["auto", "manual", "realtime"], default="auto", help="who ends the utterance (default: auto)"
    )
    parser.add_argument("--protocol", type=int, choices=[1, 2, 3], default=1, help="binary framing (default: 1)")
    parser.add_argument(
        "--frame-ms", type=int, choices=[20, 40, 60], default=60, help="length of an audio packet (default: 60)"
    )
    parser.add_argument("--device-id", default="02:00:00:00:00:01", help="the MAC address to pretend")
    parser.add_argument(
        "--no-tools", action="store_true", help="be a device without MCP (default: offer a volume knob and a status)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="how long to wait for the answer (default: 30)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reply.wav"),
        metavar="FILE",
        help="where to save the reply (default: reply.wav)",
    )
    return parser.parse_args(arguments)


def _words(options: argparse.Namespace) -> speech.Speech:
    try:
        if options.wav is not None:
            return speech.from_wav(options.wav)
        return (
            speech.speak(options.say or DEFAULT_WORDS)
            if options.type is None
            else speech.from_pcm(b"", text=options.type)
        )
    except OSError as error:
        raise TalkError(f"{options.wav}: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:
        raise TalkError(str(error)) from error


def _where(options: argparse.Namespace) -> tuple[str, str]:
    """(WebSocket address, token)."""
    if options.ota is None:
        return options.url, options.token
    headers = {"Device-Id": options.device_id, "Client-Id": options.device_id}
    body = {"application": {"version": "1.0.0"}, "board": {"type": "simulated"}}
    try:
        reply = requests.post(options.ota, json=body, headers=headers, timeout=HTTP_TIMEOUT_S)
        reply.raise_for_status()
        block = reply.json()["websocket"]
        return block["url"], options.token or block.get("token", "")
    except requests.ConnectionError as error:
        raise TalkError(_not_running(options.ota)) from error
    except requests.RequestException as error:
        raise TalkError(f"{options.ota} did not answer as expected: {error}") from error
    except (KeyError, TypeError) as error:
        raise TalkError(f"{options.ota} hands out no WebSocket address") from error


def _device(options: argparse.Namespace, url: str, token: str, console: Console) -> SimulatedDevice:
    began = time.monotonic()
    device = SimulatedDevice(
        url,
        device_id=options.device_id,
        # The same one every time: a token is made for the pair of both.
        client_id=options.device_id,
        token=token,
        protocol_version=options.protocol,
        frame_ms=options.frame_ms,
        tools=None if options.no_tools else DeviceTools(),
        on_message=lambda message: _print_message(console, began, message),
    )
    try:
        device.connect()
    except UpgradeRefused as error:
        hint = "; the server wants a token: use --ota or --token" if error.status == 401 else ""
        raise TalkError(f"the server at {url} refused: {error}{hint}") from error
    except ConnectionRefusedError as error:
        raise TalkError(_not_running(url)) from error
    except OSError as error:
        raise TalkError(f"cannot reach {url}: {error}") from error
    return device


def _not_running(url: str) -> str:
    return f"nothing is listening at {url}. Start the server in another terminal:  make run"


def _converse(
    device: SimulatedDevice, words: speech.Speech, options: argparse.Namespace, console: Console
) -> HeardAnswer:
    try:
        device.hello()
        _offer_tools(device)
        if options.type is not None:
            console.print(f"[bold]typing[/bold]   {escape(options.type)}")
            device.detect(options.type)
            return device.collect_answer(options.timeout)
        shown = words.text if options.wav is None else str(options.wav)
        console.print(f"[bold]speaking[/bold] {escape(shown)} ({words.duration_ms / 1000:.1f} s, mode {options.mode})")
        return device.ask(words, options.mode, options.timeout)
    except DeviceTimeout as error:
        heard = device.replies.answer.stt
        hint = (
            ""
            if heard
            else " (nothing was recognised: is the recording clear, and does the server's recogniser know these words?)"
        )
        raise TalkError(f"{error}{hint}") from error
    except (DeviceClosed, Closed) as error:
        raise TalkError(str(error)) from error


def _offer_tools(device: SimulatedDevice) -> None:
    """Give the server a moment to ask which tools there are, as it does with a device that has just come up."""
    tools = device.tools
    if tools is not None:
        with contextlib.suppress(DeviceTimeout):  # a server need not ask
            device.replies.wait(lambda: tools.listed or None, TOOLS_TIMEOUT_S, "the question for tools")


def _print_message(console: Console, began: float, message: HeardMessage) -> None:
    data = message.data
    kind = escape(" ".join(str(data[key]) for key in ("type", "state", "emotion") if data.get(key)))
    if message.type == "mcp":
        payload = data.get("payload") or {}
        text = " ".join(
            str(part) for part in (payload.get("method"), (payload.get("params") or {}).get("name")) if part
        )
    else:
        text = str(data.get("text") or data.get("message") or "")
    console.print(f"[dim]{message.at - began:8.3f} s[/dim]  [cyan]{kind:<20}[/cyan] {escape(text)}")


def _show(answer: HeardAnswer, out: Path, console: Console) -> None:
    timings = answer.timings()
    if timings:
        table = Table("after the end of speech", "seconds", title_justify="left", show_edge=False)
        for stage, label in STAGES.items():
            if stage in timings:
                table.add_row(label, f"{timings[stage]:7.3f}")
        console.print()
        console.print(table)
    if not answer.frames:
        console.print("\nThe answer had no sound.")
        return
    try:
        seconds = answer.write_wav(out)
    except OSError as error:
        raise TalkError(f"cannot write {out}: {error.strerror}") from error
    gaps = sorted(answer.gaps_ms)
    widest = f", widest gap between packets {gaps[-1]:.0f} ms" if gaps else ""
    console.print(f"\n{len(answer.frames)} packets, {seconds:.1f} s of sound{widest}; saved as {out}")
