"""Smart Turn: its options, what becomes of failures, batches; with the real file where it lies in models/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from loadtest.simulator.speech import speak
from tests.fakes.sound import silence, tone
from xiaozhi.errors import SettingsError, VendorUnavailable
from xiaozhi.providers import registry
from xiaozhi.providers.contracts.end_of_turn import EndOfTurn
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.end_of_turn.smart_turn import FILE, LOOK_EVERY_S, SmartTurn, SmartTurnOptions
from xiaozhi.providers.wrappers import guard
from xiaozhi.runtime.inference import InferencePool

REAL = Path("models/smart-turn-v3.2")


@pytest.fixture
def pool() -> Iterator[InferencePool]:
    pool = InferencePool(workers=2)
    pool.start()
    yield pool
    pool.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of the same shape: the mean of the features, as a probability."""
    given = helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["n", 80, 800])
    found = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1])
    nodes = [
        helper.make_node("ReduceMean", ["input_features"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Sigmoid", ["column"], ["logits"]),
    ]
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", [given], [found], [one]), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 9
    onnx.save(model, str(tmp_path / FILE))
    return tmp_path


def built(pool: InferencePool, folder: Path, **options: Any) -> SmartTurn:
    block = {"type": "smart_turn", "model_dir": str(folder), "sha256": "", "deadline_ms": 10_000, **options}
    made: SmartTurn = registry.build("end_of_turn", "SmartTurn", block, Services(inference=pool))
    made.warm_up()
    return made


def test_sounds_of_any_length_are_judged_in_batches(pool: InferencePool, folder: Path) -> None:
    model = built(pool, folder)
    sounds = [b"", silence(100), tone(1_000), tone(20_000)]
    alone = [model.judge(pcm) for pcm in sounds]
    greenlets = [gevent.spawn(model.judge, pcm) for pcm in sounds]
    gevent.joinall(greenlets, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == pytest.approx(alone, abs=1e-5)
    assert all(0 <= probability <= 1 for probability in alone) and alone[2] != alone[1]
    assert model.judge(tone(4_000) + tone(8_000)) == pytest.approx(model.judge(tone(8_000)), abs=1e-6), "the last 8 s"


def test_other_bytes_than_expected_are_refused(pool: InferencePool, folder: Path) -> None:
    with pytest.raises(SettingsError, match="SHA-256"):
        built(pool, folder, sha256="00ff")


def test_a_missing_file_is_told_with_the_command_that_brings_it(pool: InferencePool, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{FILE}.*models fetch"):
        built(pool, tmp_path)


def test_a_file_that_arrives_later_is_used_from_then_on(pool: InferencePool, folder: Path, tmp_path: Path) -> None:
    now = [0.0]
    options = SmartTurnOptions(model_dir=str(folder), sha256="")
    file = folder / FILE
    away = file.rename(tmp_path / "away")
    model = SmartTurn(options, Services(inference=pool), clock=lambda: now[0])
    model.warm_up()
    assert model.judge(tone(1_000)) is None, "nobody is asked, and nothing fails"

    away.rename(file)
    assert model.judge(tone(1_000)) is None, "it is not looked for at every pause"
    now[0] += LOOK_EVERY_S
    assert model.judge(tone(1_000)) is not None


def test_a_file_that_arrives_broken_is_told_once(
    pool: InferencePool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    options = SmartTurnOptions(model_dir=str(folder), sha256="00ff")
    model = SmartTurn(options, Services(inference=pool), clock=lambda: now[0])
    for _ in range(3):
        now[0] += LOOK_EVERY_S
        assert model.judge(tone(1_000)) is None
    assert capsys.readouterr().out.count("a model cannot be used") == 1


def test_the_usual_folder_may_be_filled_later() -> None:
    assert SmartTurnOptions().model_dir == "models/smart-turn-v3.2"


def test_it_is_for_english_and_chinese_unless_the_block_says_otherwise(pool: InferencePool, folder: Path) -> None:
    assert built(pool, folder).traits.languages == ("en", "zh")
    assert built(pool, folder, languages=[]).traits.languages == ()


def test_a_closed_or_broken_model_is_a_vendors_failure(pool: InferencePool, folder: Path) -> None:
    model = built(pool, folder)
    with pytest.raises(VendorUnavailable, match="failed"):
        model.judge(b"odd")
    model.close()
    with pytest.raises(VendorUnavailable, match="closed"):
        model.judge(b"")


@pytest.mark.skipif(not (REAL / FILE).is_file(), reason="server.py models fetch smart-turn-v3.2")
@pytest.mark.blocks_hub("onnxruntime is imported")
def test_the_real_model_hears_an_end(pool: InferencePool) -> None:
    model = built(pool, REAL, sha256=registry.find("end_of_turn", "smart_turn").options.model_fields["sha256"].default)
    question = speak("What time is it?").pcm
    cut = len(question) * 6 // 10 // 2 * 2
    whole, part = model.judge(question + silence(200)), model.judge(question[:cut] + silence(200))
    assert whole > 0.5 and whole > part
    assert np.isfinite(part)


def test_a_model_elsewhere_is_guarded_and_never_asked_twice() -> None:
    class Remote(EndOfTurn):
        asked = 0
        answer: float | Exception = 0.7

        def judge(self, pcm: bytes) -> float:
            self.asked += 1
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    remote = Remote()
    remote.name = "Remote"
    guarded = guard("end_of_turn", remote)
    assert guarded.judge(b"") == 0.7 and guarded.traits == remote.traits and isinstance(guarded, EndOfTurn)
    remote.answer = VendorUnavailable("remote", "down")
    with pytest.raises(VendorUnavailable):
        guarded.judge(b"")
    assert remote.asked == 2
