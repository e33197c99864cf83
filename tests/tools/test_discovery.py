"""Tools from outside this tree: files of the owner's folders, installed packages; and the file that `make new-tool`
writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.tools.fakes import call, context
from xiaozhi.tools.base import ToolServices
from xiaozhi.tools.registry import Selection, select
from xiaozhi.tools.scaffold import NewToolError, main, new_tool
from xiaozhi.tools.toolbox import Toolbox

ROOT = Path(__file__).resolve().parents[2]
LAMP = '''
    from typing import Annotated
    from pydantic import Field
    from xiaozhi.tools.base import ToolOptions
    from xiaozhi.tools.registry import tool

    class LampOptions(ToolOptions):
        colour: str = "red"

    @tool("{name}", LampOptions)
    def lamp(options: LampOptions, place: Annotated[str, Field(description="Where.")] = "here") -> str:
        """Switches the lamp on."""
        return f"{{options.colour}} {text} {{place}}"
'''


def write(folder: Path, file: str, name: str = "lamp", text: str = "light") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / file
    path.write_text(dedent(LAMP.format(name=name, text=text)), encoding="utf-8")
    return path


def chosen(folder: Path | str, *names: str, **blocks: Any) -> Selection:
    return select(names or ["lamp"], {"dirs": [str(folder)], **blocks})


def said(selection: Selection, name: str = "lamp") -> str:
    return Toolbox(selection.build(ToolServices()).source).call(call(name), context()).text


def test_a_file_of_the_owner(tmp_path: Path) -> None:
    write(tmp_path, "lamp.py")

    selection = chosen(tmp_path, lamp={"colour": "blue"})

    assert (selection.faults, selection.warnings) == ((), ())
    assert said(selection) == "blue light here"


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path, "lamp.py")
    assert said(chosen(tmp_path)) == "red light here"

    write(tmp_path, "lamp.py", text="glow")
    os.utime(path, ns=(1, 1))

    assert said(chosen(tmp_path)) == "red glow here"


def test_a_tool_of_the_owner_takes_the_place_of_our_own(tmp_path: Path) -> None:
    write(tmp_path, "lunar.py", name="get_lunar")

    selection = chosen(tmp_path, "get_lunar")

    assert said(selection, "get_lunar") == "red light here"
    assert [each for each in selection.warnings if "get_lunar is that of lunar" in each]


def test_helpers_beside_it_are_no_tools(tmp_path: Path) -> None:
    (tmp_path / "_shared.py").write_text("raise RuntimeError('not to be imported')")
    (tmp_path / "notes.txt").write_text("no Python")
    write(tmp_path, "lamp.py")

    assert chosen(tmp_path).faults == ()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def broken(:\n", "line 1"),
        ("x = 1\nimport no_such_module_here\n", "(line 2): ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "SystemExit"),
        (
            "from xiaozhi.tools.registry import tool\n@tool('x')\ndef x(a) -> str:\n    'doc'\n    return a\n",
            "needs a type",
        ),
    ],
)
def test_a_file_that_fails_is_named(tmp_path: Path, source: str, told: str) -> None:
    (tmp_path / "broken.py").write_text(source)

    [fault] = chosen(tmp_path).faults

    assert fault.key == "plugins.dirs"
    assert "broken.py" in str(fault)
    assert told in str(fault)


def test_two_files_with_one_tool(tmp_path: Path) -> None:
    write(tmp_path, "one.py")
    write(tmp_path, "two.py")

    assert "one and in two" in str(chosen(tmp_path).faults[0])


@pytest.mark.parametrize("written", ["no/such/folder", 5, [5], {"a": 1}])
def test_what_is_no_folder(written: Any) -> None:
    [fault] = select([], {"dirs": written}).faults

    assert fault.key == "plugins.dirs"


def test_an_installed_package(tmp_path: Path) -> None:
    """In a process of its own: entry points are looked up once."""
    write(tmp_path, "acme_lamp.py")
    info = tmp_path / "acme_lamp-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-lamp\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[xiaozhi.tools]\nlamp = acme_lamp\n")
    code = "from xiaozhi.tools.registry import select; print([c.found.name for c in select(['lamp'], {}).chosen])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "'lamp'" in done.stdout


# --- make new-tool ---


def test_what_new_tool_writes_passes_its_test(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("xiaozhi", "loadtest", "tests/fakes", "tests/vendors"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    (tmp_path / "tests/tools").mkdir()
    for file in ("__init__.py", "conftest.py", "guards.py", "waiting.py", "tools/__init__.py", "tools/fakes.py"):
        shutil.copy(ROOT / "tests" / file, tmp_path / "tests" / file)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    written = new_tool("acme_light", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]

    done = subprocess.run(
        [*command, str(written[1])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    ruff = Path(sys.executable).with_name("ruff")
    for check in ("check", "format --check"):
        done = subprocess.run(
            [ruff, *check.split(), "--no-cache", *map(str, written)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_new_tool_for_a_folder_of_the_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["acme", "--dir", str(tmp_path)]) == 0

    assert f"dirs: [{tmp_path}]" in capsys.readouterr().out
    box = Toolbox(chosen(tmp_path, "acme").build(ToolServices()).source)
    assert box.call(call("acme", person="Li"), context()).text == "Hello, Li!"


@pytest.mark.parametrize("name", ["Acme", "class", "", "a b", "../x"])
def test_names_that_are_no_tools(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--dir", str(tmp_path)]) == 2
    assert "expected a name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_new_tool_overwrites_nothing(tmp_path: Path) -> None:
    new_tool("acme", tmp_path, tmp_path)

    with pytest.raises(NewToolError, match="exists already"):
        new_tool("acme", tmp_path, tmp_path)
