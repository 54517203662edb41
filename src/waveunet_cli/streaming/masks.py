"""Ratio masks as a stage of a stream; networks/masks.py has the formula."""

import torch
import torch.nn.functional as F
from torch import Tensor

from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.networks.geometry import mask_margin_frames
from waveunet_cli.networks.masks import Spectra, divide, spectra_of
from waveunet_cli.streaming.windows import Stream


class MaskedStream:
    """A stream whose estimates are masked as they come: the samples that one masked window over all of it gives."""

    def __init__(self, stream: Stream, exponent: float, spread: int) -> None:
        """The stream begins a margin before the song, as a masked window does."""
        self._stream = stream
        self._exponent = exponent
        self._spread = spread
        self._silence: Tensor | None = None  # (B, C, margin)
        self._estimates: Tensor | None = None  # (B, S, C, t) of which no spectrum was taken yet
        self._spectra: Spectra | None = None  # the first is `spread` before that of the next output
        self._owed = 0  # frames received and not yet returned; what is returned before the end are whole HOPs

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'); t' may be 0."""
        self._owed += x.shape[-1]
        if self._silence is None:
            self._silence = x.new_zeros(*x.shape[:-1], mask_margin_frames(self._spread))
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
        new = max(0, estimates.shape[-1] // HOP - 1)
        self._estimates = estimates[..., new * HOP :]
        if not new:
            return estimates[..., :0]
        spectra = spectra_of(estimates[..., : (new + 1) * HOP])
        if self._spectra is not None:
            spectra = Spectra(*(torch.cat(parts, -2) for parts in zip(self._spectra, spectra, strict=True)))
        hops = max(0, spectra.frames.shape[-2] - 1 - 2 * self._spread)
        self._spectra = Spectra(*(part[..., hops:, :] for part in spectra))
        if not hops:
            return estimates[..., :0]
        y = divide(spectra, self._exponent, self._spread)[..., : self._owed]
        self._owed -= y.shape[-1]
        return y
