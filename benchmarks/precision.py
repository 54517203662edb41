"""What bfloat16 costs in quality: SDR of the vocals in float32 and in bfloat16, on songs given as folders of stems.

    python benchmarks/precision.py FOLDER... [--name vocals] [--stem vocals]

A folder holds aligned stems; the mixture is their sum. It takes long on a processor without bfloat16 of its own.
"""

import argparse
from math import log10
from pathlib import Path

import numpy as np
import soundfile as sf

from waveunet_cli import Separator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--name", default="vocals")
    parser.add_argument("--stem", default="vocals")
    options = parser.parse_args()
    separators = [Separator(options.name, "cpu", precision) for precision in ("float32", "bfloat16")]
    print(f"SDR in dB of {options.stem}")
    for folder in options.folders:
        files = {path.stem: sf.read(path, dtype="float32", always_2d=True) for path in sorted(folder.iterdir())}
        frames = min(len(audio) for audio, _ in files.values())
        rate_hz = files[options.stem][1]
        reference = files[options.stem][0][:frames].astype(np.float64)
        mixture = sum(audio[:frames] for audio, _ in files.values())
        found = []
        for separator in separators:
            error = separator.separate(mixture, rate_hz)[options.stem] - reference
            found.append(10 * log10((reference**2).sum() / (error**2).sum()))
        print(
            f"{folder.name:16s} float32 {found[0]:.4f}  bfloat16 {found[1]:.4f}  {found[1] - found[0]:+.4f}", flush=True
        )


if __name__ == "__main__":
    main()
