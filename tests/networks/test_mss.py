"""MSS_WaveUNet's network, on kernels whose result is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.mss import MSSConfig

SMALL = MSSConfig(levels=1, filters=1, down_taps=3, up_taps=3, window_frames=16)


def network_of(up, output):
    """One level that hands its input through to what the kernels `up` and `output` choose."""
    network = build_network(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.down[0].weight[0, 0, 1] = 1  # (1, 1, 3): the frame itself
        network.down[1].weight[0, 0, 1] = 1  # (2, 1, 3): into the first of two channels
        network.up[0].weight[0, :, 1] = torch.tensor(up)  # from upsampled, upsampled, skip
        network.output.weight[:, :, 0] = torch.tensor(output)  # from mixture, features
    return network


def test_the_way_down_keeps_odd_frames_and_the_way_up_joins_the_ends():
    mixture = torch.rand(1, 1, 16)
    network = network_of([1.0, 0, 0], [[0.0, 1]] * 4)
    odd = mixture[0, 0, 1::2].numpy()
    expected = np.interp(np.arange(16) * 7 / 15, np.arange(8), odd)
    out = network(mixture)
    assert out.shape == (1, 4, 1, 16)
    np.testing.assert_allclose(out[0, 2, 0].detach(), np.tanh(expected), atol=1e-6)


def test_the_skip_comes_last_and_the_mixture_first():
    mixture = torch.rand(1, 1, 16)
    skip = network_of([0.0, 0, 1], [[0.0, 1]] * 4)
    torch.testing.assert_close(skip(mixture)[:, 0], torch.tanh(mixture))
    direct = network_of([0.0, 0, 0], [[0.0, 0], [0.0, 0], [0.5, 0], [0.0, 0]])
    torch.testing.assert_close(direct(mixture)[:, 2], torch.tanh(mixture / 2))


def test_what_is_negative_is_damped_a_hundredfold():
    mixture = -torch.rand(1, 1, 16)
    skip = network_of([0.0, 0, 1], [[0.0, 1]] * 4)
    torch.testing.assert_close(skip(mixture)[:, 0], torch.tanh(mixture * 0.01**2))


def test_it_has_one_window():
    assert MSSConfig().window() == MSSConfig().window(10**6)
    assert (MSSConfig().window().input, MSSConfig().window().alignment) == (16_384, 0)


@pytest.mark.parametrize(
    "change", [{"sources": ()}, {"residual": "x"}, {"down_taps": 2}, {"up_taps": 0}, {"levels": 0}, {"sample_rate": 0}]
)
def test_impossible_configurations_are_refused(change):
    with pytest.raises(ConfigError):
        replace(SMALL, **change)
