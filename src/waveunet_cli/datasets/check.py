"""Tracks checked before they are worked with: what cannot be read, does not fit together, is silent, or is a twin."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from filecmp import cmp
from itertools import product
from math import log10
from pathlib import Path

import numpy as np

from waveunet_cli.audio import probe, read_blocks
from waveunet_cli.datasets.reader import Audio, Reader
from waveunet_cli.datasets.tracks import Track
from waveunet_cli.errors import AudioReadError, ConfigError

BLOCK_FRAMES = 1 << 20
# A lossy copy of a mixture differs from it by less. A stem that is missing, late or of another song differs by more.
MOST_DIFFERENCE_DB = -20.0
SAME_LENGTH_SECONDS = 1.0  # songs of one name whose lengths differ by less are taken for the same song


@dataclass(frozen=True)
class Heard:
    """What listening to a track told: the line for which it is left out, if any, and which of its sources sound."""

    problem: str | None
    sounding: frozenset[str] = frozenset()


def listen(tracks: Sequence[Track], reader: Reader, workers: int) -> list[Heard]:
    """Read every file of the tracks to its end, in threads. A reader that keeps files in memory has them afterwards."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda track: _listen(track, reader), tracks))


def require_apart(training: Iterable[Track], validation: Sequence[Track]) -> None:
    """Raise ConfigError if a song to validate with is among the tracks to train on.

    It is the same song if a file of both has the same bytes and is not silent, or if name and length agree.
    """
    for track in training:
        twin = next((other for other in validation if _same(track, other)), None)
        if twin is not None:
            raise ConfigError(
                f"{track.name}: is to be trained on, but {twin.name}, the same song, is to validate with; name it in "
                "data.exclude, or take it from the validation"
            )


def _same(track: Track, other: Track) -> bool:
    named_alike = Path(track.name).name == Path(other.name).name
    if named_alike and abs(track.seconds - other.seconds) < SAME_LENGTH_SECONDS:
        return True
    if track.frames != other.frames:
        return False
    pairs = product(track.files, other.files)
    return any(cmp(path, twin, shallow=False) and any(x.any() for x in read_blocks(path)) for path, twin in pairs)


def _listen(track: Track, reader: Reader) -> Heard:
    sounding: set[str] = set()
    energy = difference = 0.0  # of the mixture's file, and of that file minus the stems
    try:
        if track.mixture is not None:
            _require_alike(track.mixture, track)
            mixtures = read_blocks(track.mixture, BLOCK_FRAMES)
        for start in range(0, track.frames, BLOCK_FRAMES):
            stems = {path: reader.file(path, track, start, BLOCK_FRAMES) for path in track.files}  # (t, ch) each
            sounding |= {name for name, paths in track.sources.items() if any(stems[path].any() for path in paths)}
            if track.mixture is not None:
                mixture = next(mixtures, np.empty((0, 1), np.float32))  # (t, ch)
                if len(mixture) != len(next(iter(stems.values()))):
                    raise AudioReadError(f"{track.mixture}: ends after {start + len(mixture)} frames; copy it again")
                rest = mixture - sum(_with_channels(stem, mixture.shape[1]) for stem in stems.values())
                energy += float(np.square(mixture, dtype=np.float64).sum())
                difference += float(np.square(rest, dtype=np.float64).sum())
    except AudioReadError as error:
        return Heard(str(error))
    if difference > energy * 10 ** (MOST_DIFFERENCE_DB / 10):
        found = f"{10 * log10(difference / energy):.0f} dB" if energy else "the mixture is silent"
        return Heard(
            f"{track.mixture}: the stems beside it do not sum to it (difference: {found}; allowed: "
            f"{MOST_DIFFERENCE_DB:.0f} dB); export them again, or remove the mixture's file if it was mastered"
        )
    return Heard(None, frozenset(sounding))


def _require_alike(mixture: Path, track: Track) -> None:
    info = probe(mixture)
    if (info.frames, info.sample_rate_hz) != (track.frames, track.sample_rate_hz):
        raise AudioReadError(
            f"{mixture}: {info.frames} frames at {info.sample_rate_hz} Hz, but the stems beside it have {track.frames} "
            f"at {track.sample_rate_hz} Hz; export them again"
        )


def _with_channels(x: Audio, channels: int) -> Audio:
    """(t, ch) → (t, channels), or (t, 1) to stand for all of them."""
    return x if x.shape[1] == channels else x.mean(1, keepdims=True)
