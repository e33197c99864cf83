"""Languages as GPT-SoVITS calls them. Source: github.com/RVC-Boss/GPT-SoVITS, api_v2.py and api.py."""

from __future__ import annotations

from typing import Final

from xiaozhi.speech.language import named_language

LANGUAGES: Final = ("zh", "en", "ja", "ko", "yue", "auto", "auto_yue", "all_zh", "all_ja", "all_ko", "all_yue")
_CANTONESE: Final = ("粤语", "粵語", "广东话", "廣東話", "cantonese")


def language_for_sovits(name: str) -> str:
    """ "zh", "中文", "Japanese" -> what the server understands; "" as it is. Raises ValueError."""
    asked = name.strip().lower()
    if not asked or asked in LANGUAGES:
        return asked
    if asked in _CANTONESE:
        return "yue"
    language = named_language(asked)
    if language not in LANGUAGES:
        raise ValueError(f"expected one of {', '.join(LANGUAGES)}, or the name of such a language")
    return language
