"""The measures of one song.

Over a whole song, with truth r and estimate e, all channels together:

    SDR     10·log10(Σr² / Σ(r − e)²)                            the mixture m as estimate: Σ(r − m)² instead
    SI-SDR  10·log10(|a·r|² / |e − a·r|²), a = Σr·e / Σr²        the true stem may be scaled to fit
    level   10·log10(Σe² / Σm²)                                  all that can be said where the stem is silent

In frames of one second: SDR, ISR, SIR and SAR of BSSEval v4, computed by museval. It gives no value where any true or
estimated stem is silent; such frames are counted. It takes for silent, too, what has opposite channels throughout
(findings/museval-opposite.sh).

BSSEval fits filters of 512 taps to the true stems. What a lossy codec left out of them, all that lies above some
frequency, is empty to the last bit of a float64, and the fit then has no solution: ISR, SIR and SAR come out as noise
(ISR −20 dB, SAR 0 dB). So true stems from lossy files are rounded to 16 bits for BSSEval, as a decoder to WAV would.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import inf, log10, nan

import numpy as np
import torch
from numpy.typing import NDArray

from waveunet_cli.datasets.reader import Reader
from waveunet_cli.errors import AudioReadError, ConfigError, DeviceError
from waveunet_cli.evaluate.testset import ScoredSong

BSSEVAL = ("SDR", "ISR", "SIR", "SAR")
REST = "(rest)"  # of the mixture
READ_FRAMES = 1 << 19

Audio = NDArray[np.float32]
Frames = NDArray[np.float64]


@dataclass(frozen=True)
class StemScore:
    """One stem of one song, in dB. nan: undefined; inf: without any error.

    sdr, mixture_sdr, si_sdr, level   over the whole song; mixture_sdr is that of the mixture as estimate
    frames                            BSSEval v4 by measure, a value a second; nan where it has none
    """

    song: str
    stem: str
    seconds: float
    sdr: float
    mixture_sdr: float
    si_sdr: float
    level: float
    frames: dict[str, Frames] = field(default_factory=dict)

    @property
    def improvement(self) -> float:
        """How much better the SDR is than that of the mixture as estimate.

        nan where nothing else sounds in the song: the mixture is the stem, and no estimate can be better.
        """
        return nan if self.is_mixture else self.sdr - self.mixture_sdr

    @property
    def is_mixture(self) -> bool:
        """Whether the mixture is this stem, and nothing else sounds in the song."""
        return self.mixture_sdr == inf

    @property
    def silent_frames(self) -> int:
        """Frames without a value."""
        return int(np.isnan(self.frames["SDR"]).sum()) if self.frames else 0


def require_museval() -> None:
    """Raise ConfigError where museval, or ffmpeg, without which it cannot be imported, is missing."""
    if find_spec("museval") is None:
        raise ConfigError("evaluate: museval is not installed; run: pip install museval; or add --quick")
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        raise ConfigError("evaluate: museval needs ffmpeg, which is not on the PATH; install it, or add --quick")


def mixture_of(song: ScoredSong) -> Iterator[Audio]:
    """The mixture in blocks (frames, channels)."""
    for (block,) in _blocks(song, ("mixture",)):
        yield block


def estimates_of(song: ScoredSong, stems: Sequence[str]) -> Iterator[dict[str, Audio]]:
    """The song's estimates on disk in blocks {stem: (frames, channels)}."""
    for block in _blocks(song, stems, estimates=True):
        yield dict(zip(stems, block, strict=True))


def measure(
    song: ScoredSong, stems: Sequence[str], estimates: Iterable[Mapping[str, Audio]], frames: bool
) -> tuple[list[StemScore], list[str]]:
    """Score blocks of estimates, which add up to the song, against the true stems.

    With `frames`, song and estimates are held in memory for museval; without, nothing is. Also returns a line for
    what could not be scored. Raises AudioReadError.
    """
    track = song.truth
    reader = Reader(track.sample_rate_hz, song.channels)
    sums = np.zeros((len(stems), 5))  # Σr², Σe², Σre, Σ(r − e)², Σ(r − m)²
    mixture_energy = 0.0
    names = (*stems, REST) if len(stems) == 1 else tuple(stems)
    held = np.zeros((2, len(names), track.frames if frames else 0, song.channels))  # true, estimated
    start = 0
    for block in estimates:
        e = np.stack([block[stem] for stem in stems]).astype(np.float64)  # (S, t, C)
        stop = start + e.shape[1]
        read = reader.read(track, (*stems, "mixture"), start, stop - start)  # (S + 1, C, t)
        *truth, m = read.transpose(1, 2).numpy().astype(np.float64)  # (t, C) each
        r = np.stack(truth)
        for i, pair in enumerate(((r, r), (e, e), (r, e), (r - e, r - e), (r - m, r - m))):
            sums[:, i] += (pair[0] * pair[1]).sum((1, 2))
        mixture_energy += float((m * m).sum())
        if frames and song.lossy:
            r, m = (np.round(x * 32_768) / 32_768 for x in (r, m))
        if frames:
            for kept, x in zip(held, (r, e), strict=True):
                kept[: len(stems), start:stop] = x
                kept[len(stems) :, start:stop] = m - x[: len(names) - len(stems)]
        start = stop
    if start != track.frames:
        raise AudioReadError(f"{song.name}: {start} frames of estimates for {track.frames} frames; separate it again")
    values, problems = _bsseval(song.name, names, held[0], held[1], track.sample_rate_hz) if frames else ({}, [])
    seconds = track.frames / track.sample_rate_hz
    return [
        StemScore(
            song.name, stem, seconds, _sdr(rr, error), _sdr(rr, mixture_error), _si_sdr(rr, ee, re),
            _db(ee, mixture_energy), values.get(stem, {}),
        )
        for stem, (rr, ee, re, error, mixture_error) in zip(stems, sums.tolist(), strict=True)
    ], problems  # fmt: skip


def scenarios(stems: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Which stems BSSEval looks at together, and of which its values are taken; as museval does for MUSDB18.

    Vocals and accompaniment are judged as a pair, beside whatever other stems there are. A stem all by itself is
    judged beside the rest of the mixture.
    """
    if not {"vocals", "accompaniment"} <= set(stems):
        return [(tuple(stems), tuple(stem for stem in stems if stem != REST))]
    pair = tuple(stem for stem in stems if stem in ("vocals", "accompaniment"))
    parts = tuple(stem for stem in stems if stem != "accompaniment")
    return [(pair, pair)] + ([(parts, tuple(s for s in parts if s != "vocals"))] if len(parts) > 1 else [])


def _bsseval(
    name: str, stems: Sequence[str], truth: Frames, estimate: Frames, rate_hz: int
) -> tuple[dict[str, dict[str, Frames]], list[str]]:
    from museval.metrics import bss_eval

    values: dict[str, dict[str, Frames]] = {}
    problems: list[str] = []
    frames = max(1, truth.shape[1] // rate_hz)
    for together, wanted in scenarios(stems):
        rows = [stems.index(stem) for stem in together]
        # copies only where they are not all of them
        parts = [x if rows == list(range(len(stems))) else x[rows] for x in (truth, estimate)]
        silent = [
            f"{stem} ({which})"
            for part, which in zip(parts, ("true", "estimated"), strict=True)
            for stem, x in zip(together, part, strict=True)
            if not x.sum(1).any()
        ]
        if silent:  # museval refuses
            problems.append(f"{name}: silent or of opposite channels: {', '.join(silent)}; BSSEval has no values")
            found = np.full((4, len(together), frames), nan)
        else:
            try:
                # what museval.evaluate calls, without its copies
                *found, _ = bss_eval(*parts, window=rate_hz, hop=rate_hz)
            except MemoryError as error:
                raise DeviceError(
                    f"{name}: not enough memory for BSSEval; close other programs or add --quick"
                ) from error
        for stem in wanted:
            row = together.index(stem)
            values[stem] = {measure: rows_of[row] for measure, rows_of in zip(BSSEVAL, found, strict=True)}
    return values, problems


def _blocks(song: ScoredSong, sources: Sequence[str], estimates: bool = False) -> Iterator[list[Audio]]:
    track = song.estimates if estimates else song.truth
    assert track is not None
    reader = Reader(track.sample_rate_hz, song.channels)
    for start in range(0, song.truth.frames, READ_FRAMES):
        count = min(READ_FRAMES, song.truth.frames - start)
        read = reader.read(track, sources, start, count)  # (S, C, t)
        yield list(np.ascontiguousarray(torch.transpose(read, 1, 2).numpy()))  # (t, C) each


def _sdr(signal: float, error: float) -> float:
    return _db(signal, error) if signal else nan


def _si_sdr(rr: float, ee: float, re: float) -> float:
    if not rr:
        return nan
    fitted = re * re / rr  # |a·r|²
    return _db(fitted, max(0.0, ee - fitted))


def _db(energy: float, other: float) -> float:
    if not other:
        return inf if energy else nan
    return 10 * log10(energy / other) if energy else -inf
