"""One song on its way through a model: the whole data path on one page.

    (ch, t)@file → to model channels → resample ↓ → windows → network → back to channels → resample ↑ → stems
    (ch, t)     →  (B, C, t)                     →  (B, S, C, t)      →  (S, ch, t)

For a model of the difference kind the stem named `residual` is the mixture minus the others, at the file's own rate:
so the stems sum to the mixture, and what lies above the model's Nyquist frequency stays in the residual.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.streaming.channels import ChannelLayout
from waveunet_cli.streaming.resample import Resampler
from waveunet_cli.streaming.stems import StemSelection
from waveunet_cli.streaming.windows import Stream

Audio = NDArray[np.float32]


class SongStream:
    """Push blocks (frames, channels), flush; get blocks of stems, in all as many frames as were pushed."""

    def __init__(
        self,
        stream: Stream,
        plan: StemSelection,
        channels: ChannelLayout,
        file_hz: int,
        model_hz: int,
        device: torch.device,
    ) -> None:
        """`stream` takes `channels.groups` signals at `model_hz` on `device`."""
        self._stream = stream
        self._plan = plan
        self._channels = channels
        self._device = device
        self._down = Resampler(file_hz, model_hz, device)
        self._up = Resampler(model_hz, file_hz, device)
        self._mixture = torch.zeros(self._channels.out, 0)  # (ch, t) whose stems have not come out yet

    def push(self, block: Audio) -> dict[str, Audio]:
        """(frames, channels) → {stem: (frames', channels)}; frames' may be 0."""
        mixture = self._channels.at_the_door(torch.from_numpy(np.ascontiguousarray(block.T, dtype=np.float32)))
        self._mixture = torch.cat([self._mixture, mixture], -1)  # (ch, t)
        x = self._channels.to_model(mixture)  # (B, C, t)
        if self._device.type == "cuda":
            x = x.pin_memory().to(self._device, non_blocking=True)
        y = self._stream.push(self._down.push(x.to(self._device)))  # (B, S, C, t')
        return self._emit(self._up.push(self._needed(y)))

    def flush(self) -> dict[str, Audio]:
        """The rest of the song: {stem: (frames', channels)}."""
        before = self._stream.push(self._down.flush())
        y = torch.cat([before, self._stream.flush()], -1)
        return self._emit(torch.cat([self._up.push(self._needed(y)), self._up.flush()], -1))

    def _needed(self, y: Tensor) -> Tensor:
        return self._channels.from_model(y[:, list(self._plan.estimated)])  # (S', ch, t)

    def _emit(self, y: Tensor) -> dict[str, Audio]:
        frames = min(y.shape[-1], self._mixture.shape[-1])  # resampling twice may give a few frames too many
        mixture, self._mixture = self._mixture[:, :frames], self._mixture[:, frames:]
        stems = self._plan.select(mixture, y[..., :frames].cpu())
        return {stem: np.ascontiguousarray(audio.T.numpy()) for stem, audio in stems.items()}
