"""Archives of strangers: nothing gets out of the folder, nothing is without end, nothing but plain files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from xiaozhi.models.unpacking import BadArchive, is_archive, unpack


def tar(path: Path, *members: tuple[str, bytes], mode: str = "w:bz2", extra: tarfile.TarInfo | None = None) -> Path:
    """A tar file at `path`."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if extra is not None:
            archive.addfile(extra)
    return path


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    """A zip file at `path`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("mode", ["w:bz2", "w:gz", "w:xz", "w"])
def test_a_tar_loses_its_only_folder(mode: str, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a", ("model/tokens.txt", b"a 0"), ("model/dict/user.dict", b"b"), mode=mode)

    assert is_archive(archive)
    unpack(archive, tmp_path / "here")

    assert (tmp_path / "here/tokens.txt").read_bytes() == b"a 0"
    assert (tmp_path / "here/dict/user.dict").read_bytes() == b"b"
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["dict", "tokens.txt"]


def test_a_zip_without_a_common_folder_stays_as_it_is(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("am/final.mdl", b"1"), ("conf/model.conf", b"2"))

    assert is_archive(archive)
    unpack(archive, tmp_path / "here")

    assert (tmp_path / "here/am/final.mdl").read_bytes() == b"1"


@pytest.mark.parametrize("make", [tar, zipped], ids=["tar", "zip"])
@pytest.mark.parametrize("name", ["../outside", "/outside", "model/../../outside", "C:/outside", "..\\outside"])
def test_a_way_out_of_the_folder_is_refused(name: str, make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", ("model/tokens.txt", b""), (name, b"!"))

    with pytest.raises(BadArchive, match="leads out"):
        unpack(archive, tmp_path / "a/b/here")

    assert not list(tmp_path.rglob("outside")) and not Path("/outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    strange = tarfile.TarInfo("model/x")
    strange.type, strange.linkname = kind, "/etc/passwd"
    archive = tar(tmp_path / "archive", ("model/tokens.txt", b""), extra=strange)

    with pytest.raises(BadArchive):
        unpack(archive, tmp_path / "here")

    assert not (tmp_path / "here/model/x").exists()


@pytest.mark.parametrize("make", [tar, zipped], ids=["tar", "zip"])
def test_an_archive_that_grows_without_end_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", ("a", bytes(60_000)), ("b", bytes(60_000)))

    with pytest.raises(BadArchive, match="more than"):
        unpack(archive, tmp_path / "here", max_bytes=100_000)


@pytest.mark.parametrize("cut", [20, 60])
@pytest.mark.parametrize("make", [tar, zipped], ids=["tar", "zip"])
def test_a_damaged_archive_is_told(make: Callable[..., Path], cut: int, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", ("model/model.onnx", bytes(range(256)) * 40))
    archive.write_bytes(archive.read_bytes()[:-cut])

    with pytest.raises(BadArchive):
        unpack(archive, tmp_path / "here")


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="twice"):
        unpack(tar(tmp_path / "archive", ("a", b"1"), ("a", b"2")), tmp_path / "here")


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    unpack(tar(tmp_path / "archive", ("._model", b"x"), ("model/a", b"1")), tmp_path / "here")

    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a"]


def test_a_model_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09" + bytes(2_000))

    assert not is_archive(tmp_path / "model.onnx")
