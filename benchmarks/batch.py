"""Many short songs against one long file of the same length, and a Ray worker against the plain batch.

    python benchmarks/batch.py                         8 songs of 20 s, 3 rounds: a few minutes on two cores
    python benchmarks/batch.py --songs 200             the full one
    python benchmarks/batch.py --ray                   also on a Ray cluster of one worker with all cores

In every round each way runs once, in turn, with one model that is loaded before; the ratios are medians over rounds.
The files lie in a temporary folder, the stems too.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from waveunet_cli import Separator, separate_songs
from waveunet_cli.events import Event, FileDone
from waveunet_cli.library.batch import RayCluster

RATE = 44_100


def make_songs(folder: Path, count: int, seconds: int) -> tuple[list[Path], Path]:
    """`count` songs of stereo noise, and one that is all of them in a row."""
    songs = []
    with soundfile.SoundFile(folder / "long.wav", "w", RATE, 2) as long:
        for index in range(count):
            samples = np.random.default_rng(index).standard_normal((seconds * RATE, 2)) * 0.1
            path = folder / f"{index:03}.wav"
            soundfile.write(path, samples, RATE)
            long.write(samples)
            songs.append(path)
    return songs, folder / "long.wav"


def run_here(separator: Separator, songs: list[Path], out: Path, jobs: int) -> None:
    assert separate_songs(songs, out, separator, jobs=jobs).done == len(songs)


def run_on_ray(separator: Separator, songs: list[Path], out: Path) -> float:
    """Seconds from the first song that is done to the last, of all but that: start-up is told apart."""
    ended = []

    def on_event(event: Event) -> None:
        if isinstance(event, FileDone):
            ended.append(time.perf_counter())

    cluster = RayCluster(worker_cores=torch.get_num_threads())
    assert separate_songs(songs, out, separator, cluster=cluster, on_event=on_event).done == len(songs)
    return (ended[-1] - ended[0]) * len(songs) / (len(songs) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    separator = Separator("vocals", device="cpu")
    total_seconds = arguments.songs * arguments.seconds
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        songs, long = make_songs(folder, arguments.songs, arguments.seconds)
        separator.separate(np.zeros((10 * RATE, 2), np.float32), RATE)  # warm
        for _ in range(arguments.rounds):
            ways = {"one long file": lambda out: run_here(separator, [long], out, 1)}
            for jobs in arguments.jobs:
                ways[f"songs, -j {jobs}"] = lambda out, jobs=jobs: run_here(separator, songs, out, jobs)
            if arguments.ray:
                ways["songs, Ray"] = lambda out: run_on_ray(separator, songs, out)
            for way, run in ways.items():
                begun = time.perf_counter()
                measured = run(folder / "out")
                times.setdefault(way, []).append(measured or time.perf_counter() - begun)
                shutil.rmtree(folder / "out")
    print(f"{arguments.songs} songs of {arguments.seconds} s, {torch.get_num_threads()} threads")
    print(f"{'':16} {'seconds':>8} {'× real time':>12} {'of one long file':>17}")
    for way, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(times["one long file"], seconds, strict=True))
        median = statistics.median(seconds)
        print(f"{way:16} {median:8.1f} {total_seconds / median:12.1f} {ratio:16.0%}")


if __name__ == "__main__":
    main()
