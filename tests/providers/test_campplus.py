"""CAM++ in numpy, and the reader of its file, which runs nothing of what the file says."""

from __future__ import annotations

import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.tensor_files import campplus_model, campplus_weights, named, state_file, storage, tensor, text
from xiaozhi.audio.kaldi_fbank import BANDS, RATE
from xiaozhi.models.catalogue import known_model
from xiaozhi.models.fetching import is_here
from xiaozhi.providers.families import campplus
from xiaozhi.providers.families.campplus import SIZE, MandarinVoiceEncoder
from xiaozhi.providers.families.torch_tensors import BadTensorFile, read_state

SMALL = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}


def archive(**members: bytes) -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as made:
        for name, data in members.items():
            made.writestr(f"archive/{name.replace('_', '/')}", data)
    return written.getvalue()


def read(path: Path, content: bytes) -> object:
    file = path / "x.bin"
    file.write_bytes(content)
    return read_state(file, ["a", "b"])


def test_tensors_are_read_beside_numbers_that_are_not_needed(tmp_path: Path) -> None:
    found = read(tmp_path, state_file(SMALL))

    assert isinstance(found, dict) and sorted(found) == ["a", "b"]
    assert np.array_equal(found["a"], SMALL["a"]) and np.array_equal(found["b"], SMALL["b"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 cut off",
        archive(version=b"3"),
        archive(**{"data.pkl": pickle.dumps({"a": 1}, 2)}),
        state_file(SMALL, compressed=True),
        state_file(SMALL, a=named("os mkdir") + b"(" + text("hostile-was-here") + b"tR"),
        state_file(SMALL, a=storage("a", 6, "torch DoubleStorage")),
        state_file(SMALL, a=tensor("n", (1,))),
        state_file(SMALL, a=tensor("elsewhere", (2, 3))),
        state_file(SMALL, a=tensor("a", (2, 3), length=5)),
        state_file(SMALL, a=tensor("a", (2, 300))),
        state_file({"b": SMALL["b"]}),
        state_file(SMALL)[:-60],
    ],
    ids=range(13),
)
def test_what_is_no_file_of_these_tensors_is_refused_and_nothing_of_it_is_run(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BadTensorFile):
        read(tmp_path, content)

    assert not Path("hostile-was-here").exists()


def test_it_computes_what_the_authors_code_computes() -> None:
    """Golden values: the published PyTorch code with these made-up weights, for this noise (torch 2.13; the largest
    difference of all 192 numbers was 1e-6)."""
    features = np.random.default_rng(2).standard_normal((230, BANDS)).astype(np.float32)

    found = MandarinVoiceEncoder(campplus_weights()).encode(features)

    assert found.shape == (SIZE,)
    assert found[:6] == pytest.approx([3.561853, 0.831069, -0.668876, -1.307206, 2.040456, -0.775631], abs=2e-4)
    assert np.linalg.norm(found) == pytest.approx(19.57168, abs=1e-3)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(BadTensorFile, match=r"dense\.linear"):
        MandarinVoiceEncoder({**campplus_weights(), "xvector.dense.linear.weight": np.zeros((3, 1, 1), np.float32)})


def test_too_little_voice_says_nothing_and_more_than_enough_is_cut() -> None:
    encoder = MandarinVoiceEncoder(campplus_weights())
    times = np.arange(8 * RATE) / RATE
    buzz = (8_000 * np.sign(np.sin(2 * np.pi * 140 * times))).astype("<i2").tobytes()

    assert encoder.embed(b"") is None and encoder.embed(bytes(3 * 2 * RATE)) is None
    assert encoder.embed(buzz[: round(0.7 * 2 * RATE)]) is None
    short, long = encoder.embed(buzz[: 2 * RATE]), encoder.embed(buzz + b"\0")
    assert short is not None and 0.9 < short[1] <= 1.0
    assert long is not None and long[1] == 5.0


def test_a_model_of_the_right_shapes_loads(tmp_path: Path) -> None:
    campplus.load(campplus_model(tmp_path))


def test_the_published_weights_load_and_hear() -> None:
    """Where they were fetched; the build machine does without their 48 MB."""
    model = known_model("campplus")
    assert model is not None
    folder = Path(__file__).resolve().parents[2] / "models" / model.folder
    if not is_here(model, folder):
        pytest.skip("server.py models fetch campplus")
    features = np.random.default_rng(2).standard_normal((230, BANDS)).astype(np.float32)

    found = campplus.load(folder).encode(features)

    assert found[:4] == pytest.approx(GOLDEN, abs=1e-3)


GOLDEN = [-0.36546, 0.86626, 0.80387, 1.44698]
