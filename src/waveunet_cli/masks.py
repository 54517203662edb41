"""Ratio masks: each source's share of the mixture's spectrum, as large as the network's estimate of it.

    X, Y_s = short-time spectra of the mixture and of the estimate of source s, frames of 2·HOP every HOP
    m_s    = |Y_s|^p / Σ_r |Y_r|^p,   |·| over all channels together
    ŷ_s    = the signal whose spectra are m_s · X, by overlap and addition

So the sources sum to the mixture, have its phase, and are silent where it is. The window is the root of a Hann window,
before and after: at this hop its squares sum to 1, so masks of 1 give the mixture back. Ratio masks are as old as
separation by spectrograms; the paper's baseline, U7, learns one. The exponent p is that of generalized Wiener filters
(Liutkus & Badeau, Generalized Wiener filtering with fractional power spectrograms, 2015), 2 being Wiener's: the higher,
the less of the mixture goes to the source that is the fainter one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from waveunet_cli.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.windows import Stream

TINY = 1e-10  # of a power: where nothing sounds all shares are equal, and have a gradient


def apply_masks(estimates: Tensor, exponent: float) -> Tensor:
    """Estimates (B, S, C, t) of one window, which sum to the mixture → the sources (B, S, C, t − 2·HOP) in its middle.

    What is left of t beyond whole hops stays as it was estimated, at the end.
    """
    frames = estimates.shape[-1] // HOP * HOP
    return torch.cat([_inside(estimates[..., :frames], exponent), estimates[..., frames - HOP : -HOP]], -1)


class MaskedStream:
    """A stream whose estimates are masked as they come: the samples that one masked window over all of it gives."""

    def __init__(self, stream: Stream, exponent: float) -> None:
        """The stream begins HOP frames before the song, as a masked window does."""
        self._stream = stream
        self._exponent = exponent
        self._silence: Tensor | None = None  # (B, C, HOP)
        self._estimates: Tensor | None = None  # (B, S, C, t) from HOP before the next output
        self._owed = 0  # frames received and not yet returned; what is returned before the end are whole HOPs

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'); t' may be 0."""
        self._owed += x.shape[-1]
        if self._silence is None:
            self._silence = x.new_zeros(*x.shape[:-1], HOP)
            x = torch.cat([self._silence, x], -1)
        return self._mask(self._stream.push(x))

    def flush(self) -> Tensor:
        """The rest, (B, S, C, t')."""
        assert self._silence is not None, "push at least once before flush"
        after = F.pad(self._silence, (0, -self._owed % HOP))
        return self._mask(torch.cat([self._stream.push(after), self._stream.flush()], -1))

    def _mask(self, estimates: Tensor) -> Tensor:
        """Take more estimates (B, S, C, t), return what can be masked by now."""
        if self._estimates is not None:
            estimates = torch.cat([self._estimates, estimates], -1)
        hops = max(0, estimates.shape[-1] // HOP - 2)
        self._estimates = estimates[..., hops * HOP :]
        if not hops:
            return estimates[..., :0]
        y = _inside(estimates[..., : (hops + 2) * HOP], self._exponent)[..., : self._owed]
        self._owed -= y.shape[-1]
        return y


def _inside(estimates: Tensor, exponent: float) -> Tensor:
    """Estimates (B, S, C, (n + 2)·HOP) → sources (B, S, C, n·HOP), without the first and last HOP.

    The last estimate is never transformed: it is what the others leave of the mixture's spectrum. Nor is the last
    source transformed back: it is what the others leave of the mixture. So silence stays silent to the last bit.
    """
    estimates = estimates.float()
    predicted = estimates[:, :-1]
    mixture = predicted.sum(1, keepdim=True) + estimates[:, -1:]
    window = torch.hann_window(2 * HOP, device=estimates.device).sqrt()
    spectra = torch.fft.rfft(torch.cat([mixture, predicted], 1).unfold(-1, 2 * HOP, HOP) * window)
    x, y = spectra[:, :1], spectra[:, 1:]  # (B, 1, C, n + 1, bins), (B, S − 1, C, n + 1, bins)
    strength = _power(y) ** (exponent / 2)  # (B, S − 1, 1, n + 1, bins)
    rest = _power(x - y.sum(1, keepdim=True)) ** (exponent / 2)
    halves = torch.fft.irfft(x * (strength / (strength.sum(1, keepdim=True) + rest)), 2 * HOP) * window
    sources = (halves[..., 1:, :HOP] + halves[..., :-1, HOP:]).flatten(-2)
    return torch.cat([sources, mixture[..., HOP:-HOP] - sources.sum(1, keepdim=True)], 1)


def _power(spectra: Tensor) -> Tensor:
    """(B, S, C, n, bins) → (B, S, 1, n, bins), over all channels."""
    # To sum over the two parts of complex numbers as a last dimension would take longer than all else here.
    return torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag).sum(2, keepdim=True) + TINY
