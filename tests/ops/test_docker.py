"""Dockerfile, .dockerignore and docker-compose.yml. They cannot be built here; what can be known without building is
checked."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ops.programs import ROOT, check, run
from xiaozhi.settings import Settings, load

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
CLUSTER: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.cluster.yml").read_text(encoding="utf-8"))
SERVICE: dict[str, Any] = COMPOSE["services"]["xiaozhi"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, continuation lines joined."""

    line: int
    name: str
    rest: str


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile."""
    found: list[Instruction] = []
    begun, collected = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        begun = begun if collected else number
        collected += line.strip()
        if collected.endswith("\\"):
            collected = collected[:-1]
            continue
        name, _, rest = collected.partition(" ")
        found.append(Instruction(begun, name.upper(), rest.strip()))
        collected = ""
    return found


KNOWN = {
    "FROM",
    "RUN",
    "CMD",
    "LABEL",
    "EXPOSE",
    "ENV",
    "COPY",
    "VOLUME",
    "USER",
    "WORKDIR",
    "ARG",
    "STOPSIGNAL",
    "HEALTHCHECK",
}


def lint(text: str) -> list[str]:
    """What is wrong with a Dockerfile, by the rules that matter to us."""
    instructions = parse(text)
    of = {name: [one.rest for one in instructions if one.name == name] for name in KNOWN}
    wrong = [f"line {one.line}: {one.name} is unknown or deprecated" for one in instructions if one.name not in KNOWN]
    for image in of["FROM"]:
        tag = image.partition(" ")[0].partition(":")[2]
        if not tag or tag == "latest":
            wrong.append(f"{image}: say which version")
    for command in of["RUN"]:
        if "apt-get install" in command:
            for needed in ("apt-get update", "-y", "--no-install-recommends", "rm -rf /var/lib/apt/lists"):
                if needed not in command:
                    wrong.append(f"apt-get install without {needed}")
        if "pip install" in command and "--no-cache-dir" not in command:
            wrong.append("pip install without --no-cache-dir")
        if re.search(r"\bsudo\b|curl[^|]*\|\s*(ba)?sh", command):
            wrong.append(f"do not: {command}")
    for name in ("CMD", "HEALTHCHECK", "USER"):
        if len(of[name]) != 1:
            wrong.append(f"exactly one {name}")
    if of["USER"] and of["USER"][-1] in ("root", "0"):
        wrong.append("runs as root")
    for command in [*of["CMD"], *(health.partition("CMD ")[2] for health in of["HEALTHCHECK"])]:
        try:
            words = json.loads(command)
        except ValueError:
            words = None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            wrong.append(f"not in exec form: {command}")
    for variable in of["ENV"] + of["ARG"]:
        wrong += [
            f"secret in the image: {name}" for name in re.findall(r"(\w*(?:KEY|SECRET|TOKEN|PASSWORD)\w*)=", variable)
        ]
    return wrong


TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = parse(TEXT)


def of(name: str) -> list[str]:
    """What stands after each instruction of a name."""
    return [one.rest for one in INSTRUCTIONS if one.name == name]


def environment() -> dict[str, str]:
    """The variables the image sets."""
    return dict(word.partition("=")[::2] for line in of("ENV") for word in shlex.split(line))


def test_the_dockerfile_is_clean() -> None:
    assert lint(TEXT) == []


@pytest.mark.parametrize(
    "before,after,fault",
    [
        ("python:3.11-slim-bookworm", "python", "say which version"),
        ("python:3.11-slim-bookworm", "python:latest", "say which version"),
        ("USER xiaozhi", "USER root", "runs as root"),
        ("USER xiaozhi", "", "exactly one USER"),
        ('CMD ["python", "server.py"]', "CMD python server.py", "exec form"),
        ("--no-install-recommends ", "", "--no-install-recommends"),
        ("COPY server.py ./", "ADD server.py ./", "ADD is unknown"),
        ("PYTHONUNBUFFERED=1", "API_KEY=1", "secret"),
        ("--no-cache-dir ", "", "--no-cache-dir"),
    ],
)
def test_the_lint_sees_what_it_forbids(before: str, after: str, fault: str) -> None:
    assert before in TEXT
    assert any(fault in found for found in lint(TEXT.replace(before, after)))


def test_everything_copied_is_there_and_let_in() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    copied = [source.rstrip("/") for line in of("COPY") for source in line.split()[:-1]]

    assert rules[0] == "*"
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in rules
    extras = {path.name for path in ROOT.glob("requirements-*.txt")} - {"requirements-dev.txt"}
    assert {"server.py", "xiaozhi", "config", "requirements.txt", *extras} == set(copied)


@pytest.mark.parametrize(
    "secret", ["config/local.yaml", "config/local.env", "data/auth_key", ".git/config", ".venv/bin/python", ".env"]
)
def test_secrets_and_data_stay_outside(secret: str) -> None:
    """The last rule that matches decides; a directory matches what lies in it."""
    inside = True
    for rule in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = rule.removeprefix("!")
        if rule and not rule.startswith("#") and (fnmatch.fnmatch(secret, pattern) or secret.startswith(f"{pattern}/")):
            inside = rule.startswith("!")

    assert not inside


def test_packages_come_before_the_source() -> None:
    """A change of the source must not install everything anew."""
    lines = {one.rest: one.line for one in INSTRUCTIONS}
    installed = next(line for rest, line in lines.items() if "pip install" in rest)
    copied = next(line for rest, line in lines.items() if rest.startswith("requirements.txt "))

    assert copied < installed < lines["xiaozhi/ xiaozhi/"]


def test_packages_are_installed_as_the_set_up_does_it() -> None:
    """The list is complete, and pip must not add to it: silero-vad asks for torch."""
    [command] = [line for line in of("RUN") if "pip install" in line]

    assert "--no-deps -r requirements.txt" in command
    assert "install .set-up requirements.txt --no-deps" in (ROOT / "setup.sh").read_text(encoding="utf-8")


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """config/ as an image gets it: without what belongs to this machine."""
    return Path(shutil.copytree(ROOT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("local.*")))


def test_the_settings_of_the_image_mean_something(shipped: Path) -> None:
    loaded = load(environ=environment(), config_dir=shipped)

    assert loaded.warnings == []
    assert loaded.settings.log.json_console
    assert loaded.settings.log.log_dir == ""


def test_ports_and_signal_are_those_of_the_server() -> None:
    server = Settings().server

    assert of("EXPOSE") == [f"{server.port} {server.http_port}"]
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert f"127.0.0.1:{server.http_port}/healthz" in of("HEALTHCHECK")[0]
    assert SERVICE["ports"] == [f"{port}:{port}" for port in (server.port, server.http_port)]


def test_data_survives() -> None:
    assert of("VOLUME") == [json.dumps([f"{of('WORKDIR')[-1]}/{Settings().log.data_dir}"])]
    assert SERVICE["volumes"] == [f"data:{json.loads(of('VOLUME')[0])[0]}"]
    assert "data" in COMPOSE["volumes"]


def test_containers_have_as_long_to_end_as_workers() -> None:
    [allowed] = re.findall(
        r"^stopwaitsecs=(\d+)", (ROOT / "supervisord.conf").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert SERVICE["stop_grace_period"] == f"{allowed}s"
    assert f"--stop-timeout {allowed} " in TEXT


def test_variables_passed_on_mean_something(shipped: Path) -> None:
    names = set(SERVICE["environment"])
    vendors = {name: "http://127.0.0.1:1/v1" if name.endswith("URL") else "x" for name in names}

    assert load(environ=vendors, config_dir=shipped).warnings == []
    assert (
        load(environ=dict.fromkeys(names, ""), config_dir=shipped).settings
        == load(environ={}, config_dir=shipped).settings
    )
    assert all(SERVICE["environment"][name] == f"${{{name}:-}}" for name in names)


def test_several_servers_behind_a_proxy_agree_with_one(shipped: Path) -> None:
    server = CLUSTER["services"]["xiaozhi"]
    told = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: "" if found[0].endswith(":-}") else f"secret-{found[1]}", value)
        for name, value in server["environment"].items()
    }
    loaded = load(environ=told, config_dir=shipped)

    assert loaded.warnings == []
    assert loaded.settings.server.redis.get_secret_value() == "redis://redis:6379"
    assert loaded.settings.storage.url == "postgresql://xiaozhi:secret-XIAOZHI_DB_PASSWORD@postgres/xiaozhi"
    assert server["stop_grace_period"] == SERVICE["stop_grace_period"] and server["ulimits"] == SERVICE["ulimits"]
    assert "postgres" in server["build"]["args"]["WITH"]
    vendors = {name for name in SERVICE["environment"] if not name.startswith("XIAOZHI__")}
    assert vendors <= set(server["environment"])
    for name, service in CLUSTER["services"].items():
        assert "build" in service or re.search(r":\d", service["image"]), f"{name}: say which version"
        for bind in service.get("volumes", ()):
            if bind.startswith("./"):
                assert (ROOT / bind.split(":")[0]).is_file()


def test_compose_itself_agrees() -> None:
    """Where there is one: it is no part of Docker's client everywhere, so this is a bonus even in CI."""
    candidates = [("docker", "compose"), ("docker-compose",)]
    compose = next((words for words in candidates if _works(*words, "version")), None)
    if compose is None:
        pytest.skip("neither docker compose nor docker-compose here")

    for file in ("docker-compose.yml", "docker-compose.cluster.yml"):
        check(*compose, "-f", str(ROOT / file), "config", "--quiet")


def _works(*command: str) -> bool:
    try:
        return run(*command).returncode == 0
    except OSError:
        return False
