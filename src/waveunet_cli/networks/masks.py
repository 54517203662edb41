"""Ratio masks: each source's share of the mixture's spectrum, as large as the network's estimate of it.

    X, Y_s = short-time spectra of the mixture and of the estimate of source s, frames of 2·HOP every HOP
    m_s    = (|Y_s| · Ȳ_s)^(p/2) / Σ_r (|Y_r| · Ȳ_r)^(p/2),   |·| over all channels together
    Ȳ_s    = root of the mean of |Y_s|² over this spectrum, the `spread` before it and the `spread` after it
    ŷ_s    = the signal whose spectra are m_s · X, by overlap and addition

So the sources sum to the mixture, have its phase, and are silent where it is. The window is the root of a Hann window,
before and after: at this hop its squares sum to 1, so masks of 1 give the mixture back. Ratio masks are as old as
separation by spectrograms; the paper's baseline, U7, learns one. The exponent p is that of generalized Wiener filters
(Liutkus & Badeau, Generalized Wiener filtering with fractional power spectrograms, 2015), 2 being Wiener's: the higher,
the less of the mixture goes to the source that is the fainter one. Without spread Ȳ_s = |Y_s|; with it, what a source
holds at a frequency for a second or two outweighs what is as loud there only for a moment.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.networks.geometry import mask_margin_frames

TINY = 1e-10  # of a power: where nothing sounds all shares are equal, and have a gradient


class Spectra(NamedTuple):
    """What masks need of n consecutive short-time spectra."""

    mixture: Tensor  # (B, 1, C, n, bins)
    powers: Tensor  # (B, S, 1, n, bins) of the estimates, over all channels
    frames: Tensor  # (B, 1, C, n, HOP): the mixture in the later half of what each was taken of


def apply_masks(estimates: Tensor, exponent: float, spread: int) -> Tensor:
    """Estimates (B, S, C, t) of one window, which sum to the mixture → the sources (B, S, C, t − 2·margin) inside it.

    What is left of t beyond whole hops stays as it was estimated, at the end.
    """
    frames, margin = estimates.shape[-1] // HOP * HOP, mask_margin_frames(spread)
    masked = divide(spectra_of(estimates[..., :frames]), exponent, spread)
    return torch.cat([masked, estimates[..., frames - margin : -margin]], -1)


def spectra_of(estimates: Tensor) -> Spectra:
    """Estimates (B, S, C, (n + 1)·HOP) → n spectra.

    The last estimate is never transformed: it is what the others leave of the mixture's spectrum.
    """
    estimates = estimates.float()
    predicted = estimates[:, :-1]
    mixture = predicted.sum(1, keepdim=True) + estimates[:, -1:]
    spectra = short_time_spectra(torch.cat([mixture, predicted], 1))
    x, y = spectra[:, :1], spectra[:, 1:]  # (B, 1, C, n, bins), (B, S − 1, C, n, bins)
    rest = x - y.sum(1, keepdim=True)
    powers = torch.cat([power(y), power(rest)], 1) + TINY
    return Spectra(x, powers, mixture[..., HOP:].unfold(-1, HOP, HOP))


def divide(spectra: Spectra, exponent: float, spread: int) -> Tensor:
    """n spectra → sources (B, S, C, (n − 1 − 2·spread)·HOP): the frames that two spectra share, 2·spread of them aside.

    The last source is never transformed back: it is what the others leave of the mixture. So silence stays silent to
    the last bit.
    """
    inside = slice(spread, spectra.powers.shape[-2] - spread)
    powers = spectra.powers[..., inside, :]
    if spread:
        count = 2 * spread + 1
        powers = (powers * _sums(spectra.powers, count) / count).sqrt()  # |Y| · Ȳ
    strength = powers ** (exponent / 2)  # (B, S, 1, n − 2·spread, bins)
    shares = strength[:, :-1] / strength.sum(1, keepdim=True)
    halves = torch.fft.irfft(spectra.mixture[..., inside, :] * shares, 2 * HOP) * _window(shares)
    sources = (halves[..., 1:, :HOP] + halves[..., :-1, HOP:]).flatten(-2)
    mixture = spectra.frames[..., inside, :][..., :-1, :].flatten(-2)
    return torch.cat([sources, mixture - sources.sum(1, keepdim=True)], 1)


def short_time_spectra(signals: Tensor) -> Tensor:
    """Signals (…, (n + 1)·HOP) → n spectra (…, n, bins)."""
    spectra: Tensor = torch.fft.rfft(signals.unfold(-1, 2 * HOP, HOP) * _window(signals))
    return spectra


def power(spectra: Tensor) -> Tensor:
    """(B, S, C, n, bins) → (B, S, 1, n, bins), over all channels."""
    # To sum over the two parts of complex numbers as a last dimension would take longer than all else here.
    squares: Tensor = torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag)
    return squares.sum(2, keepdim=True)


def _window(like: Tensor) -> Tensor:
    """(2·HOP,), where `like` is; before the transform and after the way back it must be the same."""
    return torch.hann_window(2 * HOP, device=like.device).sqrt()


def _sums(x: Tensor, count: int) -> Tensor:
    """(…, n, bins) → (…, n − count + 1, bins): the sums of every `count` neighbours, each made of two of half as many.

    A pooling layer adds all of them one by one; running sums would subtract, and lose what is faint after what is loud.
    """
    if count == 1:
        return x
    half = count // 2
    halves = _sums(x, half)
    sums = halves[..., :-half, :] + halves[..., half:, :]
    return sums if count == 2 * half else sums[..., :-1, :] + x[..., 2 * half :, :]
