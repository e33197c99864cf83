"""Charts are well-formed SVG that shows every point."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.report import charts

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e7)), max_size=30)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@given(VALUES, VALUES)
def test_lines_are_drawn_inside_the_frame(one: list[tuple[float, float]], two: list[tuple[float, float]]) -> None:
    root = parsed(charts.lines("a title", "x", "y", {"one": one, "two": two}, limit=("aim", 5.0)))

    for line in root.iter(f"{SVG}polyline"):
        for point in line.get("points", "").split():
            x, y = map(float, point.split(","))
            assert charts.LEFT - 0.1 <= x <= charts.WIDTH - charts.RIGHT + 0.1
            assert charts.TOP - 0.1 <= y <= charts.HEIGHT - charts.BOTTOM + 0.1
    assert len(list(root.iter(f"{SVG}polyline"))) == bool(one) + bool(two)


def test_names_are_escaped():
    svg = charts.lines("<b>", "&", '"', {"<x>": [(0, 1)], "<y>": [(0, 2)]})

    texts = [text.text for text in parsed(svg).iter(f"{SVG}text")]
    assert {"<b>", "&", '"', "<x>", "<y>"} <= set(texts)


def test_every_dot_and_every_bar_is_there():
    assert len(list(parsed(charts.dots("t", "x", "y", [(1, 2), (3, 4)])).iter(f"{SVG}circle"))) == 2
    assert len(list(parsed(charts.bars("t", "x", "y", [(0, 3), (20, 0), (40, 5)], 20)).iter(f"{SVG}rect"))) == 2


def test_a_rare_bar_can_be_seen_beside_a_frequent_one():
    bars = list(parsed(charts.bars("t", "x", "y", [(60, 100_000), (90, 1)], 1, logarithmic=True)).iter(f"{SVG}rect"))

    assert float(bars[1].get("height", "0")) > 20


@pytest.mark.parametrize(
    "svg", [charts.lines("t", "x", "y", {}), charts.dots("t", "x", "y", []), charts.bars("t", "x", "y", [], 1)]
)
def test_nothing_to_draw_is_said(svg: str) -> None:
    assert "nothing was measured" in "".join(parsed(svg).itertext())
