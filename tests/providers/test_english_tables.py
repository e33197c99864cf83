"""The tables of hibari, packed: what it reads must be what it read before."""

from __future__ import annotations

import pytest

from xiaozhi.providers.families.neural_voices import ENGLISH_PACKAGE, english_modules, is_installed, pack_tables
from xiaozhi.providers.families.packed_words import PackedWords

SENTENCES = (
    "I read the book that you read yesterday.",
    "He used to live here; now they record live music.",
    "Dr. Smith's well-known X-ray cost $3.50 in 1999, that is 40% more.",
    "WiFi on the NASA laptop was so-so, wasn't it?",
    "Set an alarm for half past seven tomorrow, please.",
)


@pytest.mark.skipif(not is_installed(ENGLISH_PACKAGE), reason="make setup WITH=speech")
def test_packed_tables_read_as_before() -> None:
    g2p = english_modules()["g2p"].G2P(oov=False)
    before = [g2p(sentence) for sentence in SENTENCES]

    pack_tables(g2p)

    assert [g2p(sentence) for sentence in SENTENCES] == before
    assert all(before)
    assert isinstance(g2p.tagger.weights, PackedWords)
