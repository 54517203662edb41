"""The statistics of the paper (its tables 2 and 3), over a song and over all of them, in both ways that are in use.

A, all frames                   every frame of every song counts alike
B, medians of tracks            a song counts once, by the median of its frames; museval's way
whole songs                     of measures that have one value a song

Silent frames have no value and count nowhere. A value may be infinite: the SDR of a perfect estimate, or of the mixture
where nothing but the stem sounds. It counts for the median and its deviation, but not for mean and standard deviation,
which would tell nothing about the other values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from waveunet_cli.evaluate.measure import BSSEVAL, StemScore

WHOLE_SONG = {"SDR": "sdr", "SDR of the mixture": "mixture_sdr", "SDR improvement": "improvement", "SI-SDR": "si_sdr"}
ALL_FRAMES, TRACK_MEDIANS, WHOLE_SONGS = "A: all frames", "B: medians of tracks", "whole songs"


@dataclass(frozen=True)
class Statistics:
    """Median, median absolute deviation from it, mean and standard deviation (of a population) of `count` values, dB.

    `infinite` of them are infinite; mean and standard deviation are those of the others. nan where there is no value.
    """

    count: int
    infinite: int
    median: float
    mad: float
    mean: float
    sd: float


def statistics_of(values: Iterable[float]) -> Statistics:
    """The statistics of all values that are defined."""
    x = np.array([value for value in values if not np.isnan(value)], dtype=np.float64)
    finite = x[np.isfinite(x)]
    median = mad = mean = sd = nan
    if len(x):
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            median = float(np.median(x))
            mad = float(np.median(np.abs(x - median)))
    if len(finite):
        mean, sd = float(finite.mean()), float(finite.std())
    return Statistics(len(x), len(x) - len(finite), median, mad, mean, sd)


def of_song(score: StemScore) -> dict[str, Statistics]:
    """By measure, over the frames of one stem of one song."""
    return {measure: statistics_of(values) for measure, values in score.frames.items()}


def over_all(scores: Sequence[StemScore]) -> dict[tuple[str, str], Statistics]:
    """By aggregation and measure, over all songs; `scores` are of one stem."""
    found: dict[tuple[str, str], Statistics] = {}
    framed = [score for score in scores if score.frames]
    for measure in BSSEVAL if framed else ():
        found[ALL_FRAMES, measure] = statistics_of(np.concatenate([score.frames[measure] for score in framed]))
        found[TRACK_MEDIANS, measure] = statistics_of(of_song(score)[measure].median for score in framed)
    for measure, attribute in WHOLE_SONG.items():
        found[WHOLE_SONGS, measure] = statistics_of(getattr(score, attribute) for score in scores)
    return found
