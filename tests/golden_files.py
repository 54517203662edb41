"""The reference implementations' checkpoints, mixtures and outputs: two families small enough for the repository."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

ROOTS = (Path(__file__).parent / "golden", Path(__file__).parents[2] / "shared" / "golden")


def golden(place: str) -> Path:
    """One reference such as `tf/M5`, or a file of it; skips the test where this checkout lacks it."""
    for root in ROOTS:
        if (root / place).exists():
            return root / place
    return pytest.skip(f"the reference {place} is not in this checkout")


def facts(folder: Path) -> dict[str, Any]:
    """How the reference was configured."""
    described: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return described


def arrays(folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The mixture that the reference was given and what it made of it, each (t, C)."""
    with np.load(folder / "io.npz") as stored:  # left open, it warns in whichever test runs when it is collected
        return dict(stored)
