"""The network against the paper's layers written down one after the other, with nothing folded."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from small_models import TINY, VALID, network_of
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.wave_u_net.config import M4, M5
from waveunet_cli.networks.wave_u_net.network import crop

SAME = [
    replace(TINY, padding="same"),
    replace(TINY, padding="same", output="difference", upsampling="learned", channels=2, up_taps=5, levels=3),
]


def as_in_the_paper(network, mixture):
    """(B, C, t) → (B, S, C, t'): convolve, keep every other frame; interpolate, concatenate, convolve; tanh."""
    config, weights = network.config, network.state_dict()
    same = config.padding == "same"

    def conv(name, x):
        weight = weights[f"{name}.weight"]
        return F.conv1d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2 if same else 0)

    def leaky(x):
        return torch.where(x > 0, x, 0.2 * x)

    x, skips = mixture, []
    for level in range(config.levels):
        x = leaky(conv(f"down.{level}", x))
        skips.append(x)
        x = x[..., ::2]
    x = leaky(conv("bottleneck", x))
    for level in range(config.levels):
        after = torch.cat([x[..., 1:], x[..., -1:]], -1)
        a = torch.sigmoid(weights[f"upsample.{level}"])[:, None] if config.upsampling == "learned" else 0.5
        x = torch.stack([x, a * x + (1 - a) * after], -1).flatten(-2)
        x = x if same else x[..., :-1]
        x = leaky(conv(f"up.{level}", torch.cat([crop(skips.pop(), x.shape[-1]), x], 1)))
    mixture = crop(mixture, x.shape[-1])
    x = conv("output", torch.cat([mixture, x], 1))
    x = torch.tanh(x) if config.activation == "tanh" else x
    x = x.reshape(x.shape[0], -1, config.channels, x.shape[-1])
    if config.output == "difference":
        x = torch.cat([x, mixture[:, None] - x.sum(1, keepdim=True)], 1)
    return x


@pytest.mark.parametrize("config", [*VALID, *SAME, replace(VALID[0], activation="linear")], ids=str)
def test_folded_layers_are_the_papers(config):
    network = network_of(config)
    x = torch.randn(3, config.channels, config.window(40).input, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y, expected = network(x), as_in_the_paper(network, x)
    assert y.shape == expected.shape
    assert expected.std() > 0.1
    torch.testing.assert_close(y, expected, atol=2e-6, rtol=0)


def test_gradients_flow_to_every_weight():
    config = VALID[1]
    network = network_of(config).train()
    network(torch.randn(1, config.channels, config.window().input)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_the_difference_is_what_remains():
    config = replace(VALID[3], output="difference")
    x = torch.randn(2, 2, config.window().input)
    with torch.no_grad():
        y = network_of(config)(x)
    torch.testing.assert_close(y.sum(1), crop(x, y.shape[-1]), atol=1e-6, rtol=0)


def test_as_many_weights_as_the_reference():
    with torch.device("meta"):
        sizes = [parameter.numel() for parameter in build_network(M4).parameters()]
        learned = sum(parameter.numel() for parameter in build_network(M5).parameters())
    assert (len(sizes), sum(sizes)) == (52, 10_263_390)
    assert learned - sum(sizes) == sum(24 * level for level in range(2, 14))


def test_bfloat16_is_close_and_comes_out_as_float32():
    network = network_of(VALID[1])
    x = torch.randn(1, 2, VALID[1].window(200).input)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x)
    assert rounded.dtype == torch.float32
    error = (rounded - exact).std() / exact.std()
    assert 0 < error < 0.02
