"""A cascade with a scripted language model, and all that it touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.providers import provider_set
from tests.fakes.thinking import FakeLlm
from tests.tools.fakes import context as tool_context
from xiaozhi.chat import CallContext, Message, ToolCall
from xiaozhi.errors import TurnClosed
from xiaozhi.session.turn_record import Outcome, Timeline, TurnOptions
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.cascade import Cascade
from xiaozhi.session.turns.dialogue import Exchange
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.pipeline import Briefing, OutputLimit, PipelineParts
from xiaozhi.speech.sentences import Sentence
from xiaozhi.tools.base import Action, FixedTools, ToolOutcome
from xiaozhi.tools.toolbox import Toolbox

SYSTEM = Message("system", "Be brief.")


QUESTION = "how big is the sun"


class FakePlayback:
    """What was given to it, in order."""

    def __init__(self, told: list[str]) -> None:
        self._told = told
        self.faces: list[str] = []

    def emote(self, emotion: Any) -> None:
        self.faces.append(emotion.name)

    def say(self, sentence: Sentence) -> None:
        self._told.append(f"say {sentence.spoken}")


class FakeTurn:
    """A `TurnControl` that records; `closed`: its `open` raises."""

    def __init__(self, opening: Opening, options: TurnOptions) -> None:
        self.opening = opening
        self.context = CallContext(device_id="d")
        self.options = options
        self.timeline = Timeline()
        self.exchange = Exchange()
        self.clock = FakeClock()
        self.told: list[str] = []
        self.shown: list[str] = []
        self.language = "en"
        self.limit: OutputLimit | None = None
        self.closed = False
        self.voices: list[Any] = []
        self.playback = FakePlayback(self.told)

    def heard(self, text: str) -> None:
        self.told.append(f"heard {text}")

    def wait_release(self) -> None:
        self.told.append("release")

    def open(self) -> None:
        self.told.append("open")
        if self.closed:
            raise TurnClosed("shut")

    def show_call(self, tool: str) -> None:
        self.shown.append(tool)

    def output_limit(self) -> OutputLimit | None:
        self.told.append("limit?")
        return self.limit

    def open_playback(self, voice: Any) -> Any:
        self.told.append("playback")
        self.voices.append(voice)
        return self.playback

    def take_back(self, voice: Any, heard: int) -> Any:
        self.told.append("take back")
        self.exchange.forget_heard(heard)
        return self.playback

    def speak_fixed(self, text: str) -> None:
        self.told.append(f"fixed {text}")

    def play(self, path: Path) -> None:
        raise AssertionError("files are played by tools, through the session")

    @property
    def said(self) -> list[str]:
        return [told.removeprefix("say ") for told in self.told if told.startswith("say ")]


class Rig:
    """A cascade and its parts; `ask` runs it."""

    def __init__(
        self,
        *answers: Any,
        tools: Sequence[Any] = (),
        answers_kept: AnswerCache | None = None,
        key: str = "key",
        options: Mapping[str, Any] | None = None,
        **chosen: Any,
    ) -> None:
        self.llm = chosen.setdefault("llm", FakeLlm(*answers))
        self.providers = provider_set(**chosen)
        self.toolbox = Toolbox(FixedTools("test", tools))
        self.options = TurnOptions(**{"llm_first_token": 1.0, "llm_stall": 1.0, **(options or {})})
        self.briefed: list[str] = []
        self.cache = answers_kept
        self.key = key
        self.turn = FakeTurn(Opening(text=QUESTION), self.options)

    def brief(self, question: str) -> Briefing:
        self.briefed.append(question)
        return Briefing([SYSTEM], self.key)

    def ask(self, opening: Opening | None = None, **options: Any) -> Outcome:
        """A new turn, run."""
        turn = self.turn = FakeTurn(opening or Opening(text=QUESTION), self.options)
        for name, value in options.items():
            assert name in vars(turn)
            setattr(turn, name, value)
        parts = PipelineParts(
            providers=self.providers,
            toolbox=self.toolbox,
            tool_context=tool_context(),
            brief=self.brief,
            answers=self.cache,
        )
        return Cascade(parts).run(turn)

    def offered(self, number: int = -1) -> list[str]:
        """The tools that the language model was offered."""
        return [spec.name for spec in self.llm.calls[number].tools]


def call(name: str, number: int = 1, **arguments: Any) -> ToolCall:
    return ToolCall(f"c{number}", name, arguments)


def outcome(action: Action, text: str = "") -> Callable[[Mapping[str, Any]], ToolOutcome]:
    return lambda arguments: ToolOutcome(action, text)
