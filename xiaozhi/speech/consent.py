"""Whether somebody who was asked for consent has given it. Pure.

Only a clear yes counts: a refusal anywhere in the answer outweighs it, and whatever else is said is no consent."""

from __future__ import annotations

import re
from typing import Final

_NO: Final = re.compile(
    r"\b(no|not|nope|nah|never|don'?t|do not|won'?t|stop|cancel|wait|later|nein|nicht|non|нет)\b"
    r"|不|别|没有|算了|取消|拒绝|等一下|等等|いいえ|いや|아니",
    re.IGNORECASE,
)
_YES: Final = re.compile(
    r"\b(yes|yeah|yep|yup|sure|ok|okay|of course|certainly|absolutely|please do|go ahead|do it|i agree|agreed|fine"
    r"|i do|you may|that'?s right|ja|oui|si|sí|да)\b"
    r"|^[嗯恩对是好行中成]+[的呀啊吧哦呢了]*$|好的|好啊|好呀|好吧|可以|同意|没问题|没关系|愿意|当然|行吧|行啊|是的|对的|对呀|记住吧|记吧|はい|네",
    re.IGNORECASE,
)
_NOT_A_NO: Final = re.compile(r"no problem|why not|don'?t mind|不介意|不错|没有?问题|有何不可|为什么不", re.IGNORECASE)
_MARKS: Final = re.compile(r"[\s,.!?;:，。！？；：、…]+")
MAX_CHARS: Final = 80
"""Whoever says more is talking about something else."""


def agrees(answer: str) -> bool:
    """Whether these words, said by somebody who was asked "may I?", are a yes."""
    words = _MARKS.sub(" ", answer.replace("’", "'")).strip()
    if not words or len(words) > MAX_CHARS:
        return False
    rest = _NOT_A_NO.sub(" ok ", words)
    return _NO.search(rest) is None and (_YES.search(rest) or _YES.search(rest.replace(" ", ""))) is not None
