"""Voices of people as tools and sessions speak of them: what keeps them, and a question of consent that waits for its
answer.

Data and a decision; the tools are in `plugins/remember_voice.py`, a provider that keeps voices is a `VoiceBook`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from xiaozhi.speech.consent import agrees
from xiaozhi.speech.voice_likeness import VoiceSample, likeness

LATEST_TURN: Final = 3
"""So many turns after the question its answer is still one."""
_SAME_VOICE: Final = {"campplus": 0.45}
_USUALLY: Final = 0.65
"""Likeness from which on samples of one conversation, a second or two each, are of one person; by model. Below the
thresholds by which people are known (0.5 and 0.74): short samples of one voice are less alike."""


def is_same_voice(one: VoiceSample, other: VoiceSample) -> bool:
    """Whether two samples of one conversation are of one person, as far as they can tell."""
    return likeness(one, other) >= _SAME_VOICE.get(one.model, _USUALLY)


class VoiceBook(Protocol):
    """Keeps voices by user. All methods block, and raise VendorError and Overloaded."""

    def remember(self, owner: str, name: str, samples: Sequence[VoiceSample], consent: str) -> None:
        """Keep a person's voice, in the place of the one of the same name. `consent`: how it was given."""

    def forget(self, owner: str, name: str = "") -> list[str]:
        """Erase a person's voice, "": all of this user; the names that are gone."""

    def names(self, owner: str) -> list[str]:
        """The people whose voices are kept for this user."""


class ConsentAnswer(Enum):
    """What became of a question of consent."""

    NOT_ASKED = "not asked"
    """It was not, not for this name, or too long ago."""
    WAITS = "waits"
    """It was asked in this very answer, or the answer was typed."""
    REFUSED = "refused"
    """It was no clear yes."""
    OTHER_VOICE = "other voice"
    """Somebody else said yes; the question stays open."""
    GIVEN = "given"


@dataclass(slots=True)
class VoiceEnrolment:
    """What one session was asked about keeping a voice. One question at a time; the answer ends it."""

    name: str = ""
    turn: int = 0
    samples: tuple[VoiceSample, ...] = ()

    def ask(self, name: str, turn: int, voice: VoiceSample, others: Sequence[VoiceSample]) -> None:
        """Whoever spoke `voice` is asked whether it may be kept as that of `name`. `others`: of the same conversation,
        used where they are of the same voice."""
        alike = [each for each in others if each != voice and is_same_voice(each, voice)]
        self.name, self.turn, self.samples = name, turn, (voice, *alike)

    def answered(self, name: str, turn: int, text: str, *, spoken: bool, voice: VoiceSample | None) -> ConsentAnswer:
        """What the words of a turn mean for the question. WAITS, OTHER_VOICE and GIVEN leave it open. `voice`: of the
        answer; None where too little was heard to judge it."""
        if not self.samples or name.casefold() != self.name.casefold() or turn - self.turn > LATEST_TURN:
            self.forget()
            return ConsentAnswer.NOT_ASKED
        if turn == self.turn or not spoken:
            return ConsentAnswer.WAITS
        if agrees(text):
            if voice is not None and not is_same_voice(voice, self.samples[0]):
                return ConsentAnswer.OTHER_VOICE
            return ConsentAnswer.GIVEN
        self.forget()
        return ConsentAnswer.REFUSED

    def forget(self) -> None:
        """There is no question any more, and nothing is left of the voice."""
        self.name, self.turn, self.samples = "", 0, ()
