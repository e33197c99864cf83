"""Plays a sound file from a directory of the server: the one whose name is most like what was asked for, or any.

Not a player: it picks a file and asks the visit to play it after the announcement; decoding and pacing are done there.
Options, as in the existing server: `music_dir` [./music], `music_ext` [.mp3 .wav .ogg .opus .flac .m4a], `refresh_time`
[60 s] between two looks at the directory."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process, utils

from xiaozhi.chat import ToolSpec
from xiaozhi.errors import Fault, SettingsError
from xiaozhi.tools.base import Action, Tool, ToolContext, ToolOutcome
from xiaozhi.tools.plugins import PluginServices

DEFAULT_EXTENSIONS = (".mp3", ".wav", ".ogg", ".opus", ".flac", ".m4a")
DEFAULT_REFRESH_S = 60.0
MAX_FILES = 10_000
# 0..100: lets a mumbled or partial title through, but not any two titles that share a character.
MIN_LIKENESS = 55
_ANY = frozenset({"", "random", "any", "music", "随机", "任意", "音乐", "歌"})
_SPEC = ToolSpec(
    "play_music",
    (
        "Plays a song from the local music collection. Call "
        "it when the user wants to hear music. 用户想听音乐或某首歌时调用。"
    ),
    {
        "type": "object",
        "properties": {
            "song_name": {
                "type": "string",
                "description": (
                    "Title of the song as the user said it, or "
                    "'random' when none was named. 歌名；没有指定时填 random。"
                ),
                "default": "random",
            }
        },
        "required": [],
    },
)


def build(options: Mapping[str, Any], services: PluginServices) -> Tool:
    """The tool, with its options. Raises SettingsError."""
    refresh = options.get("refresh_time", DEFAULT_REFRESH_S)
    extensions = options.get("music_ext", DEFAULT_EXTENSIONS)
    faults = []
    if not isinstance(refresh, (int, float)) or isinstance(refresh, bool) or refresh < 0:
        faults.append(Fault("plugins.play_music.refresh_time", repr(refresh)[:80], "seconds, 0 or more"))
    if not isinstance(extensions, (list, tuple)) or not all(isinstance(extension, str) for extension in extensions):
        faults.append(Fault("plugins.play_music.music_ext", repr(extensions)[:80], "a list of file name endings"))
    if faults:
        raise SettingsError(faults)
    shelf = MusicShelf(
        Path(str(options.get("music_dir") or "music")),
        extensions=tuple(str(extension).lower() for extension in extensions),
        refresh_seconds=float(refresh),
        offload=services.offload,
    )
    return PlayMusic(shelf)


class MusicShelf:
    """The files of one directory and below it, looked at again when the last look is older than `refresh_seconds`."""

    def __init__(
        self,
        directory: Path,
        *,
        extensions: tuple[str, ...] = DEFAULT_EXTENSIONS,
        refresh_seconds: float = DEFAULT_REFRESH_S,
        offload: Callable[[Callable[[], Any]], Any],
        clock: Callable[[], float] = time.monotonic,
        choose: Callable[[list[str]], str] = random.choice,
    ) -> None:
        self._directory = directory
        self._extensions = extensions
        self._refresh_seconds = refresh_seconds
        self._offload = offload
        self._clock = clock
        self._choose = choose
        self._looked: float | None = None
        self._files: dict[str, Path] = {}

    def titles(self) -> list[str]:
        """Names of all songs, without directory and ending."""
        now = self._clock()
        if self._looked is None or now - self._looked >= self._refresh_seconds:
            self._files = self._offload(self._look)
            self._looked = now
        return list(self._files)

    def find(self, wanted: str) -> tuple[str, Path] | None:
        """Title and path of the song most like `wanted`, any song for no wish, None when there is none."""
        titles = self.titles()
        if not titles:
            return None
        if utils.default_process(wanted) in _ANY:
            title = self._choose(titles)
            return title, self._files[title]
        match = process.extractOne(
            wanted, titles, scorer=fuzz.WRatio, processor=utils.default_process, score_cutoff=MIN_LIKENESS
        )
        return (match[0], self._files[match[0]]) if match else None

    def _look(self) -> dict[str, Path]:
        # Runs off the hub. Links are not followed: what is played lies in the directory that the owner chose.
        files: dict[str, Path] = {}
        root = self._directory.resolve()
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() in self._extensions and not path.is_symlink():
                    files.setdefault(path.stem, path)
                if len(files) >= MAX_FILES:
                    return files
        return files


class PlayMusic(Tool):
    """The tool itself."""

    def __init__(self, shelf: MusicShelf) -> None:
        self.spec = _SPEC
        self._shelf = shelf

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        wanted = str(arguments.get("song_name") or "").strip()
        song = self._shelf.find(wanted)
        if song is None:
            if not self._shelf.titles():
                return ToolOutcome(Action.ERROR, "There is no music on this server. 服务器上没有音乐文件。")
            return ToolOutcome(Action.ERROR, f"There is no song like '{wanted[:80]}' on this server. 没有找到这首歌。")
        title, path = song
        context.actions.play(path)
        return ToolOutcome(Action.SPEAK, f"为您播放《{title}》。" if context.chinese else f"Here is {title}.")
