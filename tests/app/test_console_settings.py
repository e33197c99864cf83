"""What the settings page is told of a server whose settings are not, or not only, the owner's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from xiaozhi.app.console_settings import SettingsDesk
from xiaozhi.errors import SettingsError
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.settings import Loaded, load
from xiaozhi.settings.yaml_edit import Change


@pytest.fixture
def inference() -> Iterator[InferencePool]:
    pool = InferencePool(1)
    pool.start()
    yield pool
    pool.close()


def desk(inference: InferencePool, **settings: Any) -> SettingsDesk:
    loaded: Loaded = load(environ={}, overrides=settings)
    return SettingsDesk(
        current=lambda: loaded,
        preview=None,
        reload=lambda: (),
        pool=ProviderPool(inference, lambda report: None),
        inference=inference,
    )


def test_under_a_management_console_it_is_said_who_decides(inference: InferencePool) -> None:
    managed = desk(
        inference, **{"manager-api": {"url": "http://me:very-secret@127.0.0.1:8002/xiaozhi", "secret": "s" * 32}}
    )
    alone = desk(inference)

    assert managed.overview()["managed_by"] == "http://***@127.0.0.1:8002/xiaozhi"
    assert alone.overview()["managed_by"] == ""


def test_where_several_workers_share_the_port_it_is_said(inference: InferencePool) -> None:
    assert desk(inference, server={"reuse_port": True}).overview()["several_workers"]
    assert not desk(inference).overview()["several_workers"]


def test_without_a_file_nothing_can_be_changed(inference: InferencePool) -> None:
    fixed = desk(inference)

    assert "without a configuration file" in fixed.overview()["refusal"]
    for change in (fixed.preview, lambda changes: fixed.save(changes, "")):
        with pytest.raises(SettingsError, match="cannot be changed from here"):
            change([Change(("language",), "German")])
