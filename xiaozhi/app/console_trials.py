"""Trying one block from the console before it is saved: does it answer, how fast, what to do when it does not; and what
a voice sounds like. Nothing that is secret comes back, whatever a vendor says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gevent.lock import BoundedSemaphore

from xiaozhi.app.console_voice import VoiceTrials
from xiaozhi.app.vendor_health import FAILED, VendorVerdict, try_vendors, words_of
from xiaozhi.app.vendor_trials import VendorTrial, measure
from xiaozhi.errors import Overloaded, XiaozhiError
from xiaozhi.providers import registry
from xiaozhi.providers.pool import LeasedProviders, ProviderPool
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.settings import SECTIONS, Loaded
from xiaozhi.settings.masking import MASK, hides, mask_text
from xiaozhi.settings.yaml_edit import Change

AT_ONCE: Final = 2
"""Trials under way; more are refused."""
SHORTEST_SECRET: Final = 4
MAX_TEXT_CHARS: Final = 200


class VendorTrials:
    """`pool`: where the providers of sessions come from; one that is tried and in use is the same."""

    def __init__(self, pool: ProviderPool, inference: InferencePool) -> None:
        self._pool = pool
        self._voices = VoiceTrials(pool, inference)
        self._places = BoundedSemaphore(AT_ONCE)

    def check(self, loaded: Loaded, kind: str, name: str, changes: Sequence[Change]) -> Mapping[str, Any]:
        """Try and measure one block. Blocks for half a minute at most. Raises Overloaded."""
        with _place(self._places):
            return _without_secrets(self._check(loaded, kind, name), _secrets(loaded, kind, name, changes))

    def voice(self, loaded: Loaded, name: str, text: str, changes: Sequence[Change]) -> bytes | Mapping[str, Any]:
        """`text` spoken by a block, as a WAV file; or what `check` says of one that does not speak. Blocks. Raises
        Overloaded."""
        try:
            return self._voices.hear(loaded, text[:MAX_TEXT_CHARS], name)
        except Overloaded:
            raise
        except (XiaozhiError, OSError, ImportError, ValueError) as error:
            block = registry.block_key("tts", name)
            verdict = VendorVerdict("tts", block, FAILED, None, *words_of(block, error))
            return _without_secrets(_told(VendorTrial(verdict)), _secrets(loaded, "tts", name, changes))

    def _check(self, loaded: Loaded, kind: str, name: str) -> dict[str, Any]:
        [verdict] = try_vendors(loaded, self._pool, [(kind, name)])
        leased = LeasedProviders(self._pool, loaded)
        try:
            [trial] = measure(leased, loaded.settings, [(name, verdict)])
        finally:
            leased.release()
        return _told(trial)


class _place:
    """One of the places, or Overloaded at once."""

    def __init__(self, places: BoundedSemaphore) -> None:
        self._places = places

    def __enter__(self) -> None:
        if not self._places.acquire(blocking=False):
            raise Overloaded("trials")

    def __exit__(self, *error: object) -> None:
        self._places.release()


def _told(each: VendorTrial) -> dict[str, Any]:
    verdict, trial = each.verdict, each.trial
    return {
        "block": verdict.block,
        "state": "failed" if verdict.failed else verdict.state,
        "found": verdict.found,
        "limitations": list(verdict.limitations),
        "connect_ms": each.connect_ms,
        "first_ms": trial.first_ms if trial is not None else None if verdict.failed else verdict.milliseconds,
        "total_ms": trial.total_ms if trial is not None else None,
        "sound_s": trial.sound_s if trial is not None else None,
        "text": trial.text if trial is not None else "",
        "understood": each.alike,
    }


def _secrets(loaded: Loaded, kind: str, name: str, changes: Sequence[Change]) -> list[str]:
    """All that must not come back: what is secret in the block, and in what was just typed."""
    block = loaded.settings.modules(kind).get(name, {})
    try:
        named = set(registry.secrets_of(registry.registration(kind, name, block)))
    except XiaozhiError:
        named = set()
    trees = [(SECTIONS[kind], block), *((change.path[-1], change.value) for change in changes)]
    found = {text for key, tree in trees for text in _hidden(key, tree, named)}
    return sorted(filter(lambda text: len(text) >= SHORTEST_SECRET, found), key=len, reverse=True)


def _hidden(key: str, value: Any, named: set[str], inside: bool = False) -> Iterator[str]:
    inside = inside or key in named or hides(key, "")
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _hidden(str(name), item, named, inside)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _hidden(key, item, named, inside)
    elif inside and not isinstance(value, bool) and value is not None:
        yield str(value)
        yield from str(value).split()  # "Bearer <key>"


def _without_secrets(answer: Mapping[str, Any], secrets: Sequence[str]) -> dict[str, Any]:
    def clean(value: Any) -> Any:
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, MASK)
            return mask_text(value)
        return value

    return {key: clean(value) for key, value in answer.items()}
