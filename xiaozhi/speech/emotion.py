"""What face the device makes: the emotions its firmware can draw, the emoji that stand for them, and a guess from plain
words.

Not sentiment analysis. A language model that was asked to begin with an emoji has already said how it feels; the guess
is for models that did not, so it is one pass of a compiled pattern over a sentence, it knows a few dozen words of
English and Chinese, and where nothing better is known the face is happy, as devices know it from the existing server.
The names are the ones the public firmware (78/xiaozhi-esp32) has pictures for; it ignores any other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Emotion:
    """A face: `name` as the firmware knows it, `emoji` as it is sent beside it."""

    name: str
    emoji: str


_TABLE: Final = (
    ("neutral", "😶"),
    ("happy", "🙂"),
    ("laughing", "😆"),
    ("funny", "😂"),
    ("sad", "😔"),
    ("angry", "😠"),
    ("crying", "😭"),
    ("loving", "😍"),
    ("embarrassed", "😳"),
    ("surprised", "😲"),
    ("shocked", "😱"),
    ("thinking", "🤔"),
    ("winking", "😉"),
    ("cool", "😎"),
    ("relaxed", "😌"),
    ("delicious", "🤤"),
    ("kissy", "😘"),
    ("confident", "😏"),
    ("sleepy", "😴"),
    ("silly", "😜"),
    ("confused", "🙄"),
)

EMOTIONS: Final[dict[str, Emotion]] = {name: Emotion(name, emoji) for name, emoji in _TABLE}
"""Every emotion of the firmware by name."""

DEFAULT: Final = EMOTIONS["happy"]
"""The face when nothing better is known."""

EMOJI_LIST: Final = " ".join(emoji for _, emoji in _TABLE)
"""The emoji a language model is asked to choose from, separated by spaces."""

# Models do not keep to the list: the nearest face for other emoji they like.
_ALSO: Final[dict[str, str]] = {
    "neutral": "😐😑🫥",
    "happy": "😀😃😊☺🥳🤗🎉👍👏🙌🌞🌟✨😺🫶🎊🙏🤝👋",
    "laughing": "😄😁😸",
    "funny": "🤣😹",
    "sad": "😞😢😟🙁☹😥😓😿💔😩😫",
    "angry": "😡🤬😤👿💢😾",
    "loving": "🥰❤💖💕💗💓💞😻🧡💛💚💙💜🤍🩷",
    "embarrassed": "😅🫣🙈🥺",
    "surprised": "😮😯🤩🙀",
    "shocked": "😨😰🤯😧😦",
    "thinking": "🧐💭💡",
    "cool": "🕶🔥🤘",
    "relaxed": "😇🍵☕🧘",
    "delicious": "😋🍰🍜🍕🍎🎂🍦",
    "kissy": "😗😙😚💋",
    "confident": "💪😼🫡",
    "sleepy": "💤🥱😪🌙🛌",
    "silly": "😝😛🤪🙃",
    "confused": "😕🤷😵🤨❓",
}

_BY_EMOJI: Final[dict[str, Emotion]] = {emotion.emoji: emotion for emotion in EMOTIONS.values()} | {
    emoji: EMOTIONS[name] for name, others in _ALSO.items() for emoji in others
}

# Longer words are tried first, so that "不开心" is never taken for "开心". English words match whole, in
# any of the forms given.
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "happy": (
        "happy", "glad", "great news", "congratulations", "wonderful", "awesome", "yay", "welcome",
        "好开心", "开心", "高兴", "太好了", "太棒了", "恭喜", "欢迎", "快乐",
    ),
    "laughing": ("haha", "hahaha", "哈哈", "嘿嘿", "嘻嘻"),
    "funny": ("joke", "funny", "hilarious", "lol", "笑话", "搞笑", "好笑", "笑死"),
    "sad": (
        "sad", "unfortunately", "sorry", "i'm afraid", "unhappy", "not happy", "not glad", "miss you",
        "难过", "伤心", "遗憾", "可惜", "不开心", "不高兴", "不快乐", "抱歉", "对不起", "想念",
    ),
    "angry": ("angry", "furious", "annoying", "annoyed", "生气", "愤怒", "气死", "讨厌"),
    "crying": ("crying", "in tears", "want to cry", "哭了", "想哭", "大哭", "呜呜"),
    "loving": ("love you", "i love", "adore", "sweetheart", "爱你", "喜欢你", "我爱", "亲爱的"),
    "embarrassed": ("embarrassed", "embarrassing", "oops", "my bad", "尴尬", "不好意思", "害羞", "丢脸"),
    "surprised": ("wow", "surprising", "surprised", "surprise", "really?", "哇", "惊讶", "惊喜", "没想到", "居然"),
    "shocked": ("oh no", "shocking", "shocked", "terrifying", "天哪", "我的天", "震惊", "吓死", "可怕"),
    "thinking": ("let me think", "let me see", "hmm", "i wonder", "thinking", "让我想想", "我想想", "思考", "想一想"),
    "winking": ("just kidding", "our secret", "开玩笑", "逗你", "你懂的"),
    "cool": ("cool", "super cool", "太酷了", "好酷", "帅气"),
    "relaxed": ("relax", "take it easy", "peaceful", "calm", "放松", "别着急", "慢慢来", "轻松"),
    "delicious": ("delicious", "yummy", "tasty", "好吃", "美味", "流口水", "香喷喷"),
    "kissy": ("kiss", "kisses", "么么", "亲亲", "亲一个"),
    "confident": ("no problem", "leave it to me", "of course i can", "trust me", "没问题", "包在我身上", "交给我",
    "放心吧"),
    "sleepy": ("good night", "sleepy", "sweet dreams", "晚安", "好困", "困了", "睡觉"),
    "silly": ("silly", "goofy", "调皮", "傻瓜", "做鬼脸"),
    "confused": ("confused", "confusing", "i don't understand", "not sure what", "听不懂", "不明白", "没听懂", "困惑",
    "搞不清"),
}  # fmt: skip

_WORD_TO_NAME: Final = {word: name for name, words in _WORDS.items() for word in words}


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    parts = []
    for word in sorted(words, key=lambda word: (-len(word), word)):
        escaped = re.escape(word)
        if word[0].isascii():
            escaped = r"(?<![a-z'])" + escaped + (r"(?![a-z])" if word[-1].isalpha() else "")
        parts.append(escaped)
    return re.compile("|".join(parts))


_ANY_WORD: Final = _pattern(_WORD_TO_NAME)


def emotion_of_emoji(emoji: str) -> Emotion | None:
    """The emotion a single emoji stands for, with or without a variation selector or skin tone; None when it shows no
    feeling."""
    return _BY_EMOJI.get(emoji[:1])


def spoken_of(text: str) -> Emotion | None:
    """The emotion that most words of `text` speak of (the earlier one on a tie); None when none does."""
    counts: dict[str, int] = {}
    for match in _ANY_WORD.finditer(text.lower().replace("\u2019", "'")):
        name = _WORD_TO_NAME[match.group()]
        counts[name] = counts.get(name, 0) + 1
    return EMOTIONS[max(counts, key=lambda name: counts[name])] if counts else None


def guess(text: str) -> Emotion:
    """The emotion that `text` speaks of, else the default."""
    return spoken_of(text) or DEFAULT
