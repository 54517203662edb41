"""The spectrogram U-Net: its transform, its masks, its windows."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from waveunet_cli import Separator
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks import spectrogram_u_net as module
from waveunet_cli.networks.family import Model, build_network
from waveunet_cli.networks.spectrogram_u_net import U7, SpectrogramUNet, SpectrogramUNetConfig
from waveunet_cli.training.network import Trainable

SMALL = SpectrogramUNetConfig(
    fft_frames=64, step_frames=48, levels=2, filters=4, dropout_levels=1, window_frames=300, sample_rate=8000
)
SMALLS = [
    SMALL,
    replace(SMALL, channels=2, sources=("bass", "drums", "vocals"), residual="drums"),
    replace(SMALL, fft_frames=48, step_frames=20, levels=3, taps=3),
]


def network_of(config: SpectrogramUNetConfig, seed: int = 0) -> SpectrogramUNet:
    torch.manual_seed(seed)
    network = build_network(config)
    assert isinstance(network, SpectrogramUNet)
    with torch.no_grad():
        for name, buffer in network.named_buffers():  # as if it had been trained
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return network


def test_the_baseline_of_the_paper() -> None:
    window = U7.window()
    assert (window.input, window.context, window.output) == (127 * 768 + 1024, 256, 98_048)
    assert U7.window(1) == U7.window(10**6) == window
    with torch.device("meta"):
        network = build_network(U7)
    values = sum(p.numel() for p in network.parameters())
    assert values == pytest.approx(19.6e6, rel=0.01)  # about as many as M7


@pytest.mark.parametrize("config", SMALLS)
@given(seed=st.integers(0, 100))
@settings(deadline=None, max_examples=10)
def test_an_unchanged_spectrum_gives_back_the_signal(config: SpectrogramUNetConfig, seed: int) -> None:
    window = config.window()
    x = torch.randn(2, config.channels, window.input, generator=torch.Generator().manual_seed(seed))
    network = SpectrogramUNet(config)
    y = network.signal(network.spectrum(x))
    torch.testing.assert_close(y, x[..., window.context : -window.context], rtol=0, atol=1e-5)
    same = network.resynthesise(network.spectrum(x).abs().unsqueeze(1), x)
    torch.testing.assert_close(same[:, 0], y, rtol=0, atol=1e-5)


def test_the_transform_is_that_of_torch() -> None:
    x = torch.randn(1, U7.window().input)
    expected = torch.stft(x, 1024, 768, window=torch.hann_window(1024), center=False, return_complex=True)
    torch.testing.assert_close(SpectrogramUNet(SMALL).spectrum(x[..., :64]).shape, torch.Size([1, 33, 1]))
    torch.testing.assert_close(SpectrogramUNet(replace(U7, filters=1)).spectrum(x), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", SMALLS)
def test_estimates_are_masked_mixtures(config: SpectrogramUNetConfig) -> None:
    network, window = network_of(config), config.window()
    x = torch.randn(2, config.channels, window.input)
    with torch.no_grad():
        y = network(x)
        magnitudes = network.magnitudes(x)
    assert y.shape == (2, len(config.sources), config.channels, window.output)
    heard = network.spectrum(x).abs().unsqueeze(1)
    assert bool((magnitudes >= 0).all())
    assert bool((magnitudes <= heard).all())
    assert not torch.allclose(magnitudes[:, 0], magnitudes[:, 1])
    assert not network(torch.zeros_like(x)).any()


@pytest.mark.parametrize("config", SMALLS)
@pytest.mark.parametrize("frames", [1, 301, 2000])
def test_a_song_is_its_windows_one_after_the_other(config: SpectrogramUNetConfig, frames: int) -> None:
    network, window = network_of(config), config.window()
    x = np.random.default_rng(1).normal(0, 0.1, (frames, config.channels)).astype(np.float32)
    found = Separator(Model("u", config, network), "cpu", "float32").separate(x, config.sample_rate)
    padded = torch.zeros(config.channels, window.context + frames + window.input)
    padded[:, window.context : window.context + frames] = torch.from_numpy(x.T)
    with torch.no_grad():
        parts = [network(padded[None, :, i : i + window.input])[0] for i in range(0, frames, window.hop)]
    expected = torch.cat(parts, -1)[..., :frames]
    for i, source in enumerate(config.sources):
        np.testing.assert_allclose(found[source], expected[i].T.numpy(), atol=1e-5)


def test_one_step_of_training_lowers_the_loss_of_magnitudes() -> None:
    torch.manual_seed(0)
    trainable = Trainable(network_of(replace(SMALL, dropout=0.0)), magnitudes=True)
    sources = torch.randn(4, 2, 1, SMALL.window().input) * torch.tensor([0.3, 0.03])[:, None, None]
    optimizer = torch.optim.Adam(trainable.parameters(), 1e-3)
    losses = []
    for _ in range(2):
        estimate = trainable(sources.sum(1))
        wanted = trainable.wanted(sources, estimate)
        assert estimate.shape == wanted.shape
        losses.append((estimate - wanted).abs().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ("vocals",)}, "2 or more"),
        ({"residual": "bass"}, "residual: found 'bass'; expected one of"),
        ({"channels": 3}, "channels: found 3; expected a whole number from 1 to 2"),
        ({"fft_frames": 1000}, "multiple of 128"),
        ({"step_frames": 1024}, "less than fft_frames"),
        ({"step_frames": 0}, "step_frames: found 0"),
        ({"taps": 4}, "taps: found 4; taps must be odd"),
        ({"dropout": 1.0}, "dropout: found 1.0"),
    ],
)
def test_refuses_what_cannot_exist(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(U7, **changes)  # type: ignore[arg-type]


def test_every_setting_is_read() -> None:
    code = Path(module.__file__).read_text().split("def window", 1)[1]
    for field in fields(SpectrogramUNetConfig):
        if field.name not in ("sample_rate", "residual"):  # read by all that separates
            assert f".{field.name}" in code, field.name
