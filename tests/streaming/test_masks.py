"""Ratio masks: shares of the mixture, the same in one window, in windows and in a stream."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_models import MASKED, TINY, Windowed, model_of, network_of
from stream_checks import EXAMPLES, assert_same, noise, through, whole, windowed
from waveunet_cli import Separator
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Model
from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.networks.geometry import mask_margin_frames
from waveunet_cli.networks.masks import apply_masks
from waveunet_cli.networks.wave_u_net.carried import CarriedNetwork
from waveunet_cli.networks.wave_u_net.config import M5, WaveUNetConfig

NETWORKS = [network_of(config) for config in MASKED]


@pytest.mark.parametrize(("exponent", "spread"), [(1.0, 0), (1.5, 0), (2, 0), (1.5, 1), (1.0, 2)])
def test_the_formula(exponent: float, spread: int) -> None:
    n_spectra = 4 + 2 * spread  # for three hops, and as many more as are around them
    y = noise(2, 3, 2, (n_spectra + 1) * HOP)
    x = y.sum(1)
    window = torch.hann_window(2 * HOP).sqrt()

    def spectra(signal: torch.Tensor) -> torch.Tensor:  # (…, t) → (…, bins, n)
        flat = torch.stft(signal.flatten(0, -2), 2 * HOP, HOP, window=window, center=False, return_complex=True)
        return flat.reshape(*signal.shape[:-1], *flat.shape[-2:])

    magnitude = spectra(y).abs().square().sum(2, keepdim=True).sqrt()  # over channels
    around = torch.stack(
        [magnitude[..., max(0, n - spread) : n + spread + 1].square().mean(-1).sqrt() for n in range(n_spectra)], -1
    )
    strength = (magnitude * around) ** (exponent / 2)
    masked = spectra(x)[:, None] * strength / strength.sum(1, keepdim=True)
    frames = torch.fft.irfft(masked.transpose(-1, -2)) * window  # (B, S, C, n, 2·HOP)
    expected = torch.zeros_like(y)
    for n in range(n_spectra):
        expected[..., n * HOP : (n + 2) * HOP] += frames[..., n, :]
    margin = mask_margin_frames(spread)
    assert_same(apply_masks(y, exponent, spread), expected[..., margin:-margin])


def test_one_click_counts_less_than_what_lasts() -> None:
    """A source that holds a frequency for long takes more of it than another that is as loud there for a moment."""
    y = torch.zeros(1, 2, 1, 12 * HOP)
    y[:, 0] = noise(1, 1, 12 * HOP)
    y[:, 1, :, 6 * HOP : 7 * HOP] = noise(1, 1, HOP)
    shares = []
    for spread in (0, 3):
        sounding = 6 * HOP - mask_margin_frames(spread)  # where the click stands in what is returned
        shares.append(apply_masks(y, 1.0, spread)[..., sounding : sounding + HOP])
    at_once, judged = ((e[:, 1].square().sum() / e[:, 0].square().sum()).item() for e in shares)
    assert judged < 0.6 * at_once


def test_sources_sum_to_the_mixture_and_take_all_of_it_alone() -> None:
    y = noise(1, 4, 2, 6 * HOP)
    assert_same(apply_masks(y, 1.0, 0).sum(1), y.sum(1)[..., HOP:-HOP])
    for alone in (0, 3):
        only = torch.zeros_like(y)
        only[:, alone] = y[:, alone]
        found = apply_masks(only, 1.0, 0)
        torch.testing.assert_close(found[:, alone], y[:, alone, :, HOP:-HOP], atol=1e-4, rtol=0)
        assert found.sum(1).sub(found[:, alone]).abs().max() < 1e-4


def test_a_fainter_source_falls_by_the_exponent() -> None:
    x = noise(1, 1, 4 * HOP)
    for exponent in (1.0, 1.5, 2.0):  # 20 dB fainter everywhere
        loud, faint = apply_masks(torch.stack([x, 0.1 * x], 1), exponent, 0)[0]
        torch.testing.assert_close(faint, 0.1**exponent * loud)


@pytest.mark.parametrize(("exponent", "spread"), [(1.0, 0), (1.5, 0), (1.5, 2)])
def test_silence_stays_silent_and_has_gradients(exponent: float, spread: int) -> None:
    y = noise(1, 2, 1, 8 * HOP).requires_grad_()
    rest = 0 - y.sum(1, keepdim=True)  # of silence
    assert not apply_masks(torch.cat([y, rest], 1), exponent, spread).any()
    silence = torch.zeros_like(y).requires_grad_()
    apply_masks(torch.cat([silence, noise(1, 1, 1, 8 * HOP)], 1), exponent, spread).square().sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()
    assert silence.grad.any()


@EXAMPLES
@given(
    st.sampled_from(NETWORKS),
    st.integers(0, 5 * HOP),
    st.lists(st.integers(0, 3 * HOP), min_size=1, max_size=3).filter(lambda sizes: sum(sizes) > 99),
    st.integers(1, 2 * HOP),
    st.integers(1, 2),
)
def test_neither_windows_nor_blocks_show(network, frames, cuts, hop, size):  # type: ignore[no-untyped-def]
    x = noise(size, network.config.channels, frames)
    expected = whole(network, x)
    assert_same(through(windowed(network, hop, 2), x, cuts), expected)
    assert_same(through(CarriedNetwork(network, block_frames=hop).stream(size), x, cuts), expected)


@pytest.mark.parametrize("spread", [0, 4])
def test_twelve_levels(spread: int) -> None:
    network = network_of(replace(M5, filters=2, output="masked", mask_spread=spread))
    with torch.no_grad():
        for weight in network.up[0].parameters():
            weight.mul_(300)  # so that the deepest level is heard, which knows only shifts of 4096 frames
    x = noise(1, 2, 20_000)
    expected = whole(network, x)
    assert_same(through(windowed(network, 8192), x, (7001,)), expected)
    assert_same(through(CarriedNetwork(network).stream(), x, (9001,)), expected)


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
