"""Folders of songs as tracks: which files make which source, and any stretch of them as samples.

A song is a folder of aligned stems. A stem is a source if it has the source's name; `accompaniment` is also everything
but the vocals, and `mixture` everything. Songs that lack a source, or whose stems differ in length or rate, are named
and left out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import ceil, gcd
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.audio import AUDIO_EXTENSIONS, probe
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.streaming.resample import resample, resampled_frames

MIXTURES = ("mixture", "mix")
CCMIXTER = {"source-01": "accompaniment", "source-02": "vocals"}
FILTER_REACH_FRAMES = 64  # more than the resampler's filter reads on a side, at the lower of both rates


@dataclass(frozen=True)
class Data:
    """One folder to train on.

    path     MUSDB18-HQ style (train/<song>/<stem>.wav), CCMixter (<song>/source-01.wav, source-02.wav), a folder of
             songs (<song>/<stem>.wav), or with `stem` a folder of files that all are that one source
    weight   how often it is drawn, in proportion to the other folders
    weights  the same for one use, instead of `weight`: a source's name (in a remix) or "song" (all sources of one song
             together); 0 for never
    reverb   probability of reverberation for what comes from here, instead of the augmentation's
    split    the subfolder of a MUSDB18 folder to take
    exclude  names of songs to leave out
    """

    path: Path
    weight: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    reverb: float | None = None
    split: str = "train"
    stem: str | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.weight <= 0 or any(weight < 0 for weight in self.weights.values()):
            raise ConfigError("data.weight: must be positive; leave a folder out instead of giving it no weight")
        if self.reverb is not None and not 0 <= self.reverb <= 1:
            raise ConfigError(f"data.reverb: found {self.reverb}; give a probability from 0 to 1")


@dataclass(frozen=True)
class Track:
    """A song, or one file with a single source. `frames` and `sample_rate_hz` are the files' own."""

    name: str
    sources: Mapping[str, tuple[Path, ...]]  # files that sum to the source
    frames: int
    sample_rate_hz: int

    def frames_at(self, sample_rate_hz: int) -> int:
        """The length at another rate."""
        return resampled_frames(self.frames, self.sample_rate_hz, sample_rate_hz)


def find_tracks(data: Data, sources: Sequence[str]) -> tuple[list[Track], list[str]]:
    """All usable tracks of a folder, and a line for each one left out. Raises ConfigError if none is left."""
    if not data.path.is_dir():
        raise ConfigError(f"{data.path}: no such folder; give a folder of songs, each a folder of stems")
    if data.stem is not None and data.stem not in sources:
        raise ConfigError(f"{data.path}: stem {data.stem!r} is none of the model's sources {', '.join(sources)}")
    root = data.path / data.split if (data.path / data.split).is_dir() else data.path
    songs = [root] if data.stem else sorted(folder for folder in root.iterdir() if folder.is_dir())
    tracks: list[Track] = []
    left_out: list[str] = []
    for song in songs:
        candidates = (
            {path.stem: {data.stem: (path,)} for path in stem_files(song).values()}
            if data.stem
            else {song.name: by_source(song, sources)}
        )
        for name, files in candidates.items():
            if name in data.exclude:
                continue
            try:
                tracks.append(aligned(f"{song}/{name}" if data.stem else str(song), files))
            except AudioReadError as error:
                left_out.append(str(error))
    if not tracks:
        why = f"; the first of {len(left_out)} left out: {left_out[0]}" if left_out else ""
        raise ConfigError(
            f"{data.path}: no song with the stems {', '.join(sources)}{why}; "
            f"expected <song>/<stem>.wav or {data.split}/<song>/<stem>.wav"
        )
    return tracks, left_out


def stem_files(song: Path) -> dict[str, Path]:
    """The audio files of a folder by what they hold: the lower-case name, or what CCMixter's names stand for."""
    files = [path for path in sorted(song.iterdir()) if path.suffix.lower() in AUDIO_EXTENSIONS]
    return {CCMIXTER.get(path.stem.lower(), path.stem.lower()): path for path in files}


def by_source(song: Path, sources: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """For each source the files of a song's folder that sum to it; none where there is no such stem."""
    files = stem_files(song)
    mixtures = [files.pop(name) for name in MIXTURES if name in files]
    found: dict[str, tuple[Path, ...]] = {}
    for source in sources:
        if source in files:
            found[source] = (files[source],)
        elif source == "accompaniment":
            found[source] = tuple(path for name, path in files.items() if name != "vocals")
        elif source == "mixture":
            whole = [files[name] for name in ("accompaniment", "vocals") if name in files]
            found[source] = tuple(mixtures[:1] or (whole if len(whole) == 2 else files.values()))
        else:
            found[source] = ()
    return found


def aligned(name: str, by_source: Mapping[str, tuple[Path, ...]]) -> Track:
    """The track of these files. Raises AudioReadError if one is missing, unreadable, or unlike the others."""
    missing = [source for source, paths in by_source.items() if not paths]
    if missing:
        raise AudioReadError(f"{name}: stem missing: {', '.join(missing)}; add it or remove the folder")
    lengths: dict[tuple[int, int], Path] = {}
    for path in [path for paths in by_source.values() for path in paths]:
        info = probe(path)
        if info.frames is None or info.frames == 0:
            raise AudioReadError(f"{path}: its header counts no frames; convert it to WAV or FLAC")
        lengths.setdefault((info.frames, info.sample_rate_hz), path)
    if len(lengths) > 1:
        found = ", ".join(f"{path.name} {frames} frames at {hz} Hz" for (frames, hz), path in lengths.items())
        raise AudioReadError(f"{name}: stems differ in length or rate: {found}; export them again")
    frames, sample_rate_hz = next(iter(lengths))
    return Track(name, by_source, frames, sample_rate_hz)


class Reader:
    """Stretches of tracks at a model's rate and channels, from disk or from memory. Threads may share it."""

    def __init__(self, sample_rate_hz: int, channels: int, in_memory: bool = False) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._channels = channels
        self._whole = cache(_read_whole) if in_memory else None

    def read(
        self,
        track: Track,
        sources: Iterable[str],
        start: int,
        frames: int,
        gain: Callable[[Path], float] = lambda path: 1.0,
    ) -> Tensor:
        """(S, C, frames) from frame `start` of the track, both at the model's rate; zeros beyond the ends.

        `gain` is that of each file. Raises AudioReadError where a file cannot be read.
        """
        own = track.sample_rate_hz
        if own == self._sample_rate_hz:
            return self._stack(track, sources, start, frames, gain)
        # What is read starts at a frame that both rates have: cycle_in frames of the file last as long as cycle_out.
        common = gcd(own, self._sample_rate_hz)
        cycle_in, cycle_out = own // common, self._sample_rate_hz // common
        reach = ceil(FILTER_REACH_FRAMES * max(1, own / self._sample_rate_hz))
        cycles = start // cycle_out - -(-reach // cycle_in)
        skip = start - cycles * cycle_out
        count = -(-(skip + frames) * cycle_in // cycle_out) + reach
        x = self._stack(track, sources, cycles * cycle_in, count, gain)
        return resample(x, own, self._sample_rate_hz)[..., skip : skip + frames]

    def _stack(
        self, track: Track, sources: Iterable[str], start: int, frames: int, gain: Callable[[Path], float]
    ) -> Tensor:
        return torch.stack(
            [sum_of([self._file(p, track, start, frames) * gain(p) for p in track.sources[s]]) for s in sources]
        )

    def _file(self, path: Path, track: Track, start: int, frames: int) -> Tensor:
        lo, hi = max(0, start), max(0, start, min(track.frames, start + frames))  # what the file has of it
        x = _read(path, lo, hi - lo) if self._whole is None else self._whole(path)[lo:hi].astype(np.float32) / 32768
        if len(x) != hi - lo:
            raise AudioReadError(f"{path}: truncated: its header says {track.frames} frames; copy the file again")
        if x.shape[1] != self._channels:
            x = x.mean(1, keepdims=True) if self._channels == 1 else x[:, [0, 0] if x.shape[1] == 1 else [0, 1]]
        y = torch.zeros(self._channels, frames)
        y[:, lo - start : hi - start] = torch.from_numpy(np.ascontiguousarray(x.T))  # (t, C) → (C, t)
        return y


def sum_of(stems: Sequence[Tensor]) -> Tensor:
    """The sum of stems, one or more."""
    return torch.stack(list(stems)).sum(0)


def _read(path: Path, start: int, frames: int) -> NDArray[np.float32]:
    try:
        with soundfile.SoundFile(path) as file:
            if frames:
                file.seek(start)
            x: NDArray[np.float32] = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioReadError(f"{path}: cannot be read at frame {start} ({error}); copy the file again") from error
    if not np.isfinite(x).all():
        raise AudioReadError(
            f"{path}: a sample is NaN or infinite after frame {start}; repair or export the file again"
        )
    return x


def _read_whole(path: Path) -> NDArray[np.int16]:
    try:
        x: NDArray[np.int16] = soundfile.read(path, dtype="int16", always_2d=True)[0]
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioReadError(f"{path}: cannot be read ({error}); copy the file again") from error
    return x
