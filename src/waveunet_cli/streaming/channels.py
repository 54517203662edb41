"""How the channels of a file meet those of a model, and what a mixture must be."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.errors import ConfigError

MAX_CHANNELS = 64  # of an array; more are frames in the wrong place
CHECKED_FRAMES = 65_536  # at once; all at once would take a quarter of the memory of the mixture again


class ChannelLayout:
    """How the channels of a file meet those of a model.

    A stereo model takes channels in pairs, (1, 2), (3, 4) …; a lone last or only channel goes in twice, and the mean
    of what comes out is its stem. A mono model takes every channel by itself. Groups run side by side as a batch.
    `file`, `model` and `out` are the channels of the file, of the model and of the stems.
    """

    def __init__(self, file: int, model: int, stereo: bool) -> None:
        """Raises ConfigError unless a file can have so many channels."""
        if not isinstance(file, int | np.integer) or file < 1:
            raise ConfigError(f"channels: found {file!r}; give a whole number from 1 on")
        self.out = 2 if stereo and file == 1 else file
        self.groups = -(-self.out // model)
        self.file = file
        self.model = model

    def at_the_door(self, x: Tensor) -> Tensor:
        """(file channels, t) → (ch, t): a mono file twice if stereo is wanted."""
        return x.expand(self.out, -1) if x.shape[0] < self.out else x

    def to_model(self, x: Tensor) -> Tensor:
        """(ch, t) → (B, C, t)."""
        if self.out < self.groups * self.model:
            x = torch.cat([x, x[-1:]])
        return x.reshape(self.groups, self.model, -1)

    def from_model(self, y: Tensor) -> Tensor:
        """(B, S, C, t) → (S, ch, t)."""
        sources, frames = y.shape[1], y.shape[-1]
        y = y.transpose(0, 1).reshape(sources, self.groups * self.model, frames)  # (S, B·C, t)
        if self.out < self.groups * self.model:
            y = torch.cat([y[:, : self.out - 1], y[:, self.out - 1 :].mean(1, keepdim=True)], 1)
        return y


def require_mixture(block: NDArray[np.floating], shape: str = "(frames, channels)") -> None:
    """Raise ConfigError unless these are finite floats (frames, channels); `shape` is what was asked for, in words."""
    block = np.asarray(block)
    if block.ndim != 2 or not 1 <= block.shape[1] <= MAX_CHANNELS:
        raise ConfigError(
            f"a mixture has 1 to {MAX_CHANNELS} channels and is {shape}, found {block.shape}; "
            "transpose it if its channels come first"
        )
    if not np.issubdtype(block.dtype, np.floating):
        raise ConfigError(
            f"a mixture's samples are floats within ±1, found {block.dtype}; divide them by their full scale"
        )
    parts = (block[start : start + CHECKED_FRAMES] for start in range(0, len(block), CHECKED_FRAMES))
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        if not all(np.isfinite(part.astype(np.float32, copy=False)).all() for part in parts):
            raise ConfigError("the mixture holds NaN or infinite samples, or some beyond 3e38; repair it first")
