"""What a recogniser makes of nothing, told from speech.

Recognisers always answer, also to noise, music and silence: with a full stop, with a label ("[BLANK_AUDIO]",
"(laughs)"), with a mark of the model ("<|nospeech|>"), with the sentences at the end of the subtitles that they were
trained on ("Thank you for watching!"), or with one word over and over. None of that was said, so none of it may be
asked of a language model.

Labels and marks go; repetitions are cut; what has no word left is nothing. Credits of subtitles are never something
that is said to a device. Polite phrases may be, so they are nothing only when hardly any voice was heard (`weak`).

Source of the phrases: what Whisper models answer to silence, as reported for openai/whisper and its descendants."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from xiaozhi.speech.cleanup import speakable

WEAK_VOICED_MS: Final = 300
"""With less voice than this in an utterance a polite phrase is taken for an invention."""
MAX_CHARS: Final = 4_000
"""Nobody says more in one utterance: five minutes."""

_MODEL_MARK: Final = re.compile(
    r"<[|｜][^<>|｜\n]{0,60}[|｜]>|</?s>|<(?:unk|pad|eos|bos|sil|noise|nospeech|laugh(?:ter)?|music)>", re.IGNORECASE
)
# In these brackets recognisers only write what they heard beside speech.
_LABEL: Final = re.compile(
    r"\[[^\[\]\n]{0,60}\]|【[^【】\n]{0,60}】|(?<!\w)\*[^\W\d][^*\n]{0,38}\*(?!\w)|\{[^{}\n]{0,60}\}|♪[^♪\n]{0,20}♪"
)
_PARENTHESIS: Final = re.compile(r"[(（]([^()（）\n]{0,60})[)）]")
_NOISES: Final = re.compile(
    r"silen|blank|music|musi[kq]|música|nois|laugh|applau|cough|sigh|breath|inaudible|unintelligible|unclear|"
    r"crosstalk|beep|click|wind|static|clears? throat|sniff|gasp|chuckl|sob|cry|scream|foreign|speaking|"
    r"speaks|no (?:speech|audio|sound)|rire|applaud|bruit|gelächter|lacht|stille|geräusch|risas|aplausos|"
    r"silencio|ruido|risos|риск|смех|музык|тишин|шум|аплодис|音乐|音樂|掌声|掌聲|笑|咳|静音|靜音|无声|無聲|"
    r"無音|噪|叹|嘆|拍手|沈黙|音楽|박수|웃음|음악|침묵",
    re.IGNORECASE,
)

_CREDITS: Final = re.compile(
    r"amara\.?org|dimatorzok|zdf für funk|zdf, 20|^untertitel(?:ung)? (?:des|im auftrag|von|der)|字幕由|"
    r"字幕志愿者|字幕志願者|^字幕(?:提供|製作|制作|组|組)|請不吝點贊|请不吝点赞|明镜与点点|明鏡與點點|"
    r"优优独播剧场|優優獨播劇場|yoyo television series|ming pao (?:canada|toronto)|"
    r"^(?:subtitle[sd]?|caption(?:s|ed)?|transcribed|transcription) by\b|"
    r"^sous-?titr(?:es|age)\b.{0,40}\b(?:par|st'|société)|^sottotitoli (?:creati|a cura|e revisione)|"
    r"^subtítulos (?:realizados|por|creados)|^legendas? pela comunidade|^napisy stworzone|"
    r"^ondertitels? ingediend|^ondertiteld door|altyazı m\.?k|субтитры (?:сделал|делал|подогнал|создавал)|"
    r"^редактор субтитров|한글 ?자막 by|자막 ?제공|mbc 뉴스 .{2,5}입니다",
    re.IGNORECASE,
)

_POLITE_PHRASES: Final = (
    "thank you|thanks|thank you very much|thank you so much|thank you for watching|thanks for watching|"
    "thank you for watching this video|thank you so much for watching|"
    "thanks for watching and see you next time|thank you for listening|thanks for listening|"
    "please subscribe|please subscribe to my channel|please like and subscribe|dont forget to subscribe|"
    "like and subscribe|see you next time|see you in the next video|see you next video|"
    "ill see you in the next video|bye|bye bye|goodbye|you|the end|uh|um|mm|谢谢|谢谢大家|谢谢观看|谢谢收看|"
    "谢谢您的观看|感谢观看|感谢收看|感谢您的观看|谢谢大家观看|多谢观看|謝謝|謝謝大家|謝謝觀看|謝謝收看|"
    "謝謝您的觀看|感謝觀看|感謝收看|多謝觀看|我们下期再见|下期再见|下次再见|再见|拜拜|请订阅|请点赞订阅|"
    "订阅点赞|ご視聴ありがとうございました|ご視聴いただきありがとうございました|ご清聴ありがとうございました|"
    "ありがとうございました|ありがとうございます|チャンネル登録お願いします|"
    "チャンネル登録よろしくお願いします|おやすみなさい|시청해주셔서감사합니다|시청해주셔서고맙습니다|"
    "감사합니다|고맙습니다|구독과좋아요부탁드립니다|다음영상에서만나요|merci|merci beaucoup|"
    "merci davoir regardé|merci davoir regardé cette vidéo|à bientôt|abonnez-vous|danke|vielen dank|"
    "vielen dank fürs zuschauen|danke fürs zuschauen|bis zum nächsten mal|tschüss|gracias|muchas gracias|"
    "gracias por ver|gracias por ver el video|gracias por ver el vídeo|suscríbete|suscríbete al canal|"
    "hasta la próxima|obrigado|obrigada|obrigado por assistir|inscreva-se no canal|tchau|grazie|"
    "grazie a tutti|grazie per la visione|grazie per aver guardato|iscrivetevi al canale|спасибо|"
    "спасибо за просмотр|спасибо за внимание|продолжение следует|до встречи|до свидания|"
    "подписывайтесь на канал|dziękuję|dziękuję za uwagę|dziękuję za oglądanie|dzięki za oglądanie|"
    "dank u wel|bedankt voor het kijken|tack|tack för att ni tittade|tak|tak for at se med|kiitos|"
    "kiitos kun katsoitte|teşekkürler|izlediğiniz için teşekkür ederim|izlediğiniz için teşekkürler|"
    "cảm ơn|cảm ơn các bạn đã theo dõi|cảm ơn các bạn đã xem|hãy subscribe cho kênh|terima kasih|"
    "terima kasih telah menonton|شكرا|شكرا للمشاهدة|شكرا لكم|اشتركوا في القناة|धन्यवाद|ขอบคุณครับ|"
    "ขอบคุณค่ะ|תודה רבה|תודה על הצפייה|ευχαριστώ|σας ευχαριστώ|děkuji|děkuji za pozornost|köszönöm|"
    "köszönöm a figyelmet|mulțumesc|mulțumesc pentru vizionare|дякую|дякую за перегляд"
)
_POLITE: Final = frozenset(
    "".join(phrase.replace("'", "").replace("-", "").split()) for phrase in _POLITE_PHRASES.split("|")
)

# A unit of speech: a word with what stands behind it, or one character of a script without spaces.
_UNIT: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff]|[^\W_\u2e80-\ua4cf]+(?:['’-][^\W_]+)*|\S"
)
MAX_REPEATS: Final = 6
"""So often in a row a word or a phrase is repeated by a person who means it; more is cut to `KEPT_REPEATS`."""
KEPT_REPEATS: Final = 3
MAX_DIGITS: Final = 20
"""So often one digit may stand in a number that is dictated."""
_PHRASE_UNITS: Final = 12


def heard(text: str | None, *, weak: bool = False) -> str:
    """What somebody said, by a recogniser's `text`; "" when nothing was said. `weak`: hardly any voice was heard (less
    than `WEAK_VOICED_MS`, or the recogniser itself doubts that it was speech)."""
    if not text:
        return ""
    if len(text) > MAX_CHARS:
        text = text[:MAX_CHARS].rsplit(None, 1)[0]
    words = _without_labels(text)
    if not speakable(words) or _CREDITS.search(words) is not None:
        return ""
    words, repeated = _without_loops(words)
    if weak and (repeated or _bare(words) in _POLITE):
        return ""
    return words


def _without_labels(text: str) -> str:
    text = _LABEL.sub(" ", _MODEL_MARK.sub(" ", text))
    rest = _PARENTHESIS.sub(" ", text)
    if not speakable(rest):
        return ""  # nothing but labels
    text = _PARENTHESIS.sub(lambda match: " " if _NOISES.search(match.group(1)) else match.group(), text)
    return " ".join("".join(char for char in text if not _is_symbol(char)).split()).lstrip("。，、.,!?！？…·-–— ")


def _is_symbol(char: str) -> bool:
    """Emoji and notes: recognisers set them beside the words."""
    return char in "♪♫♬🎵\ufe0f\u200d" or (
        not char.isascii() and unicodedata.category(char) in ("So", "Co", "Cn", "Sk")
    )


def _bare(text: str) -> str:
    """`text` in small letters, without marks and spaces, to be compared."""
    return "".join(char for char in text.casefold() if char.isalnum() or unicodedata.category(char) in ("Mn", "Mc"))


def _without_loops(text: str) -> tuple[str, bool]:
    """`text` with what is repeated more often than anybody does cut short, and whether there was any.

    One pass for each length of phrase; a unit is compared with the one a phrase earlier."""
    units = list(_UNIT.finditer(text))
    words = [unit.group().casefold() for unit in units]
    keep = bytearray(b"\x01" * len(units))
    found = False
    for length in range(1, min(_PHRASE_UNITS, len(words) // MAX_REPEATS) + 1):
        same = 0
        for index in range(length, len(words) + 1):
            if index < len(words) and words[index] == words[index - length]:
                same += 1
                continue
            if same >= (MAX_REPEATS if length > 1 or not words[index - 1].isnumeric() else MAX_DIGITS) * length:
                found = True
                begin, end = index - same - length, index
                keep[begin + KEPT_REPEATS * length : end] = bytes(end - begin - KEPT_REPEATS * length)
            same = 0
    if not found:
        return text, False
    parts, at = [], 0
    for unit, kept in zip(units, keep, strict=True):
        if kept:
            parts.append(text[at : unit.end()] if at <= unit.start() else unit.group())
        at = unit.end()
    return "".join(parts).strip(), True
