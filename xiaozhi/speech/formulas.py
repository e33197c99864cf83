r"""LaTeX, as language models write it in formulas, as a line of text: `\frac{a}{b} \leq x^2` becomes `a/b ≤ x²`.

Not a speaker of mathematics: the signs are left to the voice, like digits and units. The knowledge of LaTeX is
pylatexenc's; what it would write so that it sounds like something else (fractions and powers of more than one sign
without brackets) is written with them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
from pylatexenc.latexwalker import LatexWalkerError

MAX_CHARS: Final = 400
"""Longer formulas are not waited for."""
_MAX_NESTING: Final = 12
_ONE_SIGN: Final = re.compile(r"-?(?:\w+|[(√].*[)])")
_SUPERSCRIPTS: Final = str.maketrans("0123456789+-n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ")
_RAISED: Final = re.compile(r"([_^])(?:\{([^{}]*)\}|(\\[A-Za-z]+|[^{}\s\\]))")
_SIMPLE_POWER: Final = re.compile(r"[-+]?\d+|n")
_COMMAND_OR_SIGN: Final = re.compile(r"\\[A-Za-z]+|-?\w+")
_COMMENT: Final = re.compile(r"(?<!\\)%")
_LATEX: Final = re.compile(r"[\\{}^_~&%#]")
_SPACES: Final = re.compile(r"\s+")


def _argument(node: Any, index: int, converter: LatexNodes2Text) -> str:
    text = converter.nodelist_to_text([node.nodeargd.argnlist[index]]).strip()
    return text if _ONE_SIGN.fullmatch(text) else f"({text})"


def _fraction(node: Any, l2tobj: LatexNodes2Text) -> str:
    return f"{_argument(node, 0, l2tobj)}/{_argument(node, 1, l2tobj)}"


def _converter() -> LatexNodes2Text:
    known = get_default_latex_context_db()
    known.add_context_category(
        "spoken",
        prepend=True,
        macros=[
            MacroTextSpec("frac", simplify_repl=_fraction),
            MacroTextSpec("dfrac", simplify_repl=_fraction),
            MacroTextSpec("tfrac", simplify_repl=_fraction),
            MacroTextSpec("circ", "°"),
        ],
    )
    return LatexNodes2Text(latex_context=known, math_mode="text", strict_latex_spaces=False)


_CONVERTER: Final = _converter()
# What is also seen outside of formulas.
_BARE: Final = (
    "frac dfrac tfrac sqrt times cdot div pm leq le geq ge neq ne approx equiv infty sum int prod degree circ "
    "alpha beta gamma delta epsilon theta lambda mu pi rho sigma tau phi omega Delta Sigma Omega rightarrow "
    "Rightarrow leftarrow to in cup cap ldots cdots dots text mathrm mathbf boxed quad"
)
BARE: Final = frozenset(_BARE.split())
"""Commands that are commands wherever they stand; any other word behind a backslash may be part of a path."""


@lru_cache(maxsize=256)
def plain(latex: str) -> str:
    """The formula `latex` (without the dollars or brackets around it) as a line of text; as it is, when it is none that
    can be read."""
    if not _LATEX.search(latex):
        return latex
    nesting = depth = 0
    for char in latex:
        depth += (char == "{") - (char == "}")
        nesting = max(nesting, depth)
    if nesting > _MAX_NESTING or len(latex) > MAX_CHARS:
        return latex
    escaped = _COMMENT.sub(r"\%", _RAISED.sub(_raised, latex))
    try:
        text = _SPACES.sub(" ", _CONVERTER.latex_to_text(f"${escaped}$")).strip()
    except (LatexWalkerError, ValueError, IndexError, AttributeError, TypeError):
        return latex  # the library says this of some broken formulas
    return text if text and "$" not in text else latex


def _raised(match: re.Match[str]) -> str:
    """A power or an index."""
    mark, inside = match.group(1), (match.group(2) if match.group(2) is not None else match.group(3)).strip()
    if mark == "^" and inside in (r"\circ", r"\degree"):
        return "°"
    if mark == "^" and _SIMPLE_POWER.fullmatch(inside):
        return inside.translate(_SUPERSCRIPTS)
    return f"{mark}{{{inside}}}" if _COMMAND_OR_SIGN.fullmatch(inside) else f"{mark}({inside})"
