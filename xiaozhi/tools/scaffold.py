"""`make new-tool NAME=acme`: writes a tool and its test; with DIR=folder only the tool, for a folder of `plugins.dirs`.

What it writes works and is meant to be changed. Nothing has to be registered. Templates are in `templates/`."""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")


class NewToolError(ValueError):
    """Nothing was written; the message says why."""


def new_tool(name: str, root: Path, folder: Path | None = None) -> list[Path]:
    """Write a tool into `folder`, or with its test below `root`; the paths. Raises NewToolError rather than overwrite
    anything."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise NewToolError(f"NAME={name}: expected a name such as acme or acme_light")
    words = name.split("_")
    values = {"name": name, "title": " ".join(words).capitalize(), "cls": "".join(word.capitalize() for word in words)}
    if folder is not None:
        wanted = {folder / f"{name}.py": "tool.py.txt"}
    else:
        tool, test = root / "xiaozhi/tools/plugins" / f"{name}.py", root / "tests/tools" / f"test_{name}.py"
        wanted = {tool: "tool.py.txt", test: "test_tool.py.txt"}
    for path in wanted:
        if path.exists():
            raise NewToolError(f"{path} exists already")
    for path, template in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
        path.write_text(text, encoding="utf-8")
    return list(wanted)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make new-tool", description="Write a tool of the server, and its test.")
    parser.add_argument("name", help="acme, acme_light, ...")
    parser.add_argument("--dir", type=Path, help="write only the tool, into this folder of plugins.dirs")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    given = parser.parse_args(arguments)
    try:
        written = new_tool(given.name, given.root, given.dir)
    except NewToolError as error:
        print(error, file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path}")
    print()
    if given.dir is None:
        print(f'Try it:  make test ARGS="{written[1].relative_to(given.root)}"')
    print(f"Use it:  Intent: {{function_call: {{functions: [{given.name}]}}}}")
    print(f"         plugins: {{{given.name}: {{greeting: Good morning}}}}")
    if given.dir is not None:
        print(f"         plugins: {{dirs: [{given.dir}]}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
