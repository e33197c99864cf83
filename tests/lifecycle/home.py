"""A server in this process with a folder of configuration of its own, as an owner has one: the settings of the test
stand in its local.yaml, and the console may change them. `OwnerClient` asks the console as its pages do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import yaml

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import CHAT, TTS, OpenAiVendor
from loadtest.vendors.sounds import Sounds
from tests.e2e.stage import SHORT, Stage, base_settings, merged, settle_phrases, unshakable
from tests.waiting import PATIENCE_S
from xiaozhi.app.server import Server
from xiaozhi.settings import Loaded, examine, load
from xiaozhi.settings.loading import CONFIG_DIR

HEADER = "# My own settings.\n"


class OwnerClient:
    """A browser on this machine. `changes`: [(path, value)], value None: take it out."""

    def __init__(self, server: Server) -> None:
        self._base = f"http://127.0.0.1:{server.http_port}/console/api/"
        self._session = requests.Session()
        self._csrf = self.get("session")["csrf"]
        self.texts: list[str] = []
        """All that was answered."""

    def get(self, path: str, **query: str) -> Any:
        """The answer, which must be a success."""
        answer = self._session.get(self._base + path, params=query, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        if path != "session":
            self.texts.append(answer.text)
        return answer.json()

    def post(self, path: str, **body: Any) -> requests.Response:
        """The answer, whatever it is."""
        headers = {"X-CSRF-Token": self._csrf}
        answer = self._session.post(self._base + path, json=body, headers=headers, timeout=PATIENCE_S)
        if answer.headers["Content-Type"] != "audio/wav":
            self.texts.append(answer.text)
        return answer

    def save(self, *changes: tuple[str, Any], digest: str = "") -> requests.Response:
        """Save changes (dotted key, value) to what stands there now."""
        return self.post("settings", digest=digest or self.get("settings")["digest"], changes=listed(*changes))

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()


def listed(*changes: tuple[str, Any]) -> list[dict[str, Any]]:
    """Changes as pages send them."""
    return [
        {"path": key.split("."), "unset": True} if value is None else {"path": key.split("."), "value": value}
        for key, value in changes
    ]


class Home(Stage):
    """Use `open_home`. `environ`: what a reload finds in the environment."""

    def __init__(self, vendor: OpenAiVendor, config_dir: Path) -> None:
        self.local = config_dir / "local.yaml"
        self.environ: dict[str, str] = {}
        self._config_dir = config_dir
        loaded = self._read()
        super().__init__(
            vendor,
            Server(
                loaded,
                reload=self._read,
                preview=lambda text: examine(environ=self.environ, config_dir=config_dir, local=text),
                shed_policy=unshakable(),
            ),
            loaded,
        )

    def owner(self) -> OwnerClient:
        """Somebody who looks at the console; to be closed."""
        return OwnerClient(self.server)

    def _read(self) -> Loaded:
        return load(environ=self.environ, config_dir=self._config_dir)


@contextmanager
def open_home(directory: Path, sounds: Sounds, own: Mapping[str, Any] | None = None) -> Iterator[Home]:
    """Vendor and server, started; stopped at the end."""
    with OpenAiVendor(sounds=sounds, keep_alive=False, heard="what is up") as vendor:
        assert isinstance(vendor, OpenAiVendor)
        vendor.stand(TTS, SHORT)
        vendor.stand(CHAT, Script(answer="Fine."))
        config_dir = directory / "config"
        shutil.copytree(CONFIG_DIR, config_dir, ignore=shutil.ignore_patterns("local.*", ".local.*"))
        settings = merged(base_settings(vendor, directory / "data"), own or {})
        text = HEADER + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (config_dir / "local.yaml").write_text(text, encoding="utf-8")
        home = Home(vendor, config_dir)
        try:
            home.server.start()
            settle_phrases(home)
            home.keep_phrases()
            home.reset()
            yield home
        finally:
            home.close_devices()
            home.server.stop()
