"""What lies above a masked model's band, shared among the stems as the top of the band is.

Above the band every mask is constant over frequency: the mean share in the band's top octave. A mask that is constant
over frequency is a gain, so no spectrum is needed at the file's rate. Let g_n be the share of spectrum n, whose middle
lies at frame n·HOP of the model. Two spectra overlap at a time, and their squared windows are Hann windows, which sum
to 1; so at k = n + r of these hops (0 ≤ r < 1) the gain is

    g(k) = g_n + (g_{n+1} − g_n) · (1 − cos πr) / 2.
"""

import torch
from torch import Tensor

from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP


class Treble:
    """The gains (S, ch, t) at the file's rate, for as many frames as are asked for, in their order."""

    def __init__(self, file_hz: int, model_hz: int) -> None:
        self._hops_per_frame = model_hz / file_hz / HOP
        self._position_frames = 0  # of the next gain, in the file
        self._first = 0  # number of the first of `shares`
        self._shares: Tensor | None = None  # (S, ch, n)

    def add(self, shares: Tensor) -> None:
        """Take the shares (S, ch, n) of the next n spectra."""
        self._shares = shares if self._shares is None else torch.cat([self._shares, shares], -1)

    def gains(self, frames: int) -> Tensor:
        """(S, ch, frames). The shares of the spectra around these frames must have been added."""
        assert self._shares is not None
        k = (self._position_frames + torch.arange(frames, dtype=torch.float64)) * self._hops_per_frame
        n = k.long()
        fade = 0.5 - 0.5 * torch.cos(torch.pi * (k - n).float())  # (frames,)
        last = self._shares.shape[-1] - 1
        before, after = ((n - self._first + i).clamp(0, last) for i in (0, 1))
        gains = self._shares[..., before].lerp(self._shares[..., after], fade)
        self._position_frames += frames
        passed = min(last, int(self._position_frames * self._hops_per_frame) - self._first)
        self._shares, self._first = self._shares[..., passed:], self._first + passed
        return gains
