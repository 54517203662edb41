"""The benchmarks run, on models and songs so small that their figures mean nothing."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from small_models import MASKED, network_of
from spleeter_models import SMALL
from spleeter_models import network_of as network_of_spleeter
from waveunet_cli import Separator
from waveunet_cli.networks.checkpoint import save_checkpoint
from waveunet_cli.networks.family import Model
from waveunet_cli.streaming.resample import Resampler

FOLDER = Path(__file__).parents[1] / "benchmarks"
CONFIG = replace(MASKED[0], channels=2)


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys, benchmark):
    """Run one, and get what it prints."""
    monkeypatch.chdir(tmp_path)
    for name in ("push", "flush"):
        monkeypatch.setattr(Resampler, name, getattr(Resampler, name))  # song.py replaces these; they are put back
    save_checkpoint(tmp_path / "tiny.safetensors", CONFIG, network_of(CONFIG).state_dict())
    rng = np.random.default_rng(0)
    (tmp_path / "song").mkdir()
    for stem in ("vocals", "drums", "other"):
        soundfile.write(tmp_path / "song" / f"{stem}.wav", 0.1 * rng.standard_normal((9000, 2)), CONFIG.sample_rate)

    def run(name, *arguments):
        benchmark(name, *arguments, "--name", "tiny.safetensors")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_all_find_what_they_import(name, benchmark):
    benchmark(name)


def test_absent(printed):
    silent, also_silent, levels = printed("absent", "song").splitlines()
    assert (silent, also_silent) == ("silence: accompaniment silent", "silence: vocals silent")
    assert re.fullmatch(r"song: without vocals, vocals -?\d+\.\d dB; vocals alone, all others -?\d+\.\d dB", levels)


def test_precision(printed):
    _, line = printed("precision", "song").splitlines()
    full, reduced, change = map(float, re.fullmatch(r"song +float32 (\S+)  bfloat16 (\S+)  (\S+)", line).groups())
    assert 0 < abs(change) < 0.1
    assert change == pytest.approx(reduced - full, abs=2e-4)


def test_song(printed):
    first, *rows = printed("song", "--seconds", "1", "--rounds", "1").splitlines()
    assert first.startswith("tiny, 1 s at 48 kHz, cpu")
    assert [re.sub(r" +[\d.].*", "", row) for row in rows] == ["in all", "resampling", "files alone"]


def test_page(printed, tmp_path):
    first, *rows = printed(
        "page", "--minutes", "0.02", "--rounds", "1", "--song", tmp_path / "song" / "vocals.wav"
    ).splitlines()
    assert first == "tiny, 0.02 min, cpu, float32"
    assert re.fullmatch(r"separation +[\d.]+ s, +[\d.]+ s of the processor", rows[0])
    assert re.fullmatch(r"page +[\d.]+ s, +[\d.]+ s of the processor; [\d.]+%, [\d.]+%", rows[1])
    assert re.fullmatch(r" +\d+ kB without the sound", rows[2])


def test_reading(printed, monkeypatch):
    *rows, last = printed("reading", "--minutes", "0.1", "--rounds", "1", "--files", "300").splitlines()
    assert [row.split()[1] for row in rows] == [".flac", ".mp3", ".ogg", ".m4a"]
    figures = r"open \.\w+ +\d+\.\d ms, +\d+\.\d ms of the processor; reading +\d+\.\d\d% of a separation"
    assert all(re.fullmatch(figures, row) for row in rows)
    assert re.fullmatch(r"list 300 songs +\d\.\d\d s", last)


@pytest.mark.parametrize("seconds", [0.01, 1.0])
def test_peers_compare_the_same_function(seconds, benchmark):
    network = network_of_spleeter(SMALL)
    song = np.random.default_rng(0).normal(0, 0.1, (round(seconds * SMALL.sample_rate), 2)).astype(np.float32)
    stems = Separator(Model("s", SMALL, network), "cpu", "float32").separate(song, SMALL.sample_rate)
    with torch.no_grad():
        found = benchmark("peers")["PlainSpleeter"](network)(torch.from_numpy(song.T.copy()))
    for stem, plain in zip(stems.values(), found, strict=True):
        np.testing.assert_allclose(stem, plain.T, atol=1e-5)
