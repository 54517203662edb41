"""The statistics of the paper (its tables 2 and 3): over the frames of one song, and over all songs.

There are two ways in use to sum up the frames of all songs, and a third for measures that have one value a song:

A, all frames                   every frame of every song counts alike
B, medians of tracks            a song counts once, by the median of its frames; this is museval's way
whole songs                     a song counts once, by its one value

Silent frames have no value and count nowhere. Infinite values are left out, too, since a mean with one of them says
nothing; how many there were is told. They come from estimates without any error, and from songs with one stem only,
whose mixture is a perfect estimate.
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

    All nan where there is no value. `left_out` is how many values were infinite, and so are not among them.
    """

    count: int
    left_out: int
    median: float
    mad: float
    mean: float
    sd: float


def statistics_of(values: Iterable[float]) -> Statistics:
    """The statistics of all values that are defined and finite."""
    defined = np.array([value for value in values if not np.isnan(value)], dtype=np.float64)
    x = defined[np.isfinite(defined)]
    if not len(x):
        return Statistics(0, len(defined), nan, nan, nan, nan)
    median = np.median(x)
    mad = np.median(np.abs(x - median))
    return Statistics(len(x), len(defined) - len(x), float(median), float(mad), float(x.mean()), float(x.std()))


def of_song(score: StemScore) -> dict[str, Statistics]:
    """For each measure, the statistics over the frames of one stem of one song."""
    return {measure: statistics_of(values) for measure, values in score.frames.items()}


def over_all(scores: Sequence[StemScore]) -> dict[tuple[str, str], Statistics]:
    """For each way to sum up and each measure, the statistics over all songs; `scores` are those of one stem."""
    found: dict[tuple[str, str], Statistics] = {}
    framed = [score for score in scores if score.frames]
    for measure in BSSEVAL if framed else ():
        found[ALL_FRAMES, measure] = statistics_of(np.concatenate([score.frames[measure] for score in framed]))
        found[TRACK_MEDIANS, measure] = statistics_of(of_song(score)[measure].median for score in framed)
    for measure, attribute in WHOLE_SONG.items():
        found[WHOLE_SONGS, measure] = statistics_of(getattr(score, attribute) for score in scores)
    return found
