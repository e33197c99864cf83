"""The assistant learns whose voice it hears, and forgets it.

A voice is personal data: nothing is kept before the user was told what would be kept and has said yes aloud, in a later
turn. Whether it was a yes is decided by the words that were heard, not by the language model. Kept is a vector, never
sound."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

from xiaozhi.errors import ToolError, VendorRejected
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.registry import tool
from xiaozhi.tools.voices import ConsentAnswer, VoiceBook

MAX_NAME_CHARS: Final = 40
LEAST_S: Final = 1.2
"""Of voice, to learn it from."""
CONSENT: Final = "spoken"
_OWN_VOICE: Final = re.compile(
    r"\bmy voice|\bforget me\b|\bi sound\b|我的(?:声音|嗓音|声纹)|忘[掉记了]我(?:吧|[。！!]?$)", re.IGNORECASE
)
"""Words of somebody who speaks of the own voice."""
_EVERYBODY: Final = re.compile(
    r"\ball (?:of )?(?:the |these |those |known )?(?:voices|voiceprints)\b|\bevery (?:voice|voiceprint)\b"
    r"|\bevery(?:body|one)(?:'?s)?\b|(?:所有|全部|每个|大家).{0,4}(?:声音|嗓音|声纹)|(?:声音|嗓音|声纹)(?:全部|全|都)"
    r"|所有人|每个人|大家|\balle (?:stimmen|stemmen)\b|\btoutes les voix\b|\btodas las voces\b|\btutte le voci\b",
    re.IGNORECASE,
)
"""Words that ask to forget all voices; an empty name alone may be a mistake of the model."""
_NAME: Final = re.compile(r"[^\w\s.'·-]+")
_BRIEFING: Final = (
    'Where voices are known, a user message is {"speaker": name, "content": words} whenever somebody else begins to '
    "speak. Address people by that name; do not mention the format."
)


class RememberVoiceOptions(ToolOptions):
    """`plugins.remember_voice`."""

    def briefing(self) -> str:
        return _BRIEFING


class RememberVoice:
    """Both tools."""

    def __init__(self, options: RememberVoiceOptions, services: ToolServices) -> None:
        self._voices = services.voices

    @tool("remember_voice", RememberVoiceOptions, uninterruptible=True)
    def remember_voice(
        self,
        context: ToolContext,
        name: Annotated[str, Field(description="The name of the person who speaks. 说话人的名字。", min_length=1)],
        confirmed: Annotated[
            bool,
            Field(description="true only when the user has just answered yes to the question. 用户刚刚同意后为true。"),
        ] = False,
    ) -> ToolOutcome:
        """Call it when the user wants to be known by the voice ("remember my voice, I am Anna"). First without
        `confirmed`: it asks the user for consent. When the user has answered that question, call it again with
        `confirmed`.
        用户要求记住自己的声音时调用（“记住我的声音，我是小明”）；先征求同意，用户回答后再带 confirmed 调用。"""
        voices, person = self._book(), _clean(name)
        enrolment, question = context.actions.enrolment, context.question
        if confirmed:
            # A short yes tells nothing of the voice, and is taken.
            heard = question.voice if question.voice is not None and question.voice.seconds >= LEAST_S else None
            match enrolment.answered(person, question.turn, question.text, spoken=question.spoken, voice=heard):
                case ConsentAnswer.GIVEN:
                    return self._keep(voices, context, person)
                case ConsentAnswer.REFUSED:
                    return _say(context, "好的，我不会记住你的声音。", "All right, I keep nothing of your voice.")
                case ConsentAnswer.OTHER_VOICE:
                    return _say(
                        context,
                        "这是另一个人的声音，请本人回答。",
                        "That was another voice. The person whose voice I would keep has to say yes.",
                    )
                case ConsentAnswer.WAITS:
                    raise ToolError("The user has not answered aloud yet. Wait for the answer. 用户还没有回答。")
                case ConsentAnswer.NOT_ASKED:
                    pass
        if question.voice is None or question.voice.seconds < LEAST_S:
            return _say(
                context,
                "我没有听清你的声音，请再说一句长一点的话。",
                "I have not heard enough of your voice. Please say it again, in a longer sentence.",
            )
        enrolment.ask(person, question.turn, question.voice, context.actions.recent_voices)
        return _say(
            context,
            f"我会为{person}保存一份声音特征，只在这台服务器上，不保存录音，随时可以让我忘掉。可以吗？",
            f"I would keep a description of your voice for {person}, on this server only, no recording, and you can "
            "tell me to forget it at any time. May I?",
        )

    @tool("forget_voice", RememberVoiceOptions, uninterruptible=True)
    def forget_voice(
        self,
        context: ToolContext,
        name: Annotated[str, Field(description="Whose voice; empty: everybody's. 谁的声音；留空为所有人。")] = "",
    ) -> ToolOutcome:
        """Call it when the user wants you to forget a voice ("forget my voice": the name of who speaks; "forget all
        voices": no name). 用户要求忘掉声音时调用；“忘掉所有声音”时 name 留空。"""
        voices, person = self._book(), _clean(name) if name.strip() else ""
        asked = context.question
        if _OWN_VOICE.search(asked.text) and not (person and _names(asked.text, person)):
            # The model may remember who spoke before; only who was identified in this turn is "me".
            if not asked.speaker:
                return _whose(context)
            person = asked.speaker
        if not person and not _EVERYBODY.search(asked.text):
            return _whose(context)
        context.actions.enrolment.forget()
        owner = context.user or context.device_id
        gone = voices.forget(owner, person)
        if gone:
            names = "、".join(gone) if context.chinese else ", ".join(gone)
            return _say(context, f"我已经忘掉了{names}的声音。", f"I have forgotten the voice of {names}.")
        known = voices.names(owner)
        if not known:
            return _say(context, "我没有记住任何人的声音。", "I know nobody's voice.")
        raise ToolError(f"There is no voice of {person}; known are: {', '.join(known)}. 没有这个人的声音。")

    def _keep(self, voices: VoiceBook, context: ToolContext, person: str) -> ToolOutcome:
        enrolment = context.actions.enrolment
        try:
            voices.remember(context.user or context.device_id, person, enrolment.samples, CONSENT)
        except VendorRejected:
            return _say(
                context,
                "我已经记住了很多人的声音，请先让我忘掉一个。",
                "I know as many voices as I can; tell me to forget one first.",
            )
        enrolment.forget()
        return _say(context, f"好的，{person}，我记住你的声音了。", f"Thank you, {person}. I know your voice now.")

    def _book(self) -> VoiceBook:
        if self._voices is None:
            raise ToolError("Voices cannot be learnt here (voiceprint.type is not local). 这里不能记住声音。")
        return self._voices


def _clean(name: str) -> str:
    found = " ".join(_NAME.sub(" ", name).split())[:MAX_NAME_CHARS].strip()
    if not found:
        raise ToolError("That is no name; ask the user for it. 请先问用户的名字。")
    return found


def _names(text: str, person: str) -> bool:
    """Whether `text` says that name as a word of its own: "Al" is not in "all"."""
    return re.search(rf"(?<![A-Za-z]){re.escape(person)}(?![A-Za-z])", text, re.IGNORECASE) is not None


def _whose(context: ToolContext) -> ToolOutcome:
    return _say(
        context,
        "我不知道这是谁的声音。请说：忘掉某某的声音，或者：忘掉所有声音。",
        "I do not know whose voice this is. Say: forget the voice of, and the name, or: forget all voices.",
    )


def _say(context: ToolContext, chinese: str, english: str) -> ToolOutcome:
    return ToolOutcome(Action.SPEAK, chinese if context.chinese else english)
