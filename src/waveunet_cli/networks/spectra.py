"""Short-time spectra, and the way back by overlap and addition.

With frames of n samples every h samples and the Hann window w, overlap-add with the window

    d[i] = w[i] / Σ_k w[i + k·h]²      makes      Σ_k w[i + k·h] · d[i + k·h] = 1,

so an unchanged spectrum gives back the signal wherever all frames that touch it are there: all but the first and the
last n − h samples, the context. For h = n/4 the sum of squares is 3/2 everywhere, so d is w times 2/3.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Spectra:
    """The transform of frames of `fft_frames` samples, one every `step_frames`."""

    fft_frames: int
    step_frames: int

    def of(self, x: Tensor) -> Tensor:
        """(…, t) → complex (…, n, bins)."""
        frames = x.float().unfold(-1, self.fft_frames, self.step_frames)  # (…, n, fft_frames)
        spectra: Tensor = torch.fft.rfft(frames * self._hann(x.device))
        return spectra

    def signal(self, spectra: Tensor) -> Tensor:
        """Complex (…, n, bins) → (…, t); what begins and ends t for a context lacks the frames beyond."""
        fft, step = self.fft_frames, self.step_frames
        overlap = -(-fft // step)  # frames that touch a sample, at most
        window = F.pad(self._hann(spectra.device), (0, overlap * step - fft)).view(overlap, step)
        dual = (window / window.square().sum(0)).flatten()[:fft]  # Σ_k w[i + k·h]², 0 ≤ i < h
        frames = torch.fft.irfft(spectra, fft).mul_(dual)  # (…, n, fft)
        frames = F.pad(frames, (0, overlap * step - fft)) if fft % step else frames
        frames = frames.view(*frames.shape[:-1], overlap, step)  # (…, n, overlap, step)
        n = frames.shape[-3]
        steps = frames.new_zeros(*frames.shape[:-3], n + overlap - 1, step)
        for k in range(overlap):
            steps[..., k : k + n, :] += frames[..., k, :]
        return steps.flatten(-2)[..., : (n - 1) * step + fft]

    def _hann(self, device: torch.device) -> Tensor:
        return torch.hann_window(self.fft_frames, device=device)
