"""Plays a sound file from a directory of the server: the one whose name is most like what was asked for, or any.

Not a player: it picks a file and asks the session to play it after the announcement; decoding and pacing are done
there."""

from __future__ import annotations

import os
import random
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from rapidfuzz import fuzz, process, utils

from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.registry import tool

DEFAULT_EXTENSIONS = (".mp3", ".wav", ".ogg", ".opus", ".flac", ".m4a")
DEFAULT_REFRESH_S = 60.0
MAX_FILES = 10_000
# 0..100: lets a mumbled or partial title through, but not any two titles that share a character.
MIN_LIKENESS = 55
_ANY = frozenset({"", "random", "any", "music", "随机", "任意", "音乐", "歌"})


class PlayMusicOptions(ToolOptions):
    """`plugins.play_music`."""

    music_dir: Path = Field(Path("music"), description="Directory that is searched, with everything below.")
    music_ext: tuple[str, ...] = Field(DEFAULT_EXTENSIONS, description="Endings of music files.")
    refresh_time: float = Field(DEFAULT_REFRESH_S, ge=0, description="Seconds between two looks at the directory.")

    @field_validator("music_dir", mode="before")
    @classmethod
    def _nothing_is_the_default(cls, value: Any) -> Any:
        return value or "music"

    def missing(self) -> str:
        return "" if self.music_dir.is_dir() else f"music_dir: there is no directory {self.music_dir}"


class PlayMusic:
    """The tool and what it knows of the files."""

    def __init__(self, options: PlayMusicOptions, services: ToolServices) -> None:
        self._shelf = MusicShelf(
            options.music_dir,
            extensions=tuple(extension.lower() for extension in options.music_ext),
            refresh_seconds=options.refresh_time,
            offload=services.offload,
        )

    @tool("play_music", PlayMusicOptions)
    def play_music(
        self,
        context: ToolContext,
        song_name: Annotated[
            str,
            Field(
                description="Title of the song as the user said it, or 'random' when none was named. "
                "歌名；没有指定时填 random。"
            ),
        ] = "random",
    ) -> ToolOutcome:
        """Plays a song from the local music collection. Call it when the user wants to hear music.
        用户想听音乐或某首歌时调用。"""
        song = self._shelf.find(song_name.strip())
        if song is None:
            if not self._shelf.titles():
                raise ToolError("There is no music on this server. 服务器上没有音乐文件。")
            raise ToolError(f"There is no song like '{song_name[:80]}' on this server. 没有找到这首歌。")
        title, path = song
        context.actions.play(path)
        return ToolOutcome(Action.SPEAK, f"为您播放《{title}》。" if context.chinese else f"Here is {title}.")


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
        self._looking = False
        """A look is under way: one that never ends (a dead network share) must not be followed by another, in one more
        thread."""
        self._files: dict[str, Path] = {}

    def titles(self) -> list[str]:
        """Names of all songs, without directory and ending."""
        now = self._clock()
        due = self._looked is None or now - self._looked >= self._refresh_seconds
        if due and not self._looking:
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
        # Runs off the hub.
        self._looking = True
        try:
            return self._found()
        finally:
            self._looking = False

    def _found(self) -> dict[str, Path]:
        # Links are not followed: what is played lies in the directory that the owner chose. A pipe would be waited for
        # when it is opened.
        files: dict[str, Path] = {}
        root = self._directory.resolve()
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() in self._extensions and _is_regular(path):
                    files.setdefault(path.stem, path)
                if len(files) >= MAX_FILES:
                    return files
        return files


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
