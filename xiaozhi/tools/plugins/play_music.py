"""Plays sound files from a directory of the server: the one whose name is most like what was asked for, or any; then
the next, the previous, the rest of one that was interrupted, louder or quieter.

Not a player: it picks a file and asks the session to play it after the announcement; decoding and pacing are done
there."""

from __future__ import annotations

import os
import random
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from rapidfuzz import fuzz, process, utils

from xiaozhi.errors import ToolError
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.music import Track
from xiaozhi.tools.registry import tool

DEFAULT_EXTENSIONS = (".mp3", ".wav", ".ogg", ".opus", ".flac", ".m4a")
DEFAULT_REFRESH_S = 60.0
MAX_FILES = 10_000
MAX_FOLLOWING = 100
"""Songs that follow the first by themselves."""
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
    """The tools and what they know of the files. What one session plays, and how, is kept by the session (`Music`)."""

    def __init__(self, options: PlayMusicOptions, services: ToolServices) -> None:
        self._shelf = MusicShelf(
            options.music_dir,
            extensions=tuple(extension.lower() for extension in options.music_ext),
            refresh_seconds=options.refresh_time,
            offload=services.offload,
        )

    @tool("play_music", PlayMusicOptions, late_after=0)
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
        one_after_another: Annotated[
            bool,
            Field(
                description="True when the user wants all songs, or songs one after another. "
                "用户想连续播放或播放全部歌曲时为 true。"
            ),
        ] = False,
    ) -> ToolOutcome:
        """Plays a song from the local music collection. Call it when the user wants to hear music.
        用户想听音乐或某首歌时调用。"""
        music = context.actions.music
        wanted = song_name.strip()
        any_song = utils.default_process(wanted) in _ANY
        seed = random.randrange(1 << 32) if any_song else None
        titles = self._titles(seed)
        title = titles[0] if any_song else self._shelf.nearest(wanted)
        if title is None:
            raise ToolError(f"There is no song like '{song_name[:80]}' on this server. 没有找到这首歌。")
        music.seed, music.goes_on = seed, one_after_another
        return self._play(context, titles, titles.index(title))

    @tool("control_music", PlayMusicOptions, late_after=0)
    def control_music(
        self,
        context: ToolContext,
        action: Annotated[
            Literal["next", "previous", "pause", "resume", "stop", "volume"],
            Field(description="next 下一首, previous 上一首, pause 暂停, resume 继续, stop 停止, volume 音乐音量。"),
        ],
        volume: Annotated[
            int | None,
            Field(ge=0, le=100, description="For volume: 0 to 100; without it the volume is told. 音量。"),
        ] = None,
    ) -> ToolOutcome:
        """Controls the music that play_music plays: the next or previous song, pause, go on where it stopped, stop, the
        volume of the music alone. Speech interrupts music: call it with resume when the user wants to hear the rest.
        控制正在播放或被打断的音乐：下一首、上一首、暂停、继续、停止、音乐音量。"""
        music, chinese = context.actions.music, context.chinese
        match action:
            case "next":
                return self._neighbour(context, 1)
            case "previous":
                return self._neighbour(context, -1)
            case "resume":
                return self._resume(context)
            case "volume":
                return self._set_volume(context, volume)
        if music.track is None:
            raise ToolError("No music was played. 没有在播放音乐。")
        music.held = True
        if action == "pause":
            return ToolOutcome(Action.SPEAK, "好的，已暂停。" if chinese else "Paused.")
        music.track.heard_ms, music.goes_on = 0.0, False
        return ToolOutcome(Action.SPEAK, "好的，已停止播放。" if chinese else "Stopped.")

    def _titles(self, seed: int | None) -> list[str]:
        """All songs in the order in which they follow each other. Raises ToolError when there are none."""
        titles = self._shelf.titles()
        if not titles:
            raise ToolError("There is no music on this server. 服务器上没有音乐文件。")
        if seed is not None:
            random.Random(seed).shuffle(titles)
        return titles

    def _neighbour(self, context: ToolContext, step: int) -> ToolOutcome:
        music = context.actions.music
        titles = self._titles(music.seed)
        track = music.track
        at = titles.index(track.title) + step if track is not None and track.title in titles else 0
        return self._play(context, titles, at % len(titles))

    def _resume(self, context: ToolContext) -> ToolOutcome:
        track = context.actions.music.track
        if track is None:
            raise ToolError("No music was played. 没有可以继续播放的音乐。")
        self._go_on(context, track)
        return ToolOutcome(
            Action.SPEAK, f"继续播放《{track.title}》。" if context.chinese else f"On with {track.title}."
        )

    def _set_volume(self, context: ToolContext, volume: int | None) -> ToolOutcome:
        music = context.actions.music
        if volume is None:
            return ToolOutcome(Action.ASK_LLM, f"The volume of the music 音乐音量: {music.volume} (0-100)")
        music.volume = volume
        if music.track is not None and music.interrupted and not music.held:
            self._go_on(context, music.track)
        told = f"音乐音量已调到{volume}。" if context.chinese else f"The music is at {volume} now."
        return ToolOutcome(Action.SPEAK, told)

    def _play(self, context: ToolContext, titles: Sequence[str], at: int) -> ToolOutcome:
        self._start(context, self._shelf.path(titles[at]), titles[at])
        if context.actions.music.goes_on:
            self._follow(context, titles, at)
        return ToolOutcome(Action.SPEAK, f"为您播放《{titles[at]}》。" if context.chinese else f"Here is {titles[at]}.")

    def _go_on(self, context: ToolContext, track: Track) -> None:
        """Play the rest of a song; one that was heard to its end from its beginning."""
        music = context.actions.music
        self._start(context, track.path, track.title, 0.0 if track.ended else track.heard_ms)
        if music.goes_on and track.title in (titles := self._titles(music.seed)):
            self._follow(context, titles, titles.index(track.title))

    def _follow(self, context: ToolContext, titles: Sequence[str], at: int) -> None:
        for title in titles[at + 1 : at + MAX_FOLLOWING + 1]:
            self._start(context, self._shelf.path(title), title)

    def _start(self, context: ToolContext, path: Path, title: str, start_ms: float = 0.0) -> None:
        music = context.actions.music
        music.held = False
        context.actions.play(path, title=title, start_ms=start_ms, gain=music.gain)


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
    ) -> None:
        self._directory = directory
        self._extensions = extensions
        self._refresh_seconds = refresh_seconds
        self._offload = offload
        self._clock = clock
        self._looked: float | None = None
        self._looking = False
        """A look is under way: one that never ends (a dead network share) must not be followed by another, in one more
        thread."""
        self._files: dict[str, Path] = {}

    def titles(self) -> list[str]:
        """Names of all songs, without directory and ending, folder by folder."""
        now = self._clock()
        due = self._looked is None or now - self._looked >= self._refresh_seconds
        if due and not self._looking:
            self._files = self._offload(self._look)
            self._looked = now
        return list(self._files)

    def nearest(self, wanted: str) -> str | None:
        """The title most like `wanted`, None when none is."""
        match = process.extractOne(
            wanted, list(self._files), scorer=fuzz.WRatio, processor=utils.default_process, score_cutoff=MIN_LIKENESS
        )
        return match[0] if match else None

    def path(self, title: str) -> Path:
        """The file of one of the titles."""
        return self._files[title]

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
        for folder, folders, names in os.walk(root):
            folders.sort()
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
