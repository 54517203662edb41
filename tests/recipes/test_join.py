"""Several networks as the towers of one."""

from dataclasses import replace

import pytest
import torch

from small_models import FOUR, VALID, network_of
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.mss import MSSConfig

TWO = replace(VALID[1], activation="linear")  # linear: the mean may be taken before or after it
STEMS = replace(TWO, sources=FOUR, residual="other")


def saved(path, config, seed, loudness=1.0):
    weights = {name: w.half().float() for name, w in network_of(config, seed).state_dict().items()}
    for name in ("output.weight", "output.bias"):
        weights[name] *= loudness
    save_checkpoint(path, config, weights)
    return path


def estimates(path, loudness=1.0):
    """source: (B, C, t)"""
    network = load_checkpoint(path).network
    x = loudness * torch.randn(2, 2, TWO.window(50).input, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return dict(zip(network.config.sources, network(x).unbind(1), strict=True))


def assert_close(found, expected):
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=4e-3, rtol=0)  # the last layer is rounded to float16 again


def test_its_estimates_are_the_mean(tmp_path, recipe):
    a, b, c = (saved(tmp_path / f"{seed}.safetensors", TWO, seed) for seed in (1, 2, 3))
    recipe("join", tmp_path / "ab.safetensors", f"{a}:0.25", f"{b}:0.75")
    assert load_checkpoint(tmp_path / "ab.safetensors").config == replace(TWO, towers=2)
    recipe("join", tmp_path / "abc.safetensors", f"{c}:0.2", f"{tmp_path / 'ab.safetensors'}:0.8")
    assert load_checkpoint(tmp_path / "abc.safetensors").config == replace(TWO, towers=3)
    ya, yb, yc, found = (estimates(path) for path in (a, b, c, tmp_path / "abc.safetensors"))
    for source in TWO.sources:
        assert_close(found[source], 0.2 * ya[source] + 0.6 * yb[source] + 0.2 * yc[source])


@pytest.mark.parametrize("order", [FOUR, FOUR[::-1]], ids=["the rest is the vocals", "the rest is the bass"])
def test_four_stems_become_vocals_and_accompaniment(tmp_path, recipe, order):
    two = saved(tmp_path / "two.safetensors", TWO, 1)
    four = saved(tmp_path / "four.safetensors", replace(STEMS, sources=order), 2)
    recipe("join", tmp_path / "turned.safetensors", f"{two}:0", f"{four}:1")
    assert load_checkpoint(tmp_path / "turned.safetensors").config == TWO
    expected, found = estimates(four), estimates(tmp_path / "turned.safetensors")
    assert_close(found["vocals"], expected["vocals"])
    assert_close(found["accompaniment"], expected["bass"] + expected["drums"] + expected["other"])


def test_masks_are_those_of_the_first(tmp_path, recipe):
    masked = replace(TWO, output="masked")
    first = replace(masked, mask_exponent=1.5, mask_spread=3)
    steep = saved(tmp_path / "steep.safetensors", first, 1)
    other = saved(tmp_path / "other.safetensors", masked, 2)
    recipe("join", tmp_path / "both.safetensors", f"{steep}:0.5", f"{other}:0.5")
    assert load_checkpoint(tmp_path / "both.safetensors").config == replace(first, towers=2)


@pytest.mark.parametrize("changes", [{"activation": "tanh"}, {"output": "direct"}], ids=str)
def test_a_network_joined_with_itself_is_itself(tmp_path, recipe, changes):
    path = saved(tmp_path / "one.safetensors", replace(TWO, **changes), 1)
    recipe("join", tmp_path / "twice.safetensors", f"{path}:0.5", f"{path}:0.5")
    expected, found = estimates(path), estimates(tmp_path / "twice.safetensors")
    for source in TWO.sources:
        assert_close(found[source], expected[source])


def test_tanh_is_nearly_linear_where_it_is_soft(tmp_path, recipe):
    config = replace(TWO, activation="tanh")
    a = saved(tmp_path / "a.safetensors", config, 1, loudness=0.1)
    turned = saved(tmp_path / "turned.safetensors", replace(config, sources=TWO.sources[::-1]), 2, loudness=0.1)
    recipe("join", tmp_path / "ab.safetensors", f"{a}:0.5", f"{turned}:0.5")
    ya, yb, found = (estimates(path, loudness=0.1) for path in (a, turned, tmp_path / "ab.safetensors"))
    for source in TWO.sources:
        mean = (ya[source] + yb[source]) / 2
        assert (found[source] - mean).square().mean() < 1e-4 * mean.square().mean(), source


@pytest.mark.parametrize(
    ("other", "share", "words"),
    [
        (replace(TWO, filters=3), 0.5, "more than their sources: filters 3 instead of 2"),
        (replace(TWO, output="direct"), 0.5, "output 'direct' instead of 'difference'"),
        (MSSConfig(), 0.5, "no Wave-U-Net of this project's own family"),
        (TWO, "nan", "the shares add up to nan"),
        (replace(TWO, sources=("speech", "noise"), residual="noise"), 0.5, "speech, noise cannot be grouped as"),
        (replace(TWO, sources=("accompaniment", "vocals", "crowd")), 0.5, "cannot be grouped"),
        (TWO, 0.4, "the shares add up to 0.9 instead of 1"),
        (TWO, "half", "no share; write CHECKPOINT.safetensors:0.5"),
    ],
    ids=str,
)
def test_what_cannot_be_joined_is_refused(tmp_path, recipe, capsys, other, share, words):
    a, b = saved(tmp_path / "a.safetensors", TWO, 1), tmp_path / "b.safetensors"
    save_checkpoint(b, other, build_network(other).state_dict())
    with pytest.raises(SystemExit, match="2"):
        recipe("join", tmp_path / "ab.safetensors", f"{a}:0.5", f"{b}:{share}")
    assert words in capsys.readouterr().err
    assert not (tmp_path / "ab.safetensors").exists()


def test_a_file_that_is_not_there_is_one_line(tmp_path, recipe, capsys):
    with pytest.raises(SystemExit, match="2"):
        recipe("join", tmp_path / "out.safetensors", f"{tmp_path / 'none.safetensors'}:1")
    assert "none.safetensors: no such checkpoint" in capsys.readouterr().err
