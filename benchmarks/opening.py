"""What opening a song and a model costs, beside another version of the program.

    python benchmarks/opening.py OTHER [--rounds 30] [--model FILE]

OTHER is the folder `src` of the other version, for example of a worktree. Both versions open the same files by turns,
each in a process of its own. Printed are the medians in time of the processor, and the median of each round's ratio.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import soundfile as sf

import waveunet_cli
from waveunet_cli.hub.registry import shipped_folder

HERE = Path(waveunet_cli.__file__).parents[1]
SERVE = "--serve"
TIMES = {"wav": 60, "flac": 60, "mp3": 20, "model": 2}  # in a row, so that a round is much longer than the clock's step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--model", type=Path, default=shipped_folder() / "4stems.safetensors")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: Path(folder, f"song.{kind}") for kind in ("wav", "flac", "mp3")}
        for path in paths.values():
            sf.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (441_000, 2)), 44_100)
        paths["model"] = options.model
        this, other = (_Version(source) for source in (HERE, options.other))
        for kind, path in paths.items():
            _compare(kind, path, this, other, options.rounds)


def _compare(kind: str, path: Path, this: "_Version", other: "_Version", rounds: int) -> None:
    found = []
    for number in range(rounds + 1):
        order = (this, other) if number % 2 else (other, this)
        seconds = {version: version.seconds(kind, path) for version in order}
        found.append((seconds[this], seconds[other]))
    found = found[1:]  # the first loads what there is to load
    mine, others = (median(times) * 1000 for times in zip(*found, strict=True))
    ratio = median(a / b for a, b in found)
    print(f"open {kind:<5} {mine:8.3f} ms, the other {others:8.3f} ms, ratio {ratio:.3f}", flush=True)


class _Version:
    """A process that opens files with the version in a folder."""

    def __init__(self, source: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def seconds(self, kind: str, path: Path) -> float:
        """Of the processor, to open a file once."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write(f"{kind}\t{path}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def _serve() -> None:
    from waveunet_cli import load_model  # the same in all versions
    from waveunet_cli.audio import AudioReader

    def song(path: Path) -> None:
        with AudioReader(path):
            pass

    for line in sys.stdin:
        kind, name = line.rstrip("\n").split("\t")
        opening: Callable[[Path], object] = load_model if kind == "model" else song
        started = time.process_time()
        for _ in range(TIMES[kind]):
            opening(Path(name))
        print((time.process_time() - started) / TIMES[kind], flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == [SERVE]:
        _serve()
    else:
        main()
