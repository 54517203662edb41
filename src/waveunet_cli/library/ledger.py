"""The books of a batch: what was begun, done, skipped and failed."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from waveunet_cli.errors import WaveUNetError
from waveunet_cli.events import Event, FileDone, FileFailed, FileStart, GeneralNote, OnEvent, Progress, Summary
from waveunet_cli.library.song import Separated, Song

STRICT = "stopped at the first failure, as --strict asks"


class Ledger:
    """The books of a batch. It hands every event to `on_event`, one at a time, from whatever thread."""

    def __init__(
        self,
        songs: Sequence[Song],
        problems: Sequence[FileFailed],
        on_event: OnEvent,
        strict: bool = False,
        left_out: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._songs = len(songs) + len(problems)
        self._open = {song.name: song for song in songs}
        self._failed: list[FileFailed] = []
        self._left_out = dict(left_out)
        self._told: set[GeneralNote] = set()
        self._on_event = on_event
        self._lock = threading.RLock()
        self._begun = time.monotonic()
        self._started: dict[str, float] = {}
        self._running: dict[str, float] = {}  # seconds of music done
        self._finished_seconds = 0.0
        self._done = self._skipped = 0
        self.stopped = STRICT if strict and problems else None
        for problem in problems:
            self._fail(problem)

    def pass_on(self, event: Event) -> None:
        """An event of a song at work: of a Progress, the fields about the batch are filled in.

        What holds for the whole batch is said once.
        """
        with self._lock:
            if isinstance(event, GeneralNote):
                if event in self._told:
                    return
                self._told.add(event)
            if isinstance(event, Progress):
                self._running[event.path] = event.done_seconds
                event = replace(
                    event,
                    songs_finished=self._done + self._skipped + len(self._failed),
                    songs=self._songs,
                    batch_speed=(self._finished_seconds + sum(self._running.values())) / self._elapsed,
                )
            self._on_event(event)

    def start(self, song: Song) -> None:
        with self._lock:
            self._started[song.name] = time.monotonic()
            self._on_event(FileStart(song.name, song.track))

    def finish(self, song: Song, separated: Separated) -> None:
        with self._lock:
            self._close(song)
            self._skipped += separated.skipped
            self._done += not separated.skipped
            self._finished_seconds += separated.seconds
            took_seconds = self._since(song)
            self._on_event(
                FileDone(
                    path=song.name,
                    track=song.track,
                    skipped=separated.skipped,
                    stems=separated.names,
                    seconds=separated.seconds,
                    took_seconds=took_seconds,
                    speed=separated.seconds / took_seconds,
                    gain=separated.gain,
                    peak=separated.peak,
                    clipped_samples=separated.clipped_samples,
                )
            )

    def fail(self, song: Song, error: WaveUNetError) -> None:
        with self._lock:
            self._close(song)
            self._fail(FileFailed(song.name, song.track, type(error).__name__, str(error)))

    def summary(self) -> Summary:
        """The last event, which is also returned."""
        with self._lock:
            summary = Summary(
                songs=self._songs,
                done=self._done,
                skipped=self._skipped,
                failed=tuple(self._failed),
                left_out=self._left_out,
                remaining=tuple(self._open),
                stopped=self.stopped,
                seconds=self._finished_seconds,
                took_seconds=self._elapsed,
                speed=self._finished_seconds / self._elapsed,
            )
            self._on_event(summary)
            return summary

    def _close(self, song: Song) -> None:
        self._running.pop(song.name, None)
        self._open.pop(song.name, None)

    def _fail(self, failure: FileFailed) -> None:
        self._failed.append(failure)
        self._on_event(failure)

    @property
    def _elapsed(self) -> float:
        return max(1e-6, time.monotonic() - self._begun)

    def _since(self, song: Song) -> float:
        return max(1e-6, time.monotonic() - self._started.get(song.name, self._begun))
