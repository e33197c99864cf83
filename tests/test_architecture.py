"""Holds the walls of the house (docs/architecture.md) by reading the source, importing nothing.

Every rule is a function from one parsed file to a list of violations; each is also shown a piece of code that breaks
it, so that a rule that stopped seeing cannot go unnoticed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sources import ROOT, Source, imports, parse, read

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"app"}),
    frozenset({"transport", "web"}),
    frozenset({"session"}),
    frozenset({"providers", "tools", "management"}),
    frozenset({"reminders"}),
    frozenset({"devices"}),
    frozenset({"history"}),
    frozenset({"storage", "models"}),
    frozenset({"net"}),
    frozenset({"audio", "runtime"}),
    frozenset({"protocol", "speech", "settings"}),
    frozenset({"chat"}),
    frozenset({"errors"}),
    frozenset({"sidecar"}),
    frozenset({"__init__"}),
)
"""Rooms from top to bottom. A room imports only from lower lines; rooms on one line do not know each other."""

LOADTEST_LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__", "locustfile", "talk"}),
    frozenset({"bench"}),
    frozenset({"measure"}),
    frozenset({"report"}),
    frozenset({"simulator", "vendors"}),
    frozenset({"__init__"}),
)
"""The same for the load test. Its first line is what people start; there are no other files beside its rooms."""

DEPTH = {room: depth for depth, rooms in enumerate(LAYERS) for room in rooms}
LOADTEST_DEPTH = {room: depth for depth, rooms in enumerate(LOADTEST_LAYERS) for room in rooms}
MAX_LINES = 500
TOP_LEVEL = {"__init__.py", "chat.py", "errors.py"}
PROVIDER_DOORS = {"contracts", "registry", "pool", "trial"}
KINDS = {"asr", "end_of_turn", "intent", "llm", "memory", "tts", "vad", "vllm", "voiceprint"}
EMPTY_NAMES = {"util", "common", "manager", "helper", "core"}
LAZY_IMPORTS_ALLOWED = (
    "xiaozhi/storage/redis_client.py",
    "xiaozhi/protocol/udp_voice.py",
    "xiaozhi/providers/",
    "xiaozhi/tools/",
)
WEBSOCKET_FILES = {"xiaozhi/transport/websocket.py", "xiaozhi/transport/acceptor.py"}
SPAWN_FILE = "xiaozhi/runtime/tasks.py"
TLS_FILE = "xiaozhi/net/tls.py"
CLOSE_CODE_FILE = "xiaozhi/protocol/close_codes.py"
POOL_FILE = "xiaozhi/runtime/inference.py"
SIDECAR_FILE = "xiaozhi/runtime/sidecar.py"
ASYNCIO_ONLY = {"asyncio", "anyio", "httpx2", "mcp", "mcp_types"}
SPAWNERS = {"spawn", "spawn_later", "spawn_raw"}
DRIVERS = {"sqlite3", "sqlalchemy", "psycopg"}


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every call whose function is written as a plain dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            try:
                name = ast.unparse(node.func)
            except ValueError:
                continue
            yield node.lineno, name


def layers(source: Source) -> list[str]:
    """Imports go down: never up, never sideways."""
    if source.room not in DEPTH:
        return [f"{source.path}: room {source.room!r} has no place in LAYERS"]
    wrong = []
    for line, name in imports(source.tree):
        if name.startswith("."):
            wrong.append(f"{source.path}:{line} relative import; write xiaozhi.<room>.<module>")
            continue
        parts = name.split(".")
        if parts[0] != "xiaozhi" or len(parts) < 2:
            continue
        room = parts[1]
        if room not in DEPTH:
            continue  # the package itself: its version
        if room != source.room and DEPTH[room] <= DEPTH[source.room]:
            wrong.append(f"{source.path}:{line} {source.room} may not import {name}")
    return wrong


def loadtest_layers(source: Source) -> list[str]:
    """In the load test, too, imports go down."""
    if source.room not in LOADTEST_DEPTH:
        return [f"{source.path}: room {source.room!r} has no place in LOADTEST_LAYERS"]
    wrong = []
    for line, name in imports(source.tree):
        parts = name.split(".")
        if parts[0] != "loadtest" or len(parts) < 3:
            continue
        if parts[1] != source.room and LOADTEST_DEPTH[parts[1]] <= LOADTEST_DEPTH[source.room]:
            wrong.append(f"{source.path}:{line} {source.room} may not import {name}")
    return wrong


def by_the_wire_only(source: Source) -> list[str]:
    """Simulated devices and scripted vendors import nothing of the product: they can be pointed at any server that
    speaks the protocol, and a fault in this one's parser cannot hide in its own tester. bench/ times the product."""
    if source.room == "bench":
        return []
    return [
        f"{source.path}:{line} imports {name}"
        for line, name in imports(source.tree)
        if name.split(".")[0] in ("xiaozhi", "tests")
    ]


def no_bare_except(source: Source) -> list[str]:
    """A bare except, and a BaseException that is not raised again, would eat the kill of a greenlet."""
    wrong = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = "" if node.type is None else ast.unparse(node.type)
        raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        # The pool hands an exception of any kind from its native thread to the greenlet that waits; no kill ever gets
        # in there.
        eats = "BaseException" in caught and not raises and source.path != POOL_FILE
        if node.type is None or eats:
            wrong.append(f"{source.path}:{node.lineno} except {caught or '(bare)'} catches a kill")
    return wrong


def one_spawner(source: Source) -> list[str]:
    """Greenlets are born in runtime/tasks.py only, native threads in runtime/inference.py only."""
    wrong = []
    if source.path != SPAWN_FILE:
        names = {f"gevent.{name}" for name in SPAWNERS} | {f"gevent.Greenlet.{name}" for name in SPAWNERS}
        wrong += [f"{source.path}:{line} import of {name}" for line, name in imports(source.tree) if name in names]
        called = names | {f"Greenlet.{name}" for name in SPAWNERS} | {"Greenlet", "gevent.Greenlet"}
        wrong += [f"{source.path}:{line} {name}(...)" for line, name in _calls(source.tree) if name in called]
    if source.path != POOL_FILE and source.room != "sidecar":  # which is a process of its own, without a hub
        threads = {"threading.Thread", "gevent.threadpool.ThreadPool", "concurrent.futures.ThreadPoolExecutor"}
        wrong += [f"{source.path}:{line} import of {name}" for line, name in imports(source.tree) if name in threads]
        wrong += [f"{source.path}:{line} {name}(...)" for line, name in _calls(source.tree) if name in threads]
    return wrong


def no_hasattr(source: Source) -> list[str]:
    """State is born in __init__ and capabilities are declared, so there is nothing to discover."""
    return [f"{source.path}:{line} hasattr(...)" for line, name in _calls(source.tree) if name == "hasattr"]


def no_hidden_imports(source: Source) -> list[str]:
    """Imports stand at the top; only heavy libraries of what not every server uses may wait until they are needed."""
    if source.path.startswith(LAZY_IMPORTS_ALLOWED):
        return []
    functions = [
        node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    found = {(line, name) for function in functions for line, name in imports(function)}
    return [f"{source.path}:{line} imports {name} inside a function" for line, name in sorted(found)]


def one_websocket_file(source: Source) -> list[str]:
    """The WebSocket library is known to one place (and to the acceptor, which plugs its handler into the server)."""
    if source.path in WEBSOCKET_FILES:
        return []
    return [
        f"{source.path}:{line} imports {name}"
        for line, name in imports(source.tree)
        if name.split(".")[0] == "geventwebsocket"
    ]


def one_tls_file(source: Source) -> list[str]:
    """TLS contexts are made in one place: a context of one's own reads the authorities again."""
    if source.path == TLS_FILE:
        return []
    makers = {"ssl.SSLContext", "SSLContext", "ssl.create_default_context", "create_default_context"}
    return [f"{source.path}:{line} {name}(...)" for line, name in _calls(source.tree) if name in makers]


def named_close_codes(source: Source) -> list[str]:
    """Close codes have names, all in one file."""
    if source.path == CLOSE_CODE_FILE:
        return []
    wrong = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            if "CLOSE" in target.upper() and node.value.value in range(1000, 1016):
                wrong.append(f"{source.path}:{node.lineno} {target} = {node.value.value}")
        elif isinstance(node, ast.Call):
            numbers = [*node.args[:1], *(word.value for word in node.keywords if word.arg in ("code", "close_code"))]
            closes = ast.unparse(node.func).endswith(("close", "close_all", "ConnectionClosed", "ProtocolError"))
            wrong += [
                f"{source.path}:{node.lineno} {ast.unparse(node.func)}({number.value}, ...)"
                for number in numbers
                if closes and isinstance(number, ast.Constant) and number.value in range(1000, 1016)
            ]
    return wrong


def one_room_for_databases(source: Source) -> list[str]:
    """Drivers and SQL are known to storage/ only: what blocks in C runs on its thread."""
    if source.room == "storage":
        return []
    return [
        f"{source.path}:{line} imports {name}" for line, name in imports(source.tree) if name.split(".")[0] in DRIVERS
    ]


def has_docstring(source: Source) -> list[str]:
    """A module says what it is, what it is not, and why so."""
    if not source.tree.body or ast.get_docstring(source.tree):
        return []
    return [f"{source.path}: no module docstring"]


def short(source: Source) -> list[str]:
    """A file holds one thing."""
    lines = source.text.count("\n")
    return [f"{source.path}: {lines} lines, more than {MAX_LINES}"] if lines > MAX_LINES else []


def top_level(source: Source) -> list[str]:
    """Only the vocabulary that everybody shares stands beside the rooms."""
    path = Path(source.path)
    return [] if len(path.parts) > 2 or path.name in TOP_LEVEL else [f"{source.path}: does not belong beside the rooms"]


def providers_by_their_doors(source: Source) -> list[str]:
    """Outside `providers/` only contracts, registry, pool, what measures them and the wrappers' door are known."""
    if source.room == "providers":
        return []
    wrong = []
    for line, name in imports(source.tree):
        parts = name.split(".")
        if parts[:2] == ["xiaozhi", "providers"] and len(parts) > 2 and not _is_door(parts[2:]):
            wrong.append(f"{source.path}:{line} imports {name}")
    return wrong


def _is_door(parts: list[str]) -> bool:
    if parts[0] == "wrappers":
        return len(parts) <= 2  # xiaozhi.providers.wrappers and what it offers
    return parts[0] in PROVIDER_DOORS


def contracts_without_gevent(source: Source) -> list[str]:
    """A contract says what is promised; how waiting is done is the wrappers' business."""
    if not source.path.startswith("xiaozhi/providers/contracts/"):
        return []
    return [
        f"{source.path}:{line} imports {name}" for line, name in imports(source.tree) if name.split(".")[0] == "gevent"
    ]


def vendors_only(source: Source) -> list[str]:
    """A folder of a kind holds vendors, one per file; what they share is in `families/`."""
    path = Path(source.path)
    if path.parts[:2] != ("xiaozhi", "providers") or len(path.parts) != 4 or path.parts[2] not in KINDS:
        return []
    if path.name == "__init__.py":
        return [] if not source.text.strip() else [f"{source.path}: is not empty"]
    registered = any(
        isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "provider"
        for node in source.tree.body
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
    )
    return [] if registered else [f"{source.path}: registers no provider"]


def sidecar_stands_alone(source: Source) -> list[str]:
    """The unpatched child knows nothing of gevent; the server knows nothing of asyncio, nor of the child but its
    wire."""
    wrong = []
    for line, name in imports(source.tree):
        parts = name.split(".")
        if source.room == "sidecar":
            strange = parts[0] in ("gevent", "greenlet")
        elif parts[:2] == ["xiaozhi", "sidecar"]:
            strange = source.path != SIDECAR_FILE or parts[2:3] != ["wire"]
        else:
            strange = parts[0] in ASYNCIO_ONLY
        wrong += [f"{source.path}:{line} imports {name}"] if strange else []
    return wrong


def telling_name(source: Source) -> list[str]:
    """A name that says nothing gathers everything."""
    words = {word.rstrip("s") for part in Path(source.path).parts for word in part.removesuffix(".py").split("_")}
    return [f"{source.path}: a name with {word!r} in it says nothing" for word in sorted(words & EMPTY_NAMES)]


def no_print(source: Source) -> list[str]:
    """A server logs; only programmes for people print: the composition root, and what can be run by itself."""
    if 'if __name__ == "__main__":' in source.text:
        return []
    return [
        f"{source.path}:{line} print(...)"
        for line, name in _calls(source.tree)
        if name == "print" and source.room != "app"
    ]


Rule = Callable[[Source], list[str]]
PRODUCT_RULES: tuple[Rule, ...] = (
    layers,
    no_bare_except,
    one_spawner,
    no_hasattr,
    no_hidden_imports,
    one_websocket_file,
    one_tls_file,
    named_close_codes,
    one_room_for_databases,
    has_docstring,
    short,
    sidecar_stands_alone,
    telling_name,
    no_print,
    top_level,
    providers_by_their_doors,
    contracts_without_gevent,
    vendors_only,
)
LOADTEST_RULES: tuple[Rule, ...] = (
    loadtest_layers,
    by_the_wire_only,
    no_bare_except,
    has_docstring,
    short,
    telling_name,
)


@pytest.mark.parametrize("rule", PRODUCT_RULES, ids=lambda rule: rule.__name__)
def test_the_product_keeps(rule: Rule) -> None:
    sources = read("xiaozhi")

    assert sources
    assert [violation for source in sources for violation in rule(source)] == []


@pytest.mark.parametrize("rule", LOADTEST_RULES, ids=lambda rule: rule.__name__)
def test_the_load_test_keeps(rule: Rule) -> None:
    assert [violation for source in read("loadtest") for violation in rule(source)] == []


def test_the_server_patches_first() -> None:
    first = (ROOT / "server.py").read_text(encoding="utf-8").splitlines()[0]

    assert first.startswith("from gevent import monkey; monkey.patch_all()")


BROKEN: list[tuple[Rule, str, str]] = [
    (layers, "xiaozhi/session/turns/turn.py", "from xiaozhi.transport.websocket import WebSocket"),
    (layers, "xiaozhi/transport/acceptor.py", "from xiaozhi.web.app import create"),
    (layers, "xiaozhi/providers/tts/acme.py", "from xiaozhi.tools import base"),
    (layers, "xiaozhi/protocol/frames.py", "def f():\n    import xiaozhi.speech.pacing"),
    (layers, "xiaozhi/errors.py", "from xiaozhi import chat"),
    (layers, "xiaozhi/audio/opus.py", "from . import pcm"),
    (layers, "xiaozhi/attic/thing.py", "x = 1"),
    (layers, "xiaozhi/session/turns/turn.py", "from xiaozhi.app.wiring import build"),
    (loadtest_layers, "loadtest/simulator/device.py", "from loadtest.vendors.sounds import hum"),
    (loadtest_layers, "loadtest/report/page.py", "from loadtest.measure import run"),
    (loadtest_layers, "loadtest/attic.py", "x = 1"),
    (by_the_wire_only, "loadtest/simulator/device.py", "from xiaozhi.protocol import frames"),
    (no_bare_except, "xiaozhi/app/main.py", "try:\n    pass\nexcept:\n    pass"),
    (no_bare_except, "xiaozhi/app/main.py", "try:\n    pass\nexcept BaseException:\n    pass"),
    (one_spawner, "xiaozhi/app/main.py", "import gevent\ngevent.spawn(f)"),
    (one_spawner, "xiaozhi/app/main.py", "from gevent import spawn_later"),
    (one_spawner, "xiaozhi/app/main.py", "from gevent import Greenlet\nGreenlet(f).start()"),
    (one_spawner, "xiaozhi/app/main.py", "from gevent.threadpool import ThreadPool"),
    (one_spawner, "xiaozhi/app/main.py", "threading.Thread(target=f).start()"),
    (no_hasattr, "xiaozhi/app/main.py", "if not hasattr(x, 'y'):\n    x.y = 1"),
    (no_hidden_imports, "xiaozhi/session/turns/turn.py", "def f():\n    import torch"),
    (one_websocket_file, "xiaozhi/transport/connection.py", "from geventwebsocket.handler import WebSocketHandler"),
    (one_tls_file, "xiaozhi/web/wsgi.py", "import ssl\nssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"),
    (one_tls_file, "xiaozhi/net/http_pools.py", "from ssl import create_default_context\ncreate_default_context()"),
    (named_close_codes, "xiaozhi/session/session.py", "CLOSE_NORMAL = 1000"),
    (named_close_codes, "xiaozhi/session/session.py", "link.close(1001, 'over')"),
    (named_close_codes, "xiaozhi/protocol/frames.py", "raise ProtocolError('version', close_code=1002)"),
    (one_room_for_databases, "xiaozhi/devices/quota.py", "from sqlalchemy import select"),
    (has_docstring, "xiaozhi/app/main.py", "x = 1"),
    (short, "xiaozhi/app/main.py", "x = 1\n" * (MAX_LINES + 1)),
    (sidecar_stands_alone, "xiaozhi/sidecar/host.py", "import gevent"),
    (sidecar_stands_alone, "xiaozhi/tools/server_mcp.py", "from mcp.client.session import ClientSession"),
    (sidecar_stands_alone, "xiaozhi/tools/server_mcp.py", "from xiaozhi.sidecar import wire"),
    (sidecar_stands_alone, "xiaozhi/runtime/sidecar.py", "from xiaozhi.sidecar import host"),
    (layers, "xiaozhi/sidecar/host.py", "from xiaozhi import errors"),
    (telling_name, "xiaozhi/session/utils.py", ""),
    (telling_name, "xiaozhi/tools/tool_manager.py", ""),
    (no_print, "xiaozhi/session/turns/turn.py", "print('here')"),
]


@pytest.mark.parametrize("rule,path,text", BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_sees_what_it_forbids(rule: Rule, path: str, text: str) -> None:
    assert rule(parse(path, text))


ALLOWED: list[tuple[Rule, str, str]] = [
    (
        layers,
        "xiaozhi/session/turns/turn.py",
        "from xiaozhi.errors import X\nfrom xiaozhi.audio import opus\nfrom xiaozhi.session import outbox",
    ),
    (layers, "xiaozhi/chat.py", "from xiaozhi.errors import ProtocolError"),
    (layers, "xiaozhi/app/banner.py", "from xiaozhi.app.wiring import Server\nfrom xiaozhi.web import app"),
    (loadtest_layers, "loadtest/measure/run.py", "from loadtest import ROOT\nfrom loadtest.report import page"),
    (by_the_wire_only, "loadtest/bench/ears.py", "from xiaozhi.audio import opus"),
    (no_bare_except, "xiaozhi/app/main.py", "try:\n    pass\nexcept BaseException:\n    clean()\n    raise"),
    (one_spawner, SPAWN_FILE, "from gevent import Greenlet\nGreenlet(f).start()"),
    (one_spawner, "xiaozhi/app/main.py", "self._tasks.spawn('name', f)\nisinstance(x, Greenlet)"),
    (no_hidden_imports, "xiaozhi/providers/vad/silero.py", "def f():\n    import torch"),
    (one_websocket_file, "xiaozhi/transport/websocket.py", "import geventwebsocket"),
    (one_tls_file, TLS_FILE, "import ssl\nssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"),
    (named_close_codes, CLOSE_CODE_FILE, "CLOSE_NORMAL = 1000"),
    (named_close_codes, "xiaozhi/session/session.py", "link.close(close_codes.NORMAL, 'over')\nTTL = 1000\nf(1000)"),
    (sidecar_stands_alone, SIDECAR_FILE, "from xiaozhi.sidecar import wire"),
    (sidecar_stands_alone, "xiaozhi/sidecar/host.py", "import asyncio"),
    (has_docstring, "xiaozhi/tools/__init__.py", ""),
    (top_level, "xiaozhi/errors.py", "x = 1"),
    (providers_by_their_doors, "xiaozhi/session/turn.py", "from xiaozhi.providers.wrappers import with_fallback"),
    (providers_by_their_doors, "xiaozhi/session/turn.py", "from xiaozhi.providers.contracts.tts import Tts"),
    (vendors_only, "xiaozhi/providers/tts/acme.py", "@provider('tts', 'acme', Options)\nclass AcmeTts: ..."),
]


@pytest.mark.parametrize("rule,path,text", ALLOWED, ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_lets_pass_what_is_right(rule: Rule, path: str, text: str) -> None:
    assert rule(parse(path, text)) == []
