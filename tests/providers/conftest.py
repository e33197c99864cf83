"""What tests of several providers use."""

from __future__ import annotations

from pathlib import Path

import pytest

from xiaozhi.providers.families import offline_phrases
from xiaozhi.providers.families.offline_phrases import PhraseBook

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.fixture(scope="session")
def book() -> PhraseBook:
    """The phrase file that is shipped."""
    return offline_phrases.load(CONFIG / "offline.yaml")
