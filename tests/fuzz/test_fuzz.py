"""A few mutants of every kind of input; run.py opens as many as one likes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz.inputs import KINDS, Kind
from fuzz.mutate import mutant
from fuzz.run import fuzz
from waveunet_cli.errors import ConfigError


@pytest.mark.thorough
def test_mutants_are_fine_or_refused() -> None:
    """Two hundred, in processes of their own, since what this one holds would count as their memory."""
    names = list(KINDS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, str(Path(__file__).with_name("run.py")), "--mutants", "7", "--seed", "0"]
    started = [
        subprocess.Popen(
            [*program, *half], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        for half in (names[::2], names[1::2])
    ]
    printed = "".join(process.communicate()[0] for process in started)
    assert [process.returncode for process in started] == [0, 0], printed
    assert all(f"| {name} | 7 |" in printed for name in names)


def test_the_same_seed_makes_the_same_mutants() -> None:
    data = bytes(range(256)) * 8
    first, again, other = (mutant(random.Random(seed), data) for seed in ("1", "1", "2"))
    assert first == again != other
    assert {mutant(random.Random(seed), data, 1000)[:1000] for seed in range(100)} == {data[:1000]}


def no_line() -> None:
    raise ConfigError("two\nlines")


def ends() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends() -> None:
    while True:
        pass


def eats() -> None:
    assert len(bytearray(600 << 20))


@pytest.mark.parametrize(
    ("opening", "fault"),
    [
        (no_line, "no line"),
        (ends, "ended by signal 9"),
        (eats, "MB"),
        (lambda: [][0], "IndexError"),
        (never_ends, "TimeoutError"),
        (lambda: time.sleep(60), "hung"),
    ],
)
def test_every_fault_is_seen(opening, fault, tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.run.TIME_SECONDS", 0.2 if fault == "TimeoutError" else 20.0)
    monkeypatch.setattr("fuzz.run.WAIT_SECONDS", 1.0 if fault == "hung" else 200.0)
    kind = Kind("k", lambda folder: (folder / "a").write_bytes(b"x"), lambda rng, folder: (folder / "b").touch(),
                lambda folder: opening() if (folder / "b").exists() else None)  # fmt: skip
    outcome = fuzz(kind, range(2), 0, tmp_path)
    assert outcome.counts["fault"] == 2, outcome
    assert all(fault in told for told in outcome.faults)
