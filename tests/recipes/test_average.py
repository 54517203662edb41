"""The mean of checkpoints' weights."""

from dataclasses import replace

import pytest
import torch

from small_models import VALID, network_of
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint


def saved(path, config, factor):
    weights = {name: factor * w for name, w in network_of(config).state_dict().items()}
    save_checkpoint(path, config, weights)
    return path


def test_the_mean_of_weights(tmp_path, recipe):
    one, three = (saved(tmp_path / f"{n}.safetensors", VALID[0], n) for n in (1, 3))
    recipe("average", tmp_path / "mean.safetensors", one, three)
    mean = load_checkpoint(tmp_path / "mean.safetensors")
    assert mean.config == VALID[0]
    for name, weight in load_checkpoint(one).network.state_dict().items():
        torch.testing.assert_close(mean.network.state_dict()[name], 2 * weight, rtol=1e-3, atol=1e-6)


def test_another_architecture_is_refused(tmp_path, recipe, capsys):
    one = saved(tmp_path / "one.safetensors", VALID[0], 1)
    other = saved(tmp_path / "other.safetensors", replace(VALID[0], filters=VALID[0].filters + 1), 1)
    with pytest.raises(SystemExit, match="2"):
        recipe("average", tmp_path / "mean.safetensors", one, other)
    assert "other.safetensors: not of the architecture" in capsys.readouterr().err
    assert not (tmp_path / "mean.safetensors").exists()


def test_masks_are_added_to_networks_that_can_have_them(tmp_path, recipe, capsys):
    difference = saved(tmp_path / "difference.safetensors", VALID[1], 1)
    recipe("average", tmp_path / "masked.safetensors", difference, "--masked")
    assert load_checkpoint(tmp_path / "masked.safetensors").config == replace(VALID[1], output="masked")
    recipe("average", tmp_path / "steeper.safetensors", tmp_path / "masked.safetensors", "--masked", "1.5")
    steeper = load_checkpoint(tmp_path / "steeper.safetensors")
    assert steeper.config == replace(VALID[1], output="masked", mask_exponent=1.5)
    recipe("average", tmp_path / "spread.safetensors", difference, "--masked", "1.5", "--spread", "3")
    assert load_checkpoint(tmp_path / "spread.safetensors").config == replace(steeper.config, mask_spread=3)
    recipe("average", tmp_path / "gated.safetensors", tmp_path / "spread.safetensors", "--gate", "0.3")
    recipe("average", tmp_path / "again.safetensors", tmp_path / "gated.safetensors", "--masked", "1.5")
    assert load_checkpoint(tmp_path / "gated.safetensors").config == replace(steeper.config, mask_spread=3, gate=0.3)
    assert load_checkpoint(tmp_path / "again.safetensors").config == replace(steeper.config, gate=0.3)
    with pytest.raises(SystemExit, match="2"):
        recipe("average", tmp_path / "none.safetensors", difference, "--gate", "1")
    assert "gate must be a number from 0, below 1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        recipe("average", tmp_path / "none.safetensors", difference, "--spread", "3")
    assert "give --masked, too" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        recipe("average", tmp_path / "none.safetensors", difference, "--masked", "0")
    assert "mask_exponent must be a number above 0" in capsys.readouterr().err
    direct = saved(tmp_path / "direct.safetensors", VALID[0], 1)
    with pytest.raises(SystemExit, match="2"):
        recipe("average", tmp_path / "none.safetensors", direct, "--masked")
    assert "direct.safetensors: no valid network of the difference kind" in capsys.readouterr().err
