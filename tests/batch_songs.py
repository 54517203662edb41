"""Songs of noise, and what a batch left of them and said."""

import json
import re

import numpy as np
import soundfile

RATE = 8000


def song(path, frames=8000, seed=0, channels=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).standard_normal((frames, channels)) * 0.3
    soundfile.write(path, samples, RATE, "PCM_16")
    return path


def contents(out):
    """Every file below a folder: stems byte for byte, manifests without their times."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.suffix == ".json":
            text = re.sub(r'"modified_ns": \d+', "", path.read_text())
            found[path.relative_to(out).as_posix()] = text
        elif path.is_file():
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    return found


def lines(ran):
    return [json.loads(line) for line in ran.err.splitlines()]


def of(kind, told):
    return [event for event in told if event["event"] == kind]


class Failing:
    """Raises the error for its first calls, then lets them through."""

    def __init__(self, function, error, times):
        self.function, self.error, self.left = function, error, times

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return self.function(*arguments, **options)
