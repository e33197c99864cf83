"""requirements*.txt are what `make pins` makes of requirements*.in, as far as can be known without asking an index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.ops.programs import ROOT

FILES = {path.stem: path for path in sorted(ROOT.glob("requirements*.in"))}
STALE = "run make pins"


def wanted(path: Path) -> dict[str, list[Requirement]]:
    """File name -> what it and the files that it includes ask for."""
    found: dict[str, list[Requirement]] = {path.name: []}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found |= wanted(path.parent / text.removeprefix("-r ").strip())
        elif text:
            found[path.name].append(Requirement(text))
    return found


def pinned(path: Path) -> list[tuple[Requirement, set[str]]]:
    """(package, who asks for it), line by line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            package, _, via = line.partition("# via ")
            found.append((Requirement(package.strip()), {name.strip() for name in via.split(",")}))
    return found


@pytest.mark.parametrize("name", FILES)
def test_everything_asked_for_is_pinned_within_what_was_asked(name: str) -> None:
    pins = pinned(ROOT / f"{name}.txt")

    for file, requirements in wanted(FILES[name]).items():
        for requirement in requirements:
            versions = [
                next(iter(pin.specifier)).version
                for pin, _ in pins
                if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
            ]
            assert versions, f"{file} asks for {requirement.name}, {name}.txt does not have it: {STALE}"
            assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: {STALE}"


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_pinned_that_nobody_asks_for(name: str) -> None:
    pins = pinned(ROOT / f"{name}.txt")
    asked_for = {
        f"-r {file}": {canonicalize_name(requirement.name) for requirement in requirements}
        for file, requirements in wanted(FILES[name]).items()
    }

    for file, names in asked_for.items():
        assert {canonicalize_name(pin.name) for pin, via in pins if file in via} == names, f"{name}.txt: {STALE}"
    known = {canonicalize_name(pin.name) for pin, _ in pins}
    for pin, via in pins:
        others = {who for who in via if not who.startswith("-c ")}
        assert others, f"nobody asks for {pin.name}: {STALE}"
        assert {canonicalize_name(who) for who in others if not who.startswith("-r ")} <= known, f"{pin}: {STALE}"


@pytest.mark.parametrize("name", FILES)
def test_every_version_is_exact_and_no_address_is_given_away(name: str) -> None:
    for pin, _ in pinned(ROOT / f"{name}.txt"):
        assert [each.operator for each in pin.specifier] == ["=="], pin
        assert pin.url is None
    for ending in (".in", ".txt"):
        text = (ROOT / f"{name}{ending}").read_text(encoding="utf-8")
        assert not re.search(
            r"https?:|file:|^\s*--?(index|extra-index|find-links|trusted)|/\w+/\w+", text, re.MULTILINE
        )


def test_all_files_agree_on_versions() -> None:
    """Whoever installs one after the other gets the same packages."""
    versions: dict[tuple[str, str], set[str]] = {}
    for name in FILES:
        for pin, _ in pinned(ROOT / f"{name}.txt"):
            versions.setdefault((canonicalize_name(pin.name), str(pin.marker)), set()).add(str(pin.specifier))

    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_the_development_packages_include_those_of_the_server() -> None:
    """setup.sh relies on it: after --dev it has nothing more to install for `make run`."""
    server, development = (
        {(pin.name, str(pin.specifier), str(pin.marker or "")) for pin, _ in pinned(ROOT / f"{name}.txt")}
        for name in ("requirements", "requirements-dev")
    )

    # What a test needs as well may be wanted on more systems than the server wants it on.
    assert {(*pin, marker) for *pin, marker in server if (*pin, "") not in development} <= development


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_only_who_asks_for_torch_gets_it(name: str) -> None:
    assert not {"torch", "triton"} & {pin.name for pin, _ in pinned(ROOT / f"{name}.txt")}
