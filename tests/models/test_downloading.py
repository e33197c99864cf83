"""A file arrives whole or is told to be missing: over mirrors that break off, crawl, lie or are gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.vendors.model_mirror import ModelMirror, model_mirror
from xiaozhi.models.downloading import DownloadFailed, Patience, download
from xiaozhi.models.entries import ModelFile

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = Patience(connect_s=2.0, silent_s=0.3, slow_s=20.0, slow_bytes=1_000_000, tries=2)


@pytest.fixture
def first() -> Iterator[ModelMirror]:
    """A mirror with the right bytes."""
    with model_mirror({"/model.onnx": CONTENT}) as mirror:
        yield mirror


@pytest.fixture
def second() -> Iterator[ModelMirror]:
    """Another one."""
    with model_mirror({"/model.onnx": CONTENT}) as mirror:
        yield mirror


def of(*mirrors: ModelMirror, sha256: str = SHA256) -> ModelFile:
    """The file, at these mirrors."""
    return ModelFile("model.onnx", len(CONTENT), tuple(f"{mirror.url}/model.onnx" for mirror in mirrors), sha256)


def ignored(have: int, total: int) -> None:
    """Progress that nobody looks at."""


def test_a_file_arrives_and_its_progress_is_told(first: ModelMirror, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    found = download(of(first), tmp_path / "part", lambda have, total: told.append((have, total)), HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT and found == SHA256
    assert told[0] == (0, len(CONTENT)) and told[-1] == (len(CONTENT), len(CONTENT))


def test_it_goes_on_where_the_mirror_broke_off(first: ModelMirror, tmp_path: Path) -> None:
    first.breaks_after = [20_000, 40_000]

    download(of(first), tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT
    starts = [start for _, start in first.asked]
    assert starts[0] == 0 and starts == sorted(set(starts)) and len(starts) == 3


def test_it_goes_on_where_an_earlier_run_was_interrupted(first: ModelMirror, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:50_000])

    download(of(first), tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT
    assert first.asked == [("/model.onnx", 49_999)]


def test_a_file_that_is_whole_already_is_not_brought_again(first: ModelMirror, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT)

    download(of(first), tmp_path / "part", ignored, HASTY)

    assert first.asked == [("/model.onnx", len(CONTENT) - 1)]


def test_a_mirror_that_breaks_off_at_once_is_left(first: ModelMirror, second: ModelMirror, tmp_path: Path) -> None:
    first.breaks_after = [0] * 10

    download(of(first, second), tmp_path / "part", ignored, HASTY)

    assert len(first.asked) == HASTY.tries and len(second.asked) == 1


def test_the_next_mirror_goes_on_with_what_the_last_one_gave(
    first: ModelMirror, second: ModelMirror, tmp_path: Path
) -> None:
    first.breaks_after = [40_000, 0, 0]

    download(of(first, second), tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT
    assert second.asked[0][1] >= 40_000 - 4_096


def test_a_mirror_without_ranges_begins_anew(first: ModelMirror, tmp_path: Path) -> None:
    first.knows_ranges = False
    (tmp_path / "part").write_bytes(b"x" * 5_000)

    download(of(first), tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 5_000, b"x" * (len(CONTENT) + 9)])
def test_what_is_left_of_another_file_is_thrown_away(left: bytes, first: ModelMirror, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(left)

    download(of(first), tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_mirror_with_other_bytes_is_passed_over(first: ModelMirror, second: ModelMirror, tmp_path: Path) -> None:
    first.files["/model.onnx"] = b"?" * len(CONTENT)

    download(of(first, second), tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT


def test_when_every_mirror_fails_each_is_named_with_its_reason(
    first: ModelMirror, second: ModelMirror, tmp_path: Path
) -> None:
    first.status = 404
    second.files["/model.onnx"] = b"?" * 100

    with pytest.raises(DownloadFailed) as failed:
        download(of(first, second), tmp_path / "part", ignored, HASTY)

    said = str(failed.value)
    assert f"{first.url.removeprefix('http://')}: it answers 404" in said
    assert f"{second.url.removeprefix('http://')}: it carries other bytes: SHA-256" in said
    assert not (tmp_path / "part").exists(), "wrong bytes are not kept for the next run"


def test_a_silent_mirror_is_left(first: ModelMirror, second: ModelMirror, tmp_path: Path) -> None:
    first.pause_s = 5.0

    download(of(first, second), tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_slow_mirror_is_left_for_the_next_but_not_the_last(
    first: ModelMirror, second: ModelMirror, tmp_path: Path
) -> None:
    """By the clock that is given: each look at it is a minute later."""
    minutes = count(0, 60)

    download(of(first, second), tmp_path / "part", ignored, HASTY, lambda: float(next(minutes)))

    assert (tmp_path / "part").read_bytes() == CONTENT
    assert len(first.asked) == 1 and second.asked


def test_nobody_listens_there(first: ModelMirror, tmp_path: Path) -> None:
    gone = ModelFile("model.onnx", 1, ("http://127.0.0.1:1/model.onnx", f"{first.url}/model.onnx"), SHA256)

    download(gone, tmp_path / "part", ignored, HASTY)

    assert (tmp_path / "part").read_bytes() == CONTENT


def test_without_a_checksum_nothing_that_was_left_is_trusted(first: ModelMirror, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x" * 5_000)

    assert download(of(first, sha256=""), tmp_path / "part", ignored, HASTY) == SHA256
    assert first.asked == [("/model.onnx", 0)]
