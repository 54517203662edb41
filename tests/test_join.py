"""Several networks as the towers of one."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from small_models import FOUR, VALID, network_of
from waveunet_cli.checkpoint import load_checkpoint, save_checkpoint

SCRIPT = Path(__file__).parents[1] / "recipes" / "join.py"
TWO = replace(VALID[1], activation="linear")  # linear: the mean may be taken before or after it
STEMS = replace(TWO, sources=FOUR, residual="other")


def join(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["join.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def saved(path, config, seed):
    weights = {name: w.half().float() for name, w in network_of(config, seed).state_dict().items()}
    save_checkpoint(path, config, weights)
    return path


def estimates(path):
    """source: (B, C, t), the mixture under None."""
    network = load_checkpoint(path).network
    x = torch.randn(2, 2, TWO.window(50).input, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        y = network(x).unbind(1)
    return {None: sum(y)} | dict(zip(network.config.sources, y, strict=True))


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=4e-3, rtol=0)  # the last layer is rounded to float16 again


def test_its_estimates_are_the_mean(tmp_path, monkeypatch):
    a, b, c = (saved(tmp_path / f"{seed}.safetensors", TWO, seed) for seed in (1, 2, 3))
    join(monkeypatch, tmp_path / "ab.safetensors", f"{a}:0.25", f"{b}:0.75")
    assert load_checkpoint(tmp_path / "ab.safetensors").config == replace(TWO, towers=2)
    join(monkeypatch, tmp_path / "abc.safetensors", f"{c}:0.2", f"{tmp_path / 'ab.safetensors'}:0.8")
    assert load_checkpoint(tmp_path / "abc.safetensors").config == replace(TWO, towers=3)
    ya, yb, yc, found = (estimates(path) for path in (a, b, c, tmp_path / "abc.safetensors"))
    for source in TWO.sources:
        assert ya[source].std() > 0.1
        assert_close(found[source], 0.2 * ya[source] + 0.6 * yb[source] + 0.2 * yc[source])


@pytest.mark.parametrize("order", [FOUR, FOUR[::-1]], ids=["the rest is the vocals", "the rest is the bass"])
def test_four_stems_become_vocals_and_accompaniment(tmp_path, monkeypatch, order):
    two = saved(tmp_path / "two.safetensors", TWO, 1)
    four = saved(tmp_path / "four.safetensors", replace(STEMS, sources=order), 2)
    join(monkeypatch, tmp_path / "turned.safetensors", f"{two}:0", f"{four}:1")
    assert load_checkpoint(tmp_path / "turned.safetensors").config == TWO
    expected, found = estimates(four), estimates(tmp_path / "turned.safetensors")
    assert_close(found["vocals"], expected["vocals"])
    assert_close(found["accompaniment"], expected["bass"] + expected["drums"] + expected["other"])


@pytest.mark.parametrize(
    ("other", "share", "words"),
    [
        (replace(TWO, filters=3), 0.5, "differs from"),
        (replace(TWO, sources=("speech", "noise"), residual="noise"), 0.5, "speech, noise cannot be grouped as"),
        (replace(TWO, sources=("accompaniment", "vocals", "crowd")), 0.5, "cannot be grouped"),
        (TWO, 0.4, "the shares add up to 0.9 instead of 1"),
        (TWO, "half", "no share; write CHECKPOINT.safetensors:0.5"),
    ],
    ids=str,
)
def test_what_cannot_be_joined_is_refused(tmp_path, monkeypatch, capsys, other, share, words):
    a, b = saved(tmp_path / "a.safetensors", TWO, 1), saved(tmp_path / "b.safetensors", other, 2)
    with pytest.raises(SystemExit, match="2"):
        join(monkeypatch, tmp_path / "ab.safetensors", f"{a}:0.5", f"{b}:{share}")
    assert words in capsys.readouterr().err
    assert not (tmp_path / "ab.safetensors").exists()
