"""`make new-provider KIND=tts NAME=acme`: writes a provider and its contract test, both working against a made-up
vendor.

What it writes is meant to be changed: replace the request, the answer and the vendor's side of it in the test until
they are the real vendor's. Nothing has to be registered anywhere. Templates are in `templates/`."""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path
from string import Template

KINDS = ("asr", "llm", "tts", "vllm")
TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")


class ScaffoldError(ValueError):
    """Nothing was written; the message says why."""


def scaffold(kind: str, name: str, root: Path) -> tuple[Path, Path]:
    """Write the provider and its test below `root`; both paths. Raises ScaffoldError rather than overwrite anything."""
    if kind not in KINDS:
        raise ScaffoldError(f"KIND={kind}: expected one of {', '.join(KINDS)}")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ScaffoldError(f"NAME={name}: expected a module name such as acme or acme_stream")
    words = name.split("_")
    values = {"name": name, "title": " ".join(words).capitalize(), "cls": "".join(word.capitalize() for word in words)}
    provider = root / "xiaozhi" / "providers" / kind / f"{name}.py"
    test = root / "tests" / "contract" / f"test_{name}_{kind}.py"
    for path in (provider, test):
        if path.exists():
            raise ScaffoldError(f"{path} exists already")
    for path, template in ((provider, f"{kind}.py.txt"), (test, f"test_{kind}.py.txt")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values), encoding="utf-8"
        )
    return provider, test


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make new-provider", description="Write a provider and its contract test.")
    parser.add_argument("kind", help=" | ".join(KINDS))
    parser.add_argument("name", help="acme, acme_stream, ...")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    given = parser.parse_args(arguments)
    try:
        provider, test = scaffold(given.kind, given.name, given.root)
    except ScaffoldError as error:
        print(error, file=sys.stderr)
        return 2
    section = given.kind.upper()
    print(f"wrote {provider}\nwrote {test}\n")
    print(f"Try it:      make test ARGS={test.relative_to(given.root)}")
    print(
        "Make it true: change the request and the answer in both files until they are the vendor's (docs/providers.md)."
    )
    print(f"Use it:      {section}: {{My{given.name.capitalize()}: {{type: {given.name}, url: ..., api_key: ...}}}}")
    print(f"             selected_module: {{{section}: My{given.name.capitalize()}}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
