"""A text of a model as it comes in pieces, and what is spoken and called of it."""

from __future__ import annotations

from typing import Any

from xiaozhi.chat import ToolSpec
from xiaozhi.providers.families.answer_text import AnswerText
from xiaozhi.providers.families.tool_names import Offer

TOOLS = Offer(
    [
        ToolSpec(
            "get_weather",
            "",
            {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        ),
        ToolSpec("get_time", ""),
        ToolSpec("self_audio_set_volume", "", {"type": "object", "properties": {"volume": {"type": "integer"}}}),
    ]
)
PARIS = [("get_weather", {"city": "Paris"})]
PARIS_2 = [("get_weather", {"city": "Paris", "days": 2})]
PARIS_AND_TIME: list[tuple[str, dict[str, Any]]] = [*PARIS, ("get_time", {})]
CUTS = (1, 2, 3, 5, 8, 13, 10_000)


def heard(text: str, size: int = 10_000, offer: Offer = TOOLS, *, cut_off: bool = False) -> tuple[str, list[Any]]:
    """(what is spoken, calls) of a text that comes in pieces; what came before a retraction is dropped."""
    answer = AnswerText(offer)
    pieces: list[str] = []

    def keep(before: int, piece: str) -> None:
        if answer.retractions != before:
            pieces.clear()
        pieces.append(piece)

    for at in range(0, len(text), size):
        keep(answer.retractions, answer.feed(text[at : at + size]))
    keep(answer.retractions, answer.finish(cut_off=cut_off))
    return "".join(pieces), answer.calls
