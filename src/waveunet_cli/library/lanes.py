"""Many songs: who is next, what is tried again, when to stop, and the books of it all.

Small songs do not wait for long ones: of several lanes the last always takes the smallest song left, the others take
them in order. The network takes turns among the lanes, so what they overlap is reading, encoding and writing.
"""

import errno
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from typing import Protocol

from waveunet_cli.errors import AudioReadError, AudioWriteError, WaveUNetError
from waveunet_cli.events import Event, Note, OnEvent
from waveunet_cli.files import existing
from waveunet_cli.library.ledger import STRICT, Ledger
from waveunet_cli.library.song import Separated, Song
from waveunet_cli.library.storage import BusyError, Located

RETRY_SECONDS = (1.0, 5.0, 20.0)  # before the second, third and fourth attempt
BUSY_SECONDS = 0.5  # between looks at songs that another process works on
SPARE_BYTES = 16 << 20  # with less than this free, a disk is full for every song

_PASSING = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.EAGAIN}
    | {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EINTR}
    | {getattr(errno, "EREMOTEIO", errno.EIO)}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoppedError(Exception):
    """The batch is being stopped; raised inside a song to end it."""


class Separate(Protocol):
    """Separates one song; raises WaveUNetError, and BusyError where another process is at work on it."""

    def __call__(self, song: Song, on_event: OnEvent) -> Separated: ...


def errno_of(error: BaseException | None) -> int | None:
    """The errno of the OSError that caused an error, if one did."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__
    return None


class Lanes:
    """Runs the songs of a batch side by side in this process."""

    def __init__(self, separate: Separate, ledger: Ledger, out: Located, jobs: int = 1, strict: bool = False) -> None:
        self._separate = separate
        self._ledger = ledger
        self._space = Space(out)
        self._jobs = jobs
        self._strict = strict
        self._waiting = Waiting([])
        self._busy: list[Song] = []
        self._told_busy: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, songs: Sequence[Song]) -> None:
        """Every song once, whatever happens to the others. Whatever interrupts it ends the songs at work cleanly."""
        self._waiting = Waiting(songs)
        if self._ledger.stopped is not None:
            return
        lanes = min(self._jobs, len(songs))
        with ThreadPoolExecutor(max(1, lanes), "song") as pool:
            running = [pool.submit(self._lane, lane > 0 and lane == lanes - 1) for lane in range(lanes)]
            try:
                wait(running)
            finally:
                self._stop.set()
        for lane in running:
            lane.result()

    def _lane(self, smallest_first: bool) -> None:
        try:
            while (song := self._next(smallest_first)) is not None:
                self._one(song)
        except StoppedError:
            pass
        except BaseException:
            self._stop.set()  # a bug: end the other lanes, then show it
            raise

    def _next(self, smallest_first: bool) -> Song | None:
        while not self._stop.is_set():
            with self._lock:
                song = self._waiting.take(smallest_first)
                if song is not None or not self._busy:
                    return song
            self._stop.wait(BUSY_SECONDS)
            with self._lock:
                self._waiting.put_back(self._busy)
                self._busy = []
        return None

    def _one(self, song: Song) -> None:
        self._ledger.start(song)
        try:
            separated = persistently(lambda: self._separate(song, self._on_event), self._on_event, self._stop)
        except BusyError:
            if song.name not in self._told_busy:
                self._told_busy.add(song.name)
                self._on_event(Note(f"{song.name}: another process is separating it; looking again later"))
            with self._lock:
                self._busy.append(song)
        except WaveUNetError as error:
            self._failed(song, error)
        else:
            self._ledger.finish(song, separated)

    def _on_event(self, event: Event) -> None:
        if self._stop.is_set():
            raise StoppedError
        self._ledger.pass_on(event)

    def _failed(self, song: Song, error: WaveUNetError) -> None:
        self._ledger.fail(song, error)
        with self._lock:
            remaining = [*self._waiting, *self._busy]
        why = self._space.why_stop(remaining, error, self._strict)
        if why is not None:
            self._ledger.stopped = why
            self._stop.set()


class Waiting:
    """The songs that nobody has taken yet."""

    def __init__(self, songs: Sequence[Song]) -> None:
        self._songs = {song.name: song for song in songs}

    @cached_property
    def _names_by_size(self) -> Iterator[str]:  # each file is asked for its size once
        return iter([song.name for song in sorted(self._songs.values(), key=Song.bytes)])

    def take(self, smallest_first: bool) -> Song | None:
        """The next in order, or the smallest; None if there is none."""
        if not self._songs:
            return None
        names = self._names_by_size if smallest_first else iter(self._songs)
        name = next((name for name in names if name in self._songs), next(iter(self._songs)))
        return self._songs.pop(name)

    def put_back(self, songs: Sequence[Song]) -> None:
        self._songs.update({song.name: song for song in songs})

    def __len__(self) -> int:
        return len(self._songs)

    def __iter__(self) -> Iterator[Song]:
        return iter(self._songs.values())


def persistently(attempt: Callable[[], Separated], on_event: OnEvent, stop: threading.Event) -> Separated:
    """Try again after read errors that pass; raises what `attempt` raises, and StoppedError once `stop` is set."""
    for pause_seconds in RETRY_SECONDS:
        try:
            return attempt()
        except AudioReadError as error:
            if errno_of(error) not in _PASSING:
                raise
            on_event(Note(f"{error}; trying again in {pause_seconds:g} s"))
        if stop.wait(pause_seconds):
            raise StoppedError
    return attempt()


class Space:
    """Decides whether a full disk is full for every song, or only for a long one."""

    def __init__(self, out: Located) -> None:
        self._folder = out.storage.space(out.path)
        self._failures = 0

    def why_stop(self, remaining: Sequence[Song], error: WaveUNetError, strict: bool) -> str | None:
        """Why after this failure the batch ends; None if it goes on."""
        if strict:
            return STRICT
        if remaining and self._is_full_for(remaining, error):
            return "the disk is full; free some space and run the same command again"
        return None

    def _is_full_for(self, remaining: Sequence[Song], error: WaveUNetError) -> bool:
        if not isinstance(error, AudioWriteError) or errno_of(error) not in _FULL:
            return False
        self._failures += 1
        # Stems as float32 are larger than any song; a quota does not show in what is free.
        needed = max(SPARE_BYTES, min(map(Song.bytes, remaining)))
        return shutil.disk_usage(existing(self._folder)).free < needed or self._failures > 2
