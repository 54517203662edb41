"""What a batch reports while it runs, and its final summary. Each event is a dataclass of plain values.

`--progress json` writes each event as one line on standard error, `{"event": NAME, …fields…}`. `--report` writes the
fields of the summary. docs/progress.md describes every field, and a test compares it with these classes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

INTERRUPTED = "interrupted"  # why a batch stopped, if its user stopped it


@dataclass(frozen=True)
class BatchStart:
    """Before the first song."""

    event: ClassVar[str] = "batch_start"
    waveunet: str
    songs: int
    model: str
    stems: tuple[str, ...]
    device: str
    engine: str
    jobs: int
    out: str


@dataclass(frozen=True)
class FileStart:
    """A song is opened. It comes again if another process had the song."""

    event: ClassVar[str] = "file_start"
    path: str
    track: str


@dataclass(frozen=True)
class Progress:
    """Some of a song is done. It comes after every block; `--progress json` writes at most one a second and song.

    `speed` is seconds of music per second since the song began. The last three fields are about the whole batch.
    """

    event: ClassVar[str] = "progress"
    path: str
    track: str
    done_seconds: float
    total_seconds: float | None
    speed: float
    eta_seconds: float | None
    songs_finished: int
    songs: int
    batch_speed: float


@dataclass(frozen=True)
class FileDone:
    """A song's stems are complete, or were before the batch began (`skipped`)."""

    event: ClassVar[str] = "file_done"
    path: str
    track: str
    skipped: bool
    stems: Mapping[str, str]
    seconds: float
    took_seconds: float
    speed: float
    gain: float
    peak: float
    clipped_samples: int


@dataclass(frozen=True)
class FileFailed:
    """A song could not be separated, or an input is no song. `kind` is the name of the error in waveunet_cli."""

    event: ClassVar[str] = "file_failed"
    path: str | None
    track: str | None
    kind: str
    reason: str


@dataclass(frozen=True)
class Note:
    """Something to know, in words: a file is read again, memory ran short, a model is downloaded."""

    event: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class GeneralNote(Note):
    """A Note that holds for all songs of a batch; a batch says it once."""


@dataclass(frozen=True)
class Summary:
    """The batch is over. If it ended early, `stopped` says why, and `remaining` names the songs that were not done.

    `left_out` counts the files in folders that were not taken for songs, by their extension (".jpg", or "" for none).
    """

    event: ClassVar[str] = "summary"
    songs: int
    done: int
    skipped: int
    failed: tuple[FileFailed, ...]
    left_out: Mapping[str, int]
    remaining: tuple[str, ...]
    stopped: str | None
    seconds: float
    took_seconds: float
    speed: float


@dataclass(frozen=True)
class Planned:
    """With --dry-run, one song: `why` it would be separated (new, input changed …), or None if its stems are there."""

    event: ClassVar[str] = "planned"
    path: str
    track: str
    why: str | None
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """With --dry-run, all songs together. The length of `unknown` songs is not known; the sums leave them out."""

    event: ClassVar[str] = "plan"
    songs: int
    to_do: int
    failed: tuple[FileFailed, ...]
    left_out: Mapping[str, int]
    unknown: int
    seconds: float
    needed_bytes: int
    free_bytes: int
    estimated_seconds: float
    speed: float


Event = BatchStart | FileStart | Progress | FileDone | FileFailed | Note | Summary | Planned | Plan
OnEvent = Callable[[Event], None]


def as_json(event: Event) -> str:
    """One line."""
    return json.dumps({"event": event.event, **asdict(event)})
