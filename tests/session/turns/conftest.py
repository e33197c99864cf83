"""What tests of whole turns get: a rig, or what makes rigs with other options."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.session.turns.rig import TurnRig, rig_factory

make = pytest.fixture(rig_factory)


@pytest.fixture
def rig(make: Callable[..., TurnRig]) -> TurnRig:
    """With the usual options."""
    return make()
