"""A few mutants of every kind of input; run.py opens as many as one likes."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from fuzz.inputs import KINDS, Kind
from fuzz.mutate import mutant
from fuzz.run import fuzz
from waveunet_cli.errors import ConfigError

SLOW = {"h5", "h5, graph"}  # a process for every mutant


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.name not in SLOW], ids=lambda kind: kind.name)
def test_mutants_are_fine_or_refused(kind: Kind, tmp_path: Path) -> None:
    outcome = fuzz(kind, 8, 0, tmp_path)
    assert outcome.counts.total() == 8
    assert not outcome.counts["fault"], outcome


def test_the_same_seed_makes_the_same_mutants() -> None:
    data = bytes(range(256)) * 8
    first, again, other = (mutant(random.Random(seed), data) for seed in ("1", "1", "2"))
    assert first == again != other
    assert {mutant(random.Random(seed), data, 1000)[:1000] for seed in range(100)} == {data[:1000]}


def no_line() -> None:
    raise ConfigError("two\nlines")


def ends() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def eats() -> None:
    assert len(bytearray(600 << 20))


@pytest.mark.parametrize(
    ("opening", "fault"),
    [
        (no_line, "no line"),
        (ends, "ended by signal 9"),
        (eats, "MB"),
        (lambda: [][0], "IndexError"),
        (lambda: time.sleep(2), "TimeoutError"),
    ],
)
def test_every_fault_is_seen(opening, fault, tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.run.TIME_SECONDS", 0.5 if fault == "TimeoutError" else 20.0)
    kind = Kind("k", lambda folder: (folder / "a").write_bytes(b"x"), lambda rng, folder: (folder / "b").touch(),
                lambda folder: opening() if (folder / "b").exists() else None)  # fmt: skip
    outcome = fuzz(kind, 2, 0, tmp_path)
    assert outcome.counts["fault"] == 2
    assert all(fault in told for told in outcome.faults)
