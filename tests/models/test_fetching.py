"""A model is brought to its folder whole, from mirrors or from what somebody carried here; and the commands for it."""

from __future__ import annotations

import fcntl
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vendors.model_mirror import ModelMirror, model_mirror
from xiaozhi.app import model_commands
from xiaozhi.app.main import main
from xiaozhi.models import catalogue
from xiaozhi.models.catalogue import MODELS, command_for
from xiaozhi.models.downloading import Patience
from xiaozhi.models.entries import KnownModel, ModelFile
from xiaozhi.models.fetching import (
    NOTICE,
    WORK_FOLDER,
    FetchedModel,
    FetchFailed,
    FetchProgress,
    fetch,
    is_here,
    progress,
)

MODEL = bytes(range(256)) * 20
TOKENS = b"a 0\nb 1\n"
HASTY = Patience(connect_s=2.0, silent_s=1.0, tries=1)


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


def archive_of(folder: str, **files: bytes) -> bytes:
    """A .tar.bz2 with a folder in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:bz2") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name.replace('_', '.')}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


ARCHIVE = archive_of("voice-v1", model_onnx=MODEL, tokens_txt=TOKENS)


@pytest.fixture
def mirror() -> Iterator[ModelMirror]:
    """Publishes two models."""
    files = {"/model.onnx": MODEL, "/tokens.txt": TOKENS, "/voice-v1.tar.bz2": ARCHIVE, "/vocoder.onnx": b"v" * 2_000}
    with model_mirror(files) as found:
        yield found


def ears(mirror: ModelMirror) -> KnownModel:
    """Single files."""
    return KnownModel(
        *("ears", "recognition", "zh", "MIT", "sherpa", "ears-2024"),
        (
            ModelFile("model.onnx", len(MODEL), (f"{mirror.url}/model.onnx",), sha256(MODEL)),
            ModelFile("tokens.txt", len(TOKENS), (f"{mirror.url}/tokens.txt",), sha256(TOKENS)),
        ),
    )


def voice(mirror: ModelMirror) -> KnownModel:
    """An archive, and a file of which no checksum is known."""
    return KnownModel(
        *("voice", "voice", "zh", "MIT", "sherpa", "voice-v1"),
        (
            ModelFile(
                "voice-v1.tar.bz2", len(ARCHIVE), (f"{mirror.url}/voice-v1.tar.bz2",), sha256(ARCHIVE), unpack=True
            ),
            ModelFile("vocoder.onnx", 2_000, (f"{mirror.url}/vocoder.onnx",)),
        ),
    )


def brought(model: KnownModel, folder: Path, source: Path | None = None) -> FetchedModel:
    """Fetch without looking at the progress."""
    return fetch(model, folder, lambda file, have, total: None, source=source, patience=HASTY)


def files_in(folder: Path) -> dict[str, bytes]:
    """Everything below `folder`, without notices."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != NOTICE]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_single_files_come_together_in_their_folder(mirror: ModelMirror, tmp_path: Path) -> None:
    done = brought(ears(mirror), tmp_path / "models/ears-2024")

    assert files_in(tmp_path / "models") == {"ears-2024/model.onnx": MODEL, "ears-2024/tokens.txt": TOKENS}
    assert done.unproven == {}
    assert is_here(ears(mirror), tmp_path / "models/ears-2024")


def test_an_archive_is_unpacked_and_an_unknown_checksum_is_told(mirror: ModelMirror, tmp_path: Path) -> None:
    done = brought(voice(mirror), tmp_path / "models/voice-v1")

    assert files_in(tmp_path / "models") == {
        "voice-v1/model.onnx": MODEL,
        "voice-v1/tokens.txt": TOKENS,
        "voice-v1/vocoder.onnx": b"v" * 2_000,
    }
    assert done.unproven == {"vocoder.onnx": sha256(b"v" * 2_000)}


def test_a_model_that_fails_half_way_does_not_appear_and_goes_on_later(mirror: ModelMirror, tmp_path: Path) -> None:
    tokens = mirror.files.pop("/tokens.txt")
    with pytest.raises(FetchFailed) as failed:
        brought(ears(mirror), tmp_path / "models/ears-2024")
    assert "tokens.txt could not be had" in str(failed.value) and f"{mirror.url}/tokens.txt" in str(failed.value)
    assert not (tmp_path / "models/ears-2024").exists()

    mirror.files["/tokens.txt"] = tokens
    brought(ears(mirror), tmp_path / "models/ears-2024")

    assert files_in(tmp_path / "models/ears-2024") == {"model.onnx": MODEL, "tokens.txt": TOKENS}


def test_what_else_lies_in_the_folder_stays(mirror: ModelMirror, tmp_path: Path) -> None:
    """A folder of an existing set-up, such as models/SenseVoiceSmall with its model.pt."""
    folder = tmp_path / "SenseVoiceSmall"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"pt")
    (folder / "tokens.txt").write_bytes(b"old")

    brought(ears(mirror), folder)

    assert files_in(folder) == {"model.onnx": MODEL, "model.pt": b"pt", "tokens.txt": TOKENS}


@pytest.mark.parametrize("carried", ["folder", "archive"])
def test_files_that_somebody_carried_here(carried: str, mirror: ModelMirror, tmp_path: Path) -> None:
    mirror.status = 503
    if carried == "folder":
        source = tmp_path / "stick"
        (source / "inner").mkdir(parents=True)
        (source / "inner/model.onnx").write_bytes(MODEL)
        (source / "tokens.txt").write_bytes(TOKENS)
    else:  # of another release, with the same files
        source = tmp_path / "other-release.tar.bz2"
        source.write_bytes(archive_of("other", model_onnx=MODEL, tokens_txt=TOKENS, readme_md=b"!"))

    brought(ears(mirror), tmp_path / "models/ears-2024", source)

    assert files_in(tmp_path / "models") == {"ears-2024/model.onnx": MODEL, "ears-2024/tokens.txt": TOKENS}
    assert source.exists()


def test_a_carried_archive_may_have_been_renamed(mirror: ModelMirror, tmp_path: Path) -> None:
    model = KnownModel(*("v", "voice", "zh", "MIT", "sherpa", "voice-v1"), voice(mirror).files[:1])
    (tmp_path / "download (1).bin").write_bytes(ARCHIVE)

    brought(model, tmp_path / "models/voice-v1", tmp_path / "download (1).bin")

    assert files_in(tmp_path / "models/voice-v1") == {"model.onnx": MODEL, "tokens.txt": TOKENS}


@pytest.mark.parametrize(
    ("content", "said"), [(b"broken", "is damaged, or another file"), (None, "has no tokens.txt"), (b"", "damaged")]
)
def test_carried_files_that_are_not_the_model(
    content: bytes | None, said: str, mirror: ModelMirror, tmp_path: Path
) -> None:
    source = tmp_path / "stick"
    source.mkdir()
    (source / "model.onnx").write_bytes(MODEL)
    if content is not None:
        (source / "tokens.txt").write_bytes(content)

    with pytest.raises(FetchFailed, match=said):
        brought(ears(mirror), tmp_path / "models/ears-2024", source)

    assert not (tmp_path / "models/ears-2024").exists()


def test_a_source_that_is_not_there(mirror: ModelMirror, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="is not there"):
        brought(ears(mirror), tmp_path / "models/x", tmp_path / "nothing")


# --- the list and the commands --------------------------------------------------------------------------------------


def test_the_list_is_in_order() -> None:
    for names in [model.name for model in MODELS], [model.folder for model in MODELS]:
        assert len(set(names)) == len(names)
    for model in MODELS:
        assert Path("requirements-" + model.needs + ".in").exists()
        assert model.licence and model.languages
        for file in model.files:
            assert file.size > 0 and all(url.startswith("https://") for url in file.sources)
            assert file.sources or file.parts
            assert file.sha256 or not file.parts, "whose bytes are unknown is not taken out of a stranger's package"
            assert file.sha256 == "" or re.fullmatch("[0-9a-f]{64}", file.sha256), file.name
    assert sum(not file.sha256 for model in MODELS for file in model.files) <= 1


def test_the_command_that_brings_a_model_names_it_by_its_folder() -> None:
    fetch_command = ".venv/bin/python server.py models fetch"

    assert command_for("models/sherpa-onnx-sense-voice-zh-en-ja-ko-yue-2024-07-17", "whisper-base") == (
        f"{fetch_command} sense-voice-int8"
    )
    assert (
        command_for("/data/SenseVoiceSmall", "x") == f"{fetch_command} sense-voice-small --into /data/SenseVoiceSmall"
    )
    assert command_for("models/mine", "vosk-small-cn") == f"{fetch_command} vosk-small-cn --into models/mine"
    assert command_for("", "vosk-small-cn") == f"{fetch_command} vosk-small-cn"


def test_models_list_shows_each_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0

    said = capsys.readouterr().out
    for model in MODELS:
        assert model.name in said and model.licence in said


def test_models_fetch_needs_no_sound_configuration(
    mirror: ModelMirror, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_commands, "named", lambda name: catalogue.named(name, [voice(mirror)]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("server: {port: -1}", encoding="utf-8")

    assert main(["--config", "bad.yaml", "models", "fetch", "voice"]) == 0

    assert (tmp_path / "models/voice-v1/tokens.txt").read_bytes() == TOKENS
    said = capsys.readouterr().out
    assert "voice is in models/voice-v1" in said and "make setup WITH=sherpa" in said
    assert (
        f"No checksum of vocoder.onnx was published; the one of this download is SHA-256 {sha256(b'v' * 2000)}" in said
    )


def test_models_fetch_says_what_is_wrong(
    mirror: ModelMirror, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_commands, "named", lambda name: catalogue.named(name, [ears(mirror)]))

    assert main(["models", "fetch", "nose"]) == 1
    assert "There is no model 'nose'" in capsys.readouterr().err
    assert main(["models", "fetch", "ears", "--from", str(tmp_path / "gone"), "--into", str(tmp_path / "a/b")]) == 1
    assert f"{tmp_path / 'gone'} is not there" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["models", "list", "--into", "x"], ["check", "--from", "x"], ["models", "fetch"]])
def test_an_option_that_has_no_effect_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)


def test_how_much_is_here_while_a_download_runs(tmp_path: Path) -> None:
    one = KnownModel("one", "test", "en", "MIT", "one", "one", (ModelFile("a.bin", 4000, ("http://a.invalid/",)),))
    two = KnownModel("two", "test", "en", "MIT", "two", "two", (ModelFile("b.bin", 6000, ("http://b.invalid/",)),))
    assert progress([one, two], tmp_path) == FetchProgress(0, 10_000, running=False)

    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.bin").write_bytes(bytes(4000))
    work = tmp_path / WORK_FOLDER
    work.mkdir()
    (work / "left.part").write_bytes(bytes(1500))
    assert progress([one, two], tmp_path) == FetchProgress(4000, 10_000, running=False), "an old part is not counted"
    with (work / "two.lock").open("w") as lock:
        assert not progress([one, two], tmp_path).running, "left by a command that was killed"
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert progress([one, two], tmp_path) == FetchProgress(5500, 10_000, running=True)
        (work / "more.part").write_bytes(bytes(9000))
        assert progress([one, two], tmp_path).here == 10_000, "no more than there is"
    assert progress([one], tmp_path) == FetchProgress(4000, 4000, running=False)
