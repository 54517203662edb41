"""Ratio masks as a stage of a stream; networks/masks.py has the formula."""

import torch
import torch.nn.functional as F
from torch import Tensor

from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.networks.masks import mask
from waveunet_cli.streaming.windows import Stream

MOST_HOPS = 16  # masked at once: spectra take memory


class MaskedStream:
    """A stream whose estimates are masked as they come: the samples that one masked window over all of it gives."""

    def __init__(self, estimates: Stream) -> None:
        """`estimates` begins a mask hop before the song, as a masked window does."""
        self._stream = estimates
        self._silence: Tensor | None = None  # (B, C, HOP)
        self._pending: Tensor | None = None  # (B, S, C, t): estimates, the first HOP before the next output
        self._owed = 0  # frames received and not yet returned; what is returned before the end are whole HOPs
        self._top_shares: list[Tensor] = []  # (B, S, n) each, not yet taken
        self._known = 0  # the first spectrum of all blocks but the first is the last of the block before

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

    def take_top_shares(self) -> list[Tensor]:
        """The shares (B, S, n) at the top of the band, new since the last call: one for every HOP frames from 0 on."""
        taken, self._top_shares = self._top_shares, []
        return taken

    def _mask(self, estimates: Tensor) -> Tensor:
        """Take more estimates (B, S, C, t), return what can be masked by now."""
        if self._pending is not None:
            estimates = torch.cat([self._pending, estimates], -1)
        hops = max(0, estimates.shape[-1] // HOP - 2)
        self._pending = estimates[..., hops * HOP :]
        if not hops:
            return estimates[..., :0]
        parts = []
        for start in range(0, hops, MOST_HOPS):
            part = estimates[..., start * HOP : (min(start + MOST_HOPS, hops) + 2) * HOP]
            sources, top_shares = zip(*(mask(signal) for signal in torch.split(part, 1)), strict=True)  # by turns
            self._top_shares.append(torch.cat(top_shares)[..., self._known :])
            self._known = 1
            parts.append(torch.cat(sources))
        y = torch.cat(parts, -1)[..., : self._owed]
        self._owed -= y.shape[-1]
        return y
