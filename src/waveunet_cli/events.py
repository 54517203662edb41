"""What a batch tells while it runs, and its final summary: plain values, one dataclass an event.

`--progress json` writes each as one line on standard error, `{"event": NAME, …fields…}`; `--report` writes the fields
of the summary. docs/progress.md describes every field, and a test compares it with these classes.
"""

import json
from collections.abc import Mapping
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
    """A song is opened. Said again if it must be read again."""

    event: ClassVar[str] = "file_start"
    path: str
    track: str


@dataclass(frozen=True)
class Progress:
    """At most once a second and song. `speed` is seconds of music per second since the song began."""

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
    """A song's stems are on disk, or were (`skipped`)."""

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
    """A song, or an input that is none, was passed over; `kind` is the name of the error in waveunet_cli."""

    event: ClassVar[str] = "file_failed"
    path: str | None
    track: str | None
    kind: str
    reason: str


@dataclass(frozen=True)
class Note:
    """Something to know, in words: a file read again, memory that ran short, a model that is downloaded."""

    event: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Summary:
    """After the last song. `stopped` says why the batch ended before its end, `remaining` what it did not do."""

    event: ClassVar[str] = "summary"
    songs: int
    done: int
    skipped: int
    failed: tuple[FileFailed, ...]
    remaining: tuple[str, ...]
    stopped: str | None
    seconds: float
    took_seconds: float
    speed: float


@dataclass(frozen=True)
class Planned:
    """Of --dry-run, a song: `why` it would be separated (new, input changed …), None if its stems are there."""

    event: ClassVar[str] = "planned"
    path: str
    track: str
    why: str | None
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """Of --dry-run, in all: `unknown` songs do not tell their length and are not in the sums."""

    event: ClassVar[str] = "plan"
    songs: int
    to_do: int
    failed: tuple[FileFailed, ...]
    unknown: int
    seconds: float
    needed_bytes: int
    free_bytes: int
    estimated_seconds: float
    speed: float


Event = BatchStart | FileStart | Progress | FileDone | FileFailed | Note | Summary | Planned | Plan


def as_json(event: Event) -> str:
    """One line."""
    return json.dumps({"event": event.event, **asdict(event)})
