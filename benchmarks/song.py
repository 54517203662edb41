"""Where the time goes when a file of 48 kHz is separated, and whether reading and writing hide behind computing.

    python benchmarks/song.py [--seconds 120] [--name vocals] [--precision auto] [--rounds 5]

Medians over the rounds: seconds in all, in both resamplers, and what reading the file and writing the stems take when
nothing else runs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile as sf

from waveunet_cli import Separator
from waveunet_cli.streaming.resample import Resampler

RATE_HZ = 48_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--name", default="vocals")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    resampling = _Clock()
    Resampler.push = resampling.around(Resampler.push)  # type: ignore[method-assign]
    Resampler.flush = resampling.around(Resampler.flush)  # type: ignore[method-assign]
    separator = Separator(options.name, "cpu", options.precision)
    totals, shares, files = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder, "noise.flac")
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, (options.seconds * RATE_HZ, 2))
        sf.write(song, noise.astype(np.float32), RATE_HZ)
        for _ in range(options.rounds + 1):
            resampling.seconds = 0.0
            start = time.perf_counter()
            done = separator.separate_file(song, folder, overwrite="always")
            totals.append(time.perf_counter() - start)
            shares.append(resampling.seconds / totals[-1])
            start = time.perf_counter()
            sf.read(song, dtype="float32")
            for stem in done.stems.values():
                audio, _ = sf.read(stem, dtype="float32")
                sf.write(Path(folder, "again.wav"), audio, RATE_HZ)
            files.append(time.perf_counter() - start)
    total = median(totals[1:])  # the first round touches memory and chooses kernels
    print(f"{separator.model.name}, {options.seconds} s at 48 kHz, {separator.placement}")
    print(f"in all       {total:6.2f} s   {options.seconds / total:.1f} × real time")
    print(f"resampling   {median(shares[1:]):6.1%} of it")
    print(f"files alone  {median(files[1:]):6.2f} s, {median(files[1:]) / total:.1%}, on threads of their own")


class _Clock:
    """Adds up the seconds spent in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            self.seconds += time.perf_counter() - start
            return result

        return timed


if __name__ == "__main__":
    main()
