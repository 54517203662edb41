"""Little data sets, and a recipe that trains on them in a moment."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE_HZ = 8000
STEMS = ("vocals", "drums", "other")


def write_stem(path: Path, frames: int = 4000, rate_hz: int = RATE_HZ, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Noise in a file; returns what a reader of the file gets, (frames, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(seed).normal(0, 0.1, (frames, channels)).clip(-1, 1)
    soundfile.write(path, x, rate_hz, subtype="PCM_16")
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def write_songs(
    root: Path, names: Iterable[str] = ("a", "b", "c"), frames: int = 4000, rate_hz: int = RATE_HZ, seed: int = 0
) -> Path:
    """A folder of songs, each with three stems."""
    for i, name in enumerate(names):
        for j, stem in enumerate(STEMS):
            write_stem(root / name / f"{stem}.wav", frames, rate_hz, seed=seed + 10 * i + j)
    return root


def recipe_values(songs: Path, **changes: Any) -> dict[str, Any]:
    """A recipe's tables: a network of three levels, a few steps."""
    values: dict[str, Any] = {
        "model": "M5-HighSR",
        "architecture": {"levels": 3, "filters": 4, "down_taps": 5, "up_taps": 3, "sample_rate": RATE_HZ},
        "data": [{"path": str(songs)}],
        "schedule": {"kind": "budget", "steps": 6, "batch": 2, "epoch_steps": 3, "learning_rate": 1e-3, "average": 0.9},
        "loss": "l1+rmse",
        "hop_frames": 200,
        "workers": 1,
    }
    return values | changes
