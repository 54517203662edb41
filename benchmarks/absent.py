"""What a model gives where there is nothing to find: how loud each stem is in silence, how loud in songs that lack it,
and how loud all others are where it sounds alone.

    python benchmarks/absent.py FOLDER... [--name vocals]

A folder holds a song's aligned stems. Levels are in dB of the energy of what was given to the model, those in silence
below full scale.
"""

import argparse
from math import log10
from pathlib import Path

import numpy as np

from waveunet_cli import Separator
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import aligned, by_source, stem_files

SILENCE_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--name", default="vocals")
    options = parser.parse_args()
    separator = Separator(options.name, "cpu", "float32")
    config = separator.model.config
    silence = np.zeros((SILENCE_SECONDS * config.sample_rate, config.channels), np.float32)
    for name, stem in separator.separate(silence, config.sample_rate).items():
        peak = float(np.abs(stem).max())
        print(f"silence: {name} {f'{20 * log10(peak):.1f} dB at most' if peak else 'silent'}", flush=True)
    for folder in options.folders:
        found = {name: paths for name, paths in by_source(stem_files(folder), config.sources).items() if paths}
        track = aligned(str(folder), found)
        rate_hz = track.sample_rate_hz
        read = Reader(rate_hz, config.channels).read(track, found, 0, track.frames)  # (S, C, t)
        stems = dict(zip(found, read.transpose(1, 2).numpy(), strict=True))  # (t, C) each
        for name, alone in stems.items():
            if name == config.residual:  # with two stems, the same again
                continue
            without = sum(stem for other, stem in stems.items() if other != name)
            left = separator.separate(without, rate_hz)[name]
            others = alone - separator.separate(alone, rate_hz)[name]
            print(
                f"{folder.name}: without {name}, {name} {_level(left, without):.1f} dB; "
                f"{name} alone, all others {_level(others, alone):.1f} dB",
                flush=True,
            )


def _level(x: np.ndarray, reference: np.ndarray) -> float:
    return 10 * log10(float((x.astype(np.float64) ** 2).sum() / (reference.astype(np.float64) ** 2).sum()) + 1e-20)


if __name__ == "__main__":
    main()
