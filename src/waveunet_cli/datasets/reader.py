"""Any stretch of a track as samples, at a model's rate and channels, from disk or from memory."""

import os
from collections.abc import Iterable
from functools import cache, lru_cache
from math import ceil, gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.audio import read_blocks
from waveunet_cli.datasets.tracks import Track
from waveunet_cli.errors import AudioReadError
from waveunet_cli.streaming.resample import resample
from waveunet_cli.text import one_line

FILTER_REACH_FRAMES = 64  # more than the resampler's filter reads on a side, at the lower of both rates
FLOAT_SUBTYPES = frozenset({"FLOAT", "DOUBLE"})
# Of files, FLAC among them, a part of which libsndfile gives exactly as it stands in the whole file.
EXACT_SUBTYPES = FLOAT_SUBTYPES | {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32"}
MOST_WHOLE = 8  # files that are decoded whole and kept, the last that were read

Audio = NDArray[np.float32]


class Held(NamedTuple):
    """A decoded file in memory: `samples` (t, ch), each to be multiplied by `step`."""

    samples: NDArray[np.int16] | Audio
    step: float


class Reader:
    """Reads stretches of tracks. With `in_memory`, every file is decoded once and kept. Threads may share a reader.

    In memory, files with float samples keep them as they are. All others take 16 bits a sample, in steps as fine as
    the loudest sample allows. Files that are not read by place (Ogg, MP3, M4A …) are decoded whole in any case, and the
    last few are kept: libsndfile finds a frame of theirs only nearly, so that stems and mixture would not fit together.
    """

    def __init__(self, sample_rate_hz: int, channels: int, in_memory: bool = False) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._channels = channels
        self._in_memory = in_memory
        self._held = (cache if in_memory else lru_cache(MOST_WHOLE))(_decoded)
        self._subtype = cache(_subtype)

    def read(self, track: Track, sources: Iterable[str], start: int, frames: int) -> Tensor:
        """(S, C, frames) from frame `start` of the track, both at the model's rate; zeros beyond the ends.

        Raises AudioReadError where a file cannot be read.
        """
        own = track.sample_rate_hz
        if own == self._sample_rate_hz:
            return self._stack(track, sources, start, frames)
        # What is read starts at a frame that both rates have: cycle_in frames of the file last as long as cycle_out.
        common = gcd(own, self._sample_rate_hz)
        cycle_in, cycle_out = own // common, self._sample_rate_hz // common
        reach = ceil(FILTER_REACH_FRAMES * max(1, own / self._sample_rate_hz))
        cycles = start // cycle_out - -(-reach // cycle_in)
        skip = start - cycles * cycle_out
        count = -(-(skip + frames) * cycle_in // cycle_out) + reach
        x = self._stack(track, sources, cycles * cycle_in, count)
        return resample(x, own, self._sample_rate_hz)[..., skip : skip + frames]

    def file(self, path: Path, track: Track, start: int, frames: int) -> Audio:
        """(t, ch) of one file of a track: what it has of `frames` frames from frame `start`, both at its own rate.

        Raises AudioReadError if it cannot be read, ends early, or holds a sample that is no number.
        """
        lo, hi = max(0, start), max(0, start, min(track.frames, start + frames))
        if not self._in_memory and self._subtype(path) in EXACT_SUBTYPES:
            x = _part(path, lo, hi - lo)
        else:
            samples, step = self._held(path)
            x = samples[lo:hi].astype(np.float32) * np.float32(step)
        if len(x) != hi - lo:
            raise AudioReadError(f"{path}: truncated: its header says {track.frames} frames; copy the file again")
        return x

    def _stack(self, track: Track, sources: Iterable[str], start: int, frames: int) -> Tensor:
        files = ([self._padded(path, track, start, frames) for path in track.sources[source]] for source in sources)
        return torch.stack([torch.stack(summed).sum(0) for summed in files])

    def _padded(self, path: Path, track: Track, start: int, frames: int) -> Tensor:
        """(C, frames) of one file, zeros beyond its ends."""
        x = self.file(path, track, start, frames)  # (t, ch)
        if x.shape[1] != self._channels:
            x = x.mean(1, keepdims=True) if self._channels == 1 else x[:, [0, 0] if x.shape[1] == 1 else [0, 1]]
        y = torch.zeros(self._channels, frames)
        before = min(frames, max(0, -start))
        y[:, before : before + len(x)] = torch.from_numpy(np.ascontiguousarray(x.T))  # (t, C) → (C, t)
        return y


def _subtype(path: Path) -> str:
    """libsndfile's name for how the samples of a file are stored; empty if it cannot read the file."""
    try:
        return str(soundfile.info(os.fsencode(path)).subtype)
    except (soundfile.SoundFileError, OSError):
        return ""


def _part(path: Path, start: int, frames: int) -> Audio:
    """(t, ch) of a file from frame `start`. Raises AudioReadError, also for NaN and infinity."""
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # as text it would have to be UTF-8
            if frames:
                file.seek(start)
            x: Audio = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioReadError(
            f"{path}: cannot be read at frame {start} ({one_line(error)}); copy the file again"
        ) from error
    if not np.isfinite(x).all():
        raise AudioReadError(
            f"{path}: a sample is NaN or infinite after frame {start}; repair or export the file again"
        )
    return x


def _decoded(path: Path) -> Held:
    """A whole file. Samples beyond ±1, which libsndfile would wrap around in 16 bits, keep their value."""
    blocks = list(read_blocks(path))
    x = np.concatenate(blocks) if blocks else np.empty((0, 1), np.float32)  # (t, ch)
    if _subtype(path) in FLOAT_SUBTYPES:
        return Held(x, 1.0)
    step = max(1 / 32_768, float(x.max(initial=0)) / 32_767, -float(x.min(initial=0)) / 32_768)
    np.rint(np.divide(x, np.float32(step), out=x), out=x)
    return Held(x.clip(-32_768, 32_767, out=x).astype(np.int16), step)
