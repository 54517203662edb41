"""Voices as a sampler plays them, for training."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RECIPES = Path(__file__).parents[1] / "recipes"
RATE_HZ = 44_100


@pytest.fixture
def sampler(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    return runpy.run_path(str(RECIPES / "sampler.py"))


def tone(hz, frames=RATE_HZ):
    return np.sin(2 * np.pi * hz * np.arange(frames) / RATE_HZ).astype(np.float32)


@pytest.mark.parametrize(
    ("key", "played_hz"), [(57, 220), (69, 220), (60, 261.63), (65, 349.23), (67, 196), (40, 164.81)]
)
def test_a_sample_sounds_at_its_key_in_an_octave_near_the_singer(sampler, key, played_hz):
    x = sampler["Sample"](tone(220, 3 * RATE_HZ), 220.0).at(key)
    spectrum = np.abs(np.fft.rfft(x[:RATE_HZ] * np.hanning(RATE_HZ)))  # a bin a Hz
    assert np.argmax(spectrum) == pytest.approx(played_hz, abs=1)


def test_what_is_frozen_goes_on_as_loud_as_it_began(sampler):
    x = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    y = sampler["frozen"](x, 60_000)
    blocks = (y[9000:54_000].reshape(-1, 3000) ** 2).mean(1)
    assert len(y) == 60_000
    assert blocks == pytest.approx(0.01, rel=0.15)


def test_a_file_depends_on_seed_and_number_only(sampler, tmp_path, monkeypatch):
    voices = tmp_path / "voices"
    voices.mkdir()
    soundfile.write(voices / "anna.wav", tone(220, 4 * RATE_HZ), RATE_HZ)
    (voices / "anna.json").write_text(json.dumps([[0, 2 * RATE_HZ, 220.0], [2 * RATE_HZ, 2 * RATE_HZ, 220.0]]))
    soundfile.write(voices / "no cues.wav", tone(220), RATE_HZ)

    def files(name, count):
        options = ["--count", str(count), "--seconds", "9"]
        monkeypatch.setattr(sys, "argv", ["", str(voices), str(tmp_path / name), *options])
        sampler["main"]()
        return [soundfile.read(path)[0] for path in sorted((tmp_path / name).iterdir())]

    two, again = files("a", 2), files("b", 1)
    assert np.array_equal(two[0], again[0])
    assert not np.array_equal(*two)
    for audio in two:
        assert audio.shape == (9 * RATE_HZ, 2)
        assert np.abs(audio).max() == pytest.approx(0.9, abs=1e-3)
