"""The alphabet of Kokoro-82M, and Mandarin syllables in it.

Characters and their numbers: config.json of hexgrad/Kokoro-82M. How a syllable is written: as the front end wrote it
that the model was trained with (hexgrad/misaki 0.9.4, zh, version 1.0): IPA, affricates as one character, aspiration by
ʰ, ɨ for the vowels of zi and zhi, an arrow for the tone behind the vowel, nothing for the neutral tone."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 510
"""Characters in one call of the model."""
_RUNS: Final = {
    1: ";:,.!?", 9: "—…\"()“” \u0303ʣʥʦʨᵝꭧAI", 31: "O", 33: "Q", 35: "ST", 39: "W", 41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyzɑɐɒæ", 75: "βɔɕç", 80: "ɖðʤə", 85: "ɚɛɜ", 90: "ɟ", 92: "ɡ", 99: "ɥ", 101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø", 118: "ɸθœ", 123: "ɹ", 125: "ɾɻ", 128: "ʁɽʂʃʈʧ", 135: "ʊʋ", 138: "ʌɣɤ", 142: "χʎ",
    147: "ʒʔ", 156: "ˈˌː", 162: "ʰ", 164: "ʲ", 169: "↓", 171: "→↗↘", 177: "ᵻ",
}  # fmt: skip
NUMBERS: Final = {char: start + place for start, run in _RUNS.items() for place, char in enumerate(run)}
"""Character -> its number; 0 stands at both ends."""

_TONES: Final = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
_INITIALS: Final = {
    "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ", "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n",
    "l": "l", "g": "k", "k": "kʰ", "h": "x", "j": "ʨ", "q": "ʨʰ", "x": "ɕ", "r": "ɻ", "z": "ʦ", "c": "ʦʰ", "s": "s",
}  # fmt: skip
# "0" is where the tone stands.
_FINALS: Final = {
    "a": "a0", "ai": "ai0", "an": "a0n", "ang": "a0ŋ", "ao": "au0", "e": "ɤ0", "ei": "ei0", "en": "ə0n",
    "eng": "ə0ŋ", "i": "i0", "ia": "ja0", "ian": "jɛ0n", "iang": "ja0ŋ", "iao": "jau0", "ie": "je0", "in": "i0n",
    "ing": "i0ŋ", "iong": "jʊ0ŋ", "iou": "jou0", "o": "wo0", "ong": "ʊ0ŋ", "ou": "ou0", "u": "u0", "ua": "wa0",
    "uai": "wai0", "uan": "wa0n", "uang": "wa0ŋ", "uei": "wei0", "uen": "wə0n", "ueng": "wə0ŋ", "uo": "wo0",
    "v": "y0", "van": "ɥɛ0n", "ve": "ɥe0", "vn": "y0n",
}  # fmt: skip
_WHOLE: Final = {"er": "ɚ0", "o": "ɔ0", "yo": "jɔ0", "eh": "ɛ0"}
# Spelling of pinyin: what stands for a final without an initial, and short forms behind one.
_BARE: Final = {
    "yi": "i", "yin": "in", "ying": "ing", "you": "iou", "wu": "u", "wei": "uei", "wen": "uen", "weng": "ueng",
    "yu": "v", "yue": "ve", "yuan": "van", "yun": "vn", "yong": "iong",
}  # fmt: skip
_SHORT: Final = {"iu": "iou", "ui": "uei", "un": "uen", "ue": "ve"}


def phonemes_of(syllable: str) -> str:
    """ "hao3" -> "xau↓"; "na3r" (erhua) -> "na↓ɚ"; "" for what is no syllable of pinyin."""
    coloured = syllable.endswith("r") and syllable[-2:-1].isdigit()
    letters, tone = (syllable[:-2], syllable[-2]) if coloured else (syllable[:-1], syllable[-1:])
    pattern = _pattern(letters)
    if not pattern or tone not in _TONES:
        return ""
    if coloured:
        pattern = pattern.removesuffix("n").replace("i0", "0") + "ɚ" if len(pattern) > 2 else pattern + "ɚ"
    return pattern.replace("0", _TONES[tone])


def _pattern(letters: str) -> str:
    if letters in _WHOLE:
        return _WHOLE[letters]
    if letters[:1] in ("y", "w"):
        final = _BARE.get(letters) or {"y": "i", "w": "u"}[letters[0]] + letters[1:]
        return _FINALS.get(final, "")
    initial = next((each for each in _INITIALS if letters.startswith(each)), "")
    final = letters[len(initial) :]
    final = _SHORT.get(final, final)
    if initial in ("j", "q", "x") and final[:1] == "u":
        # What is written u is ü there; so is "un", whose long form is "uen".
        final = {"u": "v", "uan": "van", "uen": "vn"}.get(final, final)
    if final == "i" and initial in ("z", "c", "s", "zh", "ch", "sh", "r"):
        return f"{_INITIALS[initial]}ɨ0"
    found = _FINALS.get(final, "")
    return (_INITIALS[initial] if initial else "") + found if found else ""
