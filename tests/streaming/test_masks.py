"""Ratio masks: shares of the mixture, the same in one window, in windows and in a stream."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_models import MASKED, TINY, Windowed, model_of, network_of
from stream_checks import EXAMPLES, assert_same, noise, through, whole
from waveunet_cli import Separator
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Model
from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.networks.masks import apply_masks, mask
from waveunet_cli.networks.wave_u_net.carried import CarriedNetwork
from waveunet_cli.networks.wave_u_net.config import M5, WaveUNetConfig
from waveunet_cli.streaming.masks import MaskedStream
from waveunet_cli.streaming.windows import WindowedStream

NETWORKS = [network_of(config) for config in MASKED]


def test_the_formula() -> None:
    n_spectra = 4  # for three hops
    y = noise(2, 3, 2, (n_spectra + 1) * HOP)
    x = y.sum(1)
    window = torch.hann_window(2 * HOP).sqrt()

    def spectra(signal: torch.Tensor) -> torch.Tensor:  # (…, t) → (…, bins, n)
        flat = torch.stft(signal.flatten(0, -2), 2 * HOP, HOP, window=window, center=False, return_complex=True)
        return flat.reshape(*signal.shape[:-1], *flat.shape[-2:])

    magnitude = spectra(y).abs().square().sum(2, keepdim=True).sqrt()  # over channels
    shares = magnitude / magnitude.sum(1, keepdim=True)  # (B, S, 1, bins, n)
    frames = torch.fft.irfft((spectra(x)[:, None] * shares).transpose(-1, -2)) * window  # (B, S, C, n, 2·HOP)
    expected = torch.zeros_like(y)
    for n in range(n_spectra):
        expected[..., n * HOP : (n + 2) * HOP] += frames[..., n, :]
    assert_same(apply_masks(y), expected[..., HOP:-HOP])
    assert_same(mask(y).top_shares, shares[:, :, 0, HOP // 2 :].mean(-2))


def test_sources_sum_to_the_mixture_and_take_all_of_it_alone() -> None:
    y = noise(1, 4, 2, 6 * HOP)
    assert_same(apply_masks(y).sum(1), y.sum(1)[..., HOP:-HOP])
    for alone in (0, 3):
        only = torch.zeros_like(y)
        only[:, alone] = y[:, alone]
        found = apply_masks(only)
        torch.testing.assert_close(found[:, alone], y[:, alone, :, HOP:-HOP], atol=1e-4, rtol=0)
        assert found.sum(1).sub(found[:, alone]).abs().max() < 1e-4


def test_silence_stays_silent_and_has_gradients() -> None:
    y = noise(1, 2, 1, 8 * HOP).requires_grad_()
    rest = 0 - y.sum(1, keepdim=True)  # of silence
    assert not apply_masks(torch.cat([y, rest], 1)).any()
    silence = torch.zeros_like(y).requires_grad_()
    apply_masks(torch.cat([silence, noise(1, 1, 1, 8 * HOP)], 1)).square().sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()
    assert silence.grad.any()


def engines(network, hop, batch=1):  # type: ignore[no-untyped-def]
    """The network as a stream of windows and as one that carries its layers' state, both masked."""
    config = network.config
    layers = replace(config, output="difference").window(hop)
    yield MaskedStream(WindowedStream(network.estimates, layers, len(config.sources), batch))
    yield MaskedStream(CarriedNetwork(network, block_frames=hop).stream())


@EXAMPLES
@given(
    st.sampled_from(NETWORKS),
    st.integers(0, 5 * HOP),
    st.lists(st.integers(0, 3 * HOP), min_size=1, max_size=3).filter(lambda sizes: sum(sizes) > 99),
    st.integers(HOP // 8, 2 * HOP),
)
def test_neither_windows_nor_blocks_show(network, frames, cuts, hop):  # type: ignore[no-untyped-def]
    x = noise(1, network.config.channels, frames)
    expected = whole(network, x)
    for stream in engines(network, hop, batch=2):
        assert_same(through(stream, x, cuts), expected)
        taken = torch.cat(stream.take_top_shares(), -1) if frames else torch.empty(0)
        assert not frames or taken.shape == (1, len(network.config.sources), -(-frames // HOP) + 1)
        assert not stream.take_top_shares()


def test_twelve_levels() -> None:
    network = network_of(replace(M5, filters=2, output="masked"))
    with torch.no_grad():
        for weight in network.up[0].parameters():
            weight.mul_(300)  # so that the deepest level is heard, which knows only shifts of 4096 frames
    x = noise(1, 2, 20_000)
    expected = whole(network, x)
    for stream in engines(network, 8192):
        assert_same(through(stream, x, (7001,)), expected)


@pytest.mark.thorough
@pytest.mark.parametrize("config", MASKED, ids=str)
def test_a_separator_gives_the_same_on_either_path(config: WaveUNetConfig) -> None:
    model = model_of(config)
    song = np.random.default_rng(0).standard_normal((3 * HOP + 5, 2)).astype(np.float32)
    carried = Separator(model, "cpu", "float32").separate(song, config.sample_rate)
    windows = Separator(Model("windows", config, Windowed(network_of(config))), "cpu", "float32").separate(
        song, config.sample_rate
    )
    for stem, audio in carried.items():
        assert audio.shape == song.shape
        np.testing.assert_allclose(audio, windows[stem], atol=1e-5)
    np.testing.assert_allclose(sum(carried.values()), song, atol=1e-5)


def test_padded_networks_cannot_be_masked() -> None:
    with pytest.raises(ConfigError, match="needs padding"):
        replace(TINY, output="masked", padding="same")
