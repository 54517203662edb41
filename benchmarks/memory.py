"""How much memory `waveunet separate` takes: a song of three minutes against one of two hours.

    python benchmarks/memory.py [--hours 2] [--minutes 3] [--channels 2] [--segment SECONDS] [--name vocals]

Separates noise in a temporary folder through the real command, in processes of their own, and prints the peak of
each one's resident memory, torch included. Needs about 4 GB of disk for two hours.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf

RATE_HZ = 44_100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0, help="of the long song; 0 leaves it out")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the short song")
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--segment", help="passed on")
    parser.add_argument("--name", default="vocals", help="passed on")
    options = parser.parse_args()
    more = ["--name", options.name, *(["--segment", options.segment] if options.segment else [])]
    peaks = []
    for minutes in (options.minutes, 60 * options.hours):
        if minutes:
            peak_bytes, took_seconds = _separate(minutes, options.channels, more)
            peaks.append(peak_bytes)
            speed = minutes * 60 / took_seconds
            print(f"{minutes:5.1f} min: {peak_bytes / 1e6:5.0f} MB at most, {speed:.1f} × real time", flush=True)
    if len(peaks) == 2:
        print(f"long against short: {peaks[1] / peaks[0] - 1:+.1%}")


def _separate(minutes: float, channels: int, options: list[str]) -> tuple[int, float]:
    """The peak resident memory in bytes, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder, "noise.wav")
        rng = np.random.default_rng(0)
        with sf.SoundFile(song, "w", RATE_HZ, channels, "PCM_16") as file:
            for _ in range(round(minutes * 60)):
                file.write(rng.uniform(-0.3, 0.3, (RATE_HZ, channels)).astype(np.float32))
        command = [sys.executable, "-m", "waveunet_cli", "separate", str(song), "--out", f"{folder}/out", *options]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        kibibytes = usage.ru_maxrss // 1024 if sys.platform == "darwin" else usage.ru_maxrss
        return kibibytes * 1024, time.perf_counter() - start


if __name__ == "__main__":
    main()
