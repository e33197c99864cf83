"""Where package registries have a file: those that pip and npm of this machine use, by their own settings or, without
any, by their own defaults. Whatever they send is compared with its checksum, so none need be trusted.

Sources: https://packaging.python.org/specifications/simple-repository-api/ (every index has the HTML form), npm's
registry API (`<name>/-/<name>-<version>.tgz`)."""

from __future__ import annotations

import ast
import html
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from xiaozhi.models.entries import Package

_ASK_S = 30.0
_PIP_INDEX = re.compile(r"[\w:.-]*\.(extra-)?index-url=(.+)")
_PIP_DEFAULT = re.compile(r"--index-url\b.*?\(default\s+(https?://[^\s)]+)", re.DOTALL)
_LINK = re.compile(r"<a\s[^>]*?href\s*=\s*[\"']([^\"'#]+)", re.IGNORECASE)

ReadPage = Callable[[str], str]
"""The text behind an address. Raises LookupError when it cannot be had."""


def addresses_of(package: Package, read_page: ReadPage, configured: Callable[[str], tuple[str, ...]]) -> Iterator[str]:
    """Where the file of `package` may be had, best first. `configured`: registry -> base addresses of this machine.
    A page is read only when its turn has come; one that cannot be read is passed over."""
    for base in dict.fromkeys(configured(package.registry)):
        if package.registry == "npm":
            yield f"{base}/{package.name}/-/{package.file}"
            continue
        page = f"{base}/{package.name}/"
        try:
            text = read_page(page)
        except LookupError:
            continue
        yield from links_to(package.file, text, page)


def links_to(file: str, page: str, address: str) -> list[str]:
    """The links of an index's page (HTML, at `address`) to a file of that name."""
    links = (urllib.parse.urljoin(address, html.unescape(link)) for link in _LINK.findall(page))
    return [link for link in links if urllib.parse.unquote(link.rpartition("/")[2].partition("?")[0]) == file]


@cache
def configured_here(registry: str) -> tuple[str, ...]:
    """Base addresses that pip or npm of this machine uses; nothing where the programme is not there or says nothing.
    Addresses of other kinds than HTTP are left out."""
    found = _of_pip() if registry == "pypi" else _of_npm()
    return tuple(base.strip().rstrip("/") for base in found if base.strip().startswith(("http://", "https://")))


def _of_pip() -> list[str]:
    pip = sys.executable, "-m", "pip"
    return index_urls(_answer(*pip, "config", "list"), lambda: _answer(*pip, "download", "--help"))


def index_urls(told: str, explained: Callable[[], str]) -> list[str]:
    """The indexes that `pip config list` names: first those that replace its default, then the additional ones; what is
    set in the environment wins over files, and a file that is nearer over the others, which pip lists first. Where none
    replaces it, the default comes first, which pip names only in `explained`, the help of its commands."""
    main: list[str] = []
    extra: list[str] = []
    for line in told.splitlines():
        match = _PIP_INDEX.fullmatch(line.strip())
        if match is None:
            continue
        value = str(ast.literal_eval(match[2])) if match[2][:1] in "'\"" else match[2]
        place = extra if match[1] else main
        place[:0] = value.split()
    if not main and (default := _PIP_DEFAULT.search(explained())):
        main.append(default[1])
    return [*main, *extra]


def _of_npm() -> list[str]:
    if shutil.which("npm"):
        return [_answer("npm", "config", "get", "registry")]
    return [os.environ.get("NPM_CONFIG_REGISTRY", "")]


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ASK_S, check=False, cwd=Path.home())
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
