"""Dry runs: what they say, that they change nothing, and how they estimate the time."""

import os

import numpy as np
import pytest

from batch_songs import contents, lines, of, song
from small_models import TINY, model_of
from waveunet_cli.library.plan import steady_speed


def test_a_dry_run(run, here):
    song(here / "m/a.wav")
    run("m")
    song(here / "m/b.wav", frames=16_000)
    (here / "m/c.wav").write_text("no song")
    before = contents(here)
    ran = run("m", "--dry-run", "--subtype", "PCM_16", "--report", "plan.json")
    (here / "plan.json").unlink()
    assert contents(here) == before
    assert ran.code == 1
    assert ran.out.splitlines()[:2] == ["m/a.wav: settings changed, 1.0 s", "m/b.wav: new, 2.0 s"]
    assert ran.out.splitlines()[2].startswith("2 of 3 songs to separate: 3 s, about 0.2 MB of stems (")
    told = lines(run("m", "--dry-run", "--progress", "json"))
    assert [event["why"] for event in of("planned", told)] == [None, "new"]
    (plan,) = of("plan", told)
    assert (plan["to_do"], plan["seconds"], plan["needed_bytes"]) == (1, 2.0, 16_000 * 2 * 2 * 2)
    assert plan["estimated_seconds"] > 0
    run("m/a.wav")
    assert run("m/a.wav", "--dry-run").out.splitlines()[-1] == "0 of 1 songs to separate"


class Clocked:
    """A separator and its stream, which computes `hop_seconds` at once, at `speed`; only then the clock goes on.

    Before the first stems come, `ahead_seconds` of music are taken in and a minute is lost.
    """

    stems = ("vocals",)
    model = model_of(TINY)

    def __init__(self, speed, hop_seconds, ahead_seconds):
        self.speed, self.hop_seconds, self.waiting_seconds = speed, hop_seconds, -ahead_seconds
        self.now = 0.0

    def song(self, rate_hz, channels):
        self.rate_hz = rate_hz
        return self

    def push(self, block):
        self.waiting_seconds += len(block) / self.rate_hz
        hops = max(0, int(self.waiting_seconds // self.hop_seconds))
        if hops and not self.now:
            self.now += 60.0
        self.waiting_seconds -= hops * self.hop_seconds
        self.now += hops * self.hop_seconds / self.speed
        return {"vocals": np.zeros((round(hops * self.hop_seconds * self.rate_hz), 2))}


@pytest.mark.parametrize("hop_seconds", [0.125, 1.0, 2.5, 8.0, 30.0])
@pytest.mark.parametrize("ahead_seconds", [0.0, 3.0, 21.5])
def test_the_speed_is_that_of_the_middle_of_a_song(hop_seconds, ahead_seconds):
    clocked = Clocked(4.0, hop_seconds, ahead_seconds)
    assert steady_speed(clocked, lambda: clocked.now) == pytest.approx(4.0)


def test_the_time_of_a_dry_run_follows_from_its_speed(run, here, monkeypatch):
    monkeypatch.setattr("waveunet_cli.library.plan.steady_speed", lambda separator: 0.5)
    song(here / "a.wav", frames=16_000)
    (plan,) = of("plan", lines(run("a.wav", "--dry-run", "--progress", "json")))
    assert (plan["seconds"], plan["speed"], plan["estimated_seconds"]) == (2.0, 0.5, 4.0)
    assert "about 4 s at 0.5× real time" in run("a.wav", "--dry-run").out


def test_a_dry_run_does_not_write_what_it_learnt(run, here):
    """A real run writes that stems which were only touched are still the same."""
    song(here / "a.wav")
    run("a.wav")
    before = contents(here)
    for touched in (here / "a.wav", here / "separated/tiny/a/vocals.wav"):
        os.utime(touched, (1, 1))
    manifest = next(here.rglob("*.json"))
    text = manifest.read_text()
    assert run("a.wav", "--dry-run").out.startswith("a.wav: stems are there")
    assert (manifest.read_text(), contents(here)) == (text, before)
    run("a.wav")
    assert manifest.read_text() != text
