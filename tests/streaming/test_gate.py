"""The gate: by its formula, however the song is cut, and in a Separator on either path."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from small_models import MASKED, Windowed, model_of, network_of
from stream_checks import EXAMPLES, assert_same, noise, through
from waveunet_cli import Separator
from waveunet_cli.networks.family import Model
from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.streaming.gate import GatedStream

RATE = HOP  # Hz: a spectrum a second, so 1 before and after, then 20
AROUND = 21 * HOP  # frames within which a gate judges


class Cut:
    """Sources (B, S, C, t) that were separated before; its input only says how far it is."""

    def __init__(self, sources: Tensor) -> None:
        self._sources = sources
        self._done = 0

    def push(self, x: Tensor) -> Tensor:
        self._done += x.shape[-1]
        return self._sources[..., self._done - x.shape[-1] : self._done]

    def flush(self) -> Tensor:
        return self._sources[..., :0]


def gated(sources: Tensor, threshold: float = 0.3, residual: int = 0, cuts: tuple[int, ...] = (10**9,)) -> Tensor:
    return through(GatedStream(Cut(sources), threshold, RATE, residual), sources.sum(1), cuts)


def hann_mean(x: Tensor, radius: int) -> Tensor:
    """(…, n) → (…, n), of what lies inside."""
    n = x.shape[-1]
    distance = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    weights = (torch.pi * distance / (2 * radius + 2)).cos().square() * (distance <= radius)
    return x @ weights / weights.sum(0)


@pytest.mark.parametrize("residual", [0, 1, 2])
def test_the_formula(residual: int) -> None:
    hops = 50
    loudness = noise(2, 3, 1, hops, seed=1).mul(2).exp().repeat_interleave(HOP, -1)  # so that gains differ
    y = noise(2, 3, 2, hops * HOP) * loudness
    y[..., 30 * HOP : 33 * HOP] = 0
    window = torch.hann_window(2 * HOP).sqrt()

    def power(signal: Tensor) -> Tensor:  # (…, C, t) → (…, bins, n), zeros before and after
        padded = torch.nn.functional.pad(signal, (HOP, HOP))
        flat = torch.stft(padded.flatten(0, -2), 2 * HOP, HOP, window=window, center=False, return_complex=True)
        return flat.abs().square().reshape(*signal.shape[:-1], *flat.shape[-2:]).sum(-3)

    expected = y.clone()
    mixture = power(y.sum(1))
    for source in {0, 1, 2} - {residual}:
        of_source = power(y[:, source])
        share = (of_source / (mixture + 1e-10)).sqrt().clamp(max=1)
        sure = hann_mean((share * of_source).sum(1), 1) / (hann_mean(of_source.sum(1), 1) + 1e-10)
        confidence = hann_mean(sure**4, 20) ** 0.25
        gain = confidence**6 / (confidence**6 + 0.6**6)  # (B, hops + 1)
        assert gain.max() - gain.min() > 0.2
        fade = window[:HOP].square()
        of_frames = (gain[:, :-1, None] * (1 - fade) + gain[:, 1:, None] * fade).flatten(1)
        expected[:, source] *= of_frames[:, None]
        expected[:, residual] += y[:, source] - expected[:, source]
    torch.testing.assert_close(gated(y, 0.6, residual), expected, atol=1e-4, rtol=1e-4)


@EXAMPLES
@given(
    st.integers(0, 60 * HOP),
    st.lists(st.integers(0, 20 * HOP), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 999),
    st.integers(1, 2),
)
def test_cuts_do_not_show(frames: int, cuts: list[int], size: int) -> None:
    y = noise(size, 3, 1, frames)
    assert_same(gated(y, cuts=tuple(cuts)), gated(y))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_a_source_of_constant_share(share: float) -> None:
    """It is turned down by its share alone, and what it loses the residual one gains."""
    x = noise(1, 2, 9 * HOP + 5)
    residual, source = gated(torch.stack([(1 - share) * x, share * x], 1)).unbind(1)
    gain = share**6 / (share**6 + 0.3**6)
    torch.testing.assert_close(source, gain * share * x, atol=1e-4, rtol=0)
    torch.testing.assert_close(residual + source, x)


def test_a_few_sure_seconds_keep_what_is_around_them() -> None:
    frames, alone = 90 * HOP, slice(40 * HOP, 45 * HOP)
    y = noise(1, 2, 1, frames)
    y[:, 1] *= 0.1
    y[:, 0, :, alone] = 0
    kept = gated(y)[:, 1] / y[:, 1]
    assert kept[..., 38 * HOP : 47 * HOP].min() > 0.9
    for far in (slice(None, alone.start - AROUND - HOP), slice(alone.stop + AROUND + HOP, None)):
        assert kept[..., far].max() < 0.2


def test_silence_stays_silent_and_a_source_alone_in_it_is_kept() -> None:
    y = torch.zeros(1, 2, 2, 30 * HOP)
    assert not gated(y).any()
    x = noise(1, 2, 5 * HOP)
    y[..., 10 * HOP : 15 * HOP] = torch.stack([0.1 * x, 0.9 * x], 1)
    torch.testing.assert_close(gated(y), y, atol=0.05, rtol=0)


def test_what_waits_does_not_grow() -> None:
    stream = GatedStream(Cut(noise(1, 2, 1, 100 * HOP)), 0.3, RATE, 0)
    returned = 0
    for pushed in range(1, 101):
        returned += stream.push(torch.zeros(1, 1, HOP)).shape[-1]
        assert pushed * HOP - returned <= AROUND + 2 * HOP
    assert returned + stream.flush().shape[-1] == 100 * HOP


def test_a_separator_gates_on_either_path() -> None:
    config = replace(MASKED[-1], gate=0.6)
    song = np.random.default_rng(0).standard_normal((6 * HOP + 5, 2)).astype(np.float32)

    def separated(model: Model) -> dict[str, np.ndarray]:
        return Separator(model, "cpu", "float32").separate(song, config.sample_rate)

    open_, carried = separated(model_of(replace(config, gate=0.0))), separated(model_of(config))
    windows = separated(Model("windows", config, Windowed(network_of(config))))
    sources = torch.stack([torch.from_numpy(open_[stem].T.copy()) for stem in config.sources])[None]
    residual = config.sources.index(config.residual)
    expected = through(GatedStream(Cut(sources), 0.6, config.sample_rate, residual), sources.sum(1))[0]
    for stem, audio in zip(config.sources, expected.transpose(1, 2).numpy(), strict=True):
        np.testing.assert_allclose(carried[stem], audio, atol=1e-5)
        np.testing.assert_allclose(windows[stem], audio, atol=1e-5)
        assert np.abs(audio - open_[stem]).max() > 0.01
