"""Ratio masks: each source's share of the mixture's spectrum, as large as the network's estimate of it.

    X, Y_s = short-time spectra of the mixture and of the estimate of source s, frames of 2·HOP every HOP
    m_s    = |Y_s| / Σ_r |Y_r|,   |·| over all channels together
    ŷ_s    = the signal whose spectra are m_s · X, by overlap and addition

So the sources sum to the mixture, have its phase, and are silent where it is. The window is the root of a Hann window,
before and after: at this hop its squares sum to 1, so masks of 1 give the mixture back. Ratio masks are as old as
separation by spectrograms; the paper's baseline, U7, learns one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from waveunet_cli.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.windows import Stream

TINY = 1e-10  # of a power: where nothing sounds all shares are equal, and have a gradient


def apply_masks(mixture: Tensor, estimates: Tensor) -> Tensor:
    """(B, C, t) and (B, S, C, t) of one window → the sources (B, S, C, t − 2·HOP) in its middle.

    What is left of t beyond whole hops stays as it was estimated, at the end.
    """
    frames = mixture.shape[-1] // HOP * HOP
    masked = _inside(torch.cat([mixture[:, None], estimates], 1)[..., :frames])
    return torch.cat([masked, estimates[..., frames - HOP : estimates.shape[-1] - HOP]], -1)


class MaskedStream:
    """A stream whose estimates are masked as they come: the samples that one masked window over all of it gives."""

    def __init__(self, stream: Stream) -> None:
        """The stream begins HOP frames before the song, as a masked window does."""
        self._stream = stream
        self._mixture: Tensor | None = None  # (B, C, t) not estimated yet
        self._both: Tensor | None = None  # mixture and estimates, (B, 1 + S, C, t), from HOP before the next output
        self._owed = 0  # frames received and not yet returned; what is returned before the end are whole HOPs

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'); t' may be 0."""
        self._owed += x.shape[-1]
        x = F.pad(x, (HOP, 0)) if self._mixture is None else x
        return self._mask(x, self._stream.push(x))

    def flush(self) -> Tensor:
        """The rest, (B, S, C, t')."""
        assert self._mixture is not None, "push at least once before flush"
        after = self._mixture.new_zeros(*self._mixture.shape[:-1], HOP + -self._owed % HOP)
        return self._mask(after, torch.cat([self._stream.push(after), self._stream.flush()], -1))

    def _mask(self, x: Tensor, estimates: Tensor) -> Tensor:
        """Take more of the mixture (B, C, t), and what came of the estimates (B, S, C, t'), which lag behind."""
        self._mixture = x if self._mixture is None else torch.cat([self._mixture, x], -1)
        frames = estimates.shape[-1]
        both = torch.cat([self._mixture[:, None, :, :frames], estimates], 1)
        self._mixture = self._mixture[..., frames:]
        both = both if self._both is None else torch.cat([self._both, both], -1)
        hops = max(0, both.shape[-1] // HOP - 2)
        self._both = both[..., hops * HOP :]
        y = _inside(both[..., : (hops + 2) * HOP])[..., : self._owed] if hops else estimates[..., :0]
        self._owed -= y.shape[-1]
        return y


def _inside(both: Tensor) -> Tensor:
    """Mixture and estimates (B, 1 + S, C, (n + 2)·HOP) → sources (B, S, C, n·HOP), without the first and last HOP."""
    window = torch.hann_window(2 * HOP, device=both.device).sqrt()
    spectra = torch.fft.rfft(both.float().unfold(-1, 2 * HOP, HOP) * window)  # (B, 1 + S, C, n + 1, bins)
    x, y = spectra[:, :1], spectra[:, 1:]
    power = torch.view_as_real(y).square().sum((2, -1)).unsqueeze(2) + TINY  # (B, S, 1, n + 1, bins)
    strength = power.sqrt()
    halves: Tensor = torch.fft.irfft(x * (strength / strength.sum(1, keepdim=True)), 2 * HOP) * window
    return (halves[..., 1:, :HOP] + halves[..., :-1, HOP:]).flatten(-2)
