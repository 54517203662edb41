"""Ratio masks: each source's share of the mixture's spectrum, as large as the network's estimate of it.

    X, Y_s = short-time spectra of the mixture and of the estimate of source s, 2·HOP frames each, one every HOP frames
    m_s    = |Y_s| / Σ_r |Y_r|                 the share of source s; |·| is taken over all channels together
    ŷ_s    = the signal whose spectra are m_s · X, by overlap and addition

So the sources sum to the mixture, have its phase, and are silent where it is. The window is the root of a Hann window,
before the transform and after the way back: at this hop its squares sum to 1, so masks of 1 give the mixture back.
Ratio masks are as old as separation by spectrograms; the paper's baseline, U7, learns one.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP

TINY = 1e-10  # of a power: where nothing sounds all shares are equal, and have a gradient


class Masked(NamedTuple):
    """Sources, and what their masks were at the top of the band."""

    sources: Tensor  # (B, S, C, t)
    top_shares: Tensor  # (B, S, n): the mean share of each spectrum's upper half, which is the top octave


def apply_masks(estimates: Tensor) -> Tensor:
    """Estimates (B, S, C, t) of one window, which sum to the mixture → the sources (B, S, C, t − 2·HOP) inside it.

    What is left of t beyond whole hops stays as it was estimated, at the end.
    """
    frames = estimates.shape[-1] // HOP * HOP
    return torch.cat([mask(estimates[..., :frames]).sources, estimates[..., frames - HOP : -HOP]], -1)


def mask(estimates: Tensor) -> Masked:
    """Estimates (B, S, C, (n + 1)·HOP) → sources (B, S, C, (n − 1)·HOP), the frames that two of the n spectra share.

    The last source is never transformed: it is what the others leave of the mixture. So silence stays silent to the
    last bit.
    """
    estimates = estimates.float()
    predicted = estimates[:, :-1]
    mixture = predicted.sum(1, keepdim=True) + estimates[:, -1:]
    spectra = _short_time_spectra(torch.cat([mixture, predicted], 1))
    x, y = spectra[:, :1], spectra[:, 1:]  # (B, 1, C, n, bins), (B, S − 1, C, n, bins)
    strength = (torch.cat([_power(y), _power(x - y.sum(1, keepdim=True))], 1) + TINY).sqrt()  # (B, S, 1, n, bins)
    shares = strength / strength.sum(1, keepdim=True)
    halves = torch.fft.irfft(x * shares[:, :-1], 2 * HOP) * _window(shares)  # (B, S − 1, C, n, 2·HOP)
    sources = (halves[..., 1:, :HOP] + halves[..., :-1, HOP:]).flatten(-2)
    rest = mixture[..., HOP:-HOP] - sources.sum(1, keepdim=True)
    return Masked(torch.cat([sources, rest], 1), shares[:, :, 0, :, HOP // 2 :].mean(-1))


def _short_time_spectra(signals: Tensor) -> Tensor:
    """Signals (…, (n + 1)·HOP) → n spectra (…, n, bins)."""
    spectra: Tensor = torch.fft.rfft(signals.unfold(-1, 2 * HOP, HOP) * _window(signals))
    return spectra


def _power(spectra: Tensor) -> Tensor:
    """(B, S, C, n, bins) → (B, S, 1, n, bins), over all channels."""
    # To sum over the two parts of complex numbers as a last dimension would take longer than all else here.
    squares: Tensor = torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag)
    return squares.sum(2, keepdim=True)


def _window(like: Tensor) -> Tensor:
    """(2·HOP,), where `like` is; before the transform and after the way back it must be the same."""
    return torch.hann_window(2 * HOP, device=like.device).sqrt()
