"""Draw a mixture and its stems, one spectrogram below the other, as in the README.

    waveunet separate examples/francium.ogg
    python examples/picture.py examples/francium.ogg separated/vocals/francium examples/francium.png

Needs matplotlib (`pip install 'waveunet[eval]'`).
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import soundfile as sf

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FRAMES, HOP = 2048, 1024
FLOOR_DB = -75


def main(mixture: Path, folder: Path, picture: Path) -> None:
    tracks = {"mixture": mixture, **{path.stem: path for path in sorted(folder.glob("[!.]*"))[::-1]}}
    figure, panels = plt.subplots(len(tracks), sharex=True, sharey=True, figsize=(9, 5.4), layout="constrained")
    for panel, (name, path) in zip(panels, tracks.items(), strict=True):
        audio, rate_hz = sf.read(path, dtype="float32", always_2d=True)
        windows = np.lib.stride_tricks.sliding_window_view(audio.mean(1), FRAMES)[::HOP] * np.hanning(FRAMES)
        magnitude = np.abs(np.fft.rfft(windows)).T / (FRAMES / 4)  # (frequency, time), 1 for a full-scale sine
        level_db = 20 * np.log10(np.maximum(magnitude, 1e-6))
        extent = (0, len(audio) / rate_hz, 0, rate_hz / 2000)
        image = panel.imshow(
            level_db, origin="lower", aspect="auto", extent=extent, vmin=FLOOR_DB, vmax=-20, cmap="magma"
        )
        panel.set(ylabel="kHz", ylim=(0, 8))
        panel.set_title(name, loc="left", fontsize=10)
    panels[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=panels, label="dB of full scale")
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
