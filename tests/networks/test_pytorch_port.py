"""The PyTorch port's network: its window, its norms, its resampler."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.pytorch_port import PyTorchPortConfig, sinc_kernel

SMALL = PyTorchPortConfig(sources=("bass", "vocals"), widths=(8, 16), residual="bass", window_frames=100)


@given(
    widths=st.lists(st.just(8), min_size=2, max_size=4).map(tuple),
    taps=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(2, 5),
    resampling=st.sampled_from(["fixed", "learned"]),
    frames=st.integers(1, 400),
)
@settings(deadline=None, max_examples=25)
def test_the_window_is_what_the_network_needs_and_gives(widths, taps, stride, resampling, frames):
    config = replace(
        SMALL, widths=widths, taps=taps, stride=stride, resampling=resampling, window_frames=frames, channels=1
    )
    window = config.window()
    assert window.hop == window.output >= frames
    assert window.alignment == 0
    assert window.input - window.output == 2 * window.context
    if window.input < 20 * stride ** (len(widths) - 1):
        return  # too few frames at the bottleneck to reflect
    out = build_network(config)(torch.zeros(1, 1, window.input))
    assert out.shape == (1, 2, 1, window.output)


def test_the_published_window():
    window = PyTorchPortConfig().window()
    assert (window.input, window.output) == (97_961, 88_409)
    assert PyTorchPortConfig().window(10**6) == window


def test_outputs_are_clamped_when_separating():
    network = build_network(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(20)
    mixture = torch.randn(1, 2, SMALL.window().input)
    assert network(mixture).abs().max() == 1
    assert network.train()(mixture).abs().max() > 1


def test_batch_norm_uses_what_training_measured():
    network = build_network(replace(SMALL, norm="batch"))
    mixture = torch.randn(2, 2, SMALL.window().input)
    torch.testing.assert_close(network(mixture)[:1], network(mixture[:1]))


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_each_layer_convolves_normalises_and_rectifies(norm):
    torch.manual_seed(0)
    layer = build_network(replace(SMALL, norm=norm)).waveunets["bass"].bottlenecks[0]
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1)
    x = torch.randn(1, 16, 40)
    weights = layer.state_dict()
    y = torch.nn.functional.conv1d(x, weights["filter.weight"], weights["filter.bias"])
    if norm == "none":
        expected = torch.where(y > 0, y, 0.01 * y)
    else:
        if norm == "group":  # 8 channels share a mean and a variance
            groups = y.reshape(1, 2, -1)
            mean = groups.mean(-1).repeat_interleave(8, 1)[..., None]
            variance = groups.var(-1, unbiased=False).repeat_interleave(8, 1)[..., None]
        else:
            mean, variance = weights["norm.running_mean"][:, None], weights["norm.running_var"][:, None]
        y = (y - mean) / (variance + 1e-5).sqrt()
        expected = (y * weights["norm.weight"][:, None] + weights["norm.bias"][:, None]).clamp(min=0)
    torch.testing.assert_close(layer(x), expected)


def test_resampling_keeps_a_slow_wave():
    config = replace(SMALL, stride=4)
    network = build_network(config).waveunets["bass"]
    t = torch.arange(401) / 401
    slow = torch.sin(2 * torch.pi * 3 * t).expand(1, 16, -1)
    down = network.downsampling_blocks[0].downconv(slow)
    assert down.shape[-1] == 101
    torch.testing.assert_close(down[..., 5:-5], slow[..., ::4][..., 5:-5], atol=5e-3, rtol=0)
    up = network.upsampling_blocks[0].upconv(down)
    assert up.shape == slow.shape
    torch.testing.assert_close(4 * up[..., 20:-20], slow[..., 20:-20], atol=2e-2, rtol=0)


def test_the_filter_is_symmetric_and_sums_to_one():
    for stride in range(2, 9):
        kernel = sinc_kernel(stride)
        torch.testing.assert_close(kernel, kernel.flip(0))
        torch.testing.assert_close(kernel.sum(), torch.tensor(1.0))


@pytest.mark.parametrize(
    "change",
    [
        {"sources": ()},
        {"sources": ("bass", "bass")},
        {"residual": "drums"},
        {"norm": "layer"},
        {"resampling": "nearest"},
        {"taps": 4},
        {"stride": 1},
        {"widths": (8,)},
        {"widths": (12, 24)},
        {"channels": 3},
        {"window_frames": 0},
    ],
)
def test_impossible_configurations_are_refused(change):
    with pytest.raises(ConfigError):
        replace(SMALL, **change)
