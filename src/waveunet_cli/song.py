"""One song on its way through a model: the whole data path on one page.

    (ch, t)@file → to model channels → resample ↓ → windows → network → back to channels → resample ↑ → stems
    (ch, t)     →  (B, C, t)                     →  (B, S, C, t)      →  (S, ch, t)

For a model of the difference kind the stem named `residual` is the mixture minus the others, at the file's own rate:
so the stems sum to the mixture, and what lies above the model's Nyquist frequency stays in the residual.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.checkpoint import Config
from waveunet_cli.errors import ConfigError
from waveunet_cli.resample import Resampler
from waveunet_cli.windows import Stream

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class StemPlan:
    """Which stems are wanted, and how they come from what the network estimates.

    stems      names to return, in order
    estimated  indices of the sources that must leave the network for them
    sources    names of these
    residual   the source to be made as mixture minus `sources`, if it is wanted and the model is additive
    opposite   the stem whose complement no_<stem> is wanted
    """

    stems: tuple[str, ...]
    estimated: tuple[int, ...]
    sources: tuple[str, ...]
    residual: str | None
    opposite: str | None

    @classmethod
    def of(cls, config: Config, stems: Sequence[str] | None = None, two_stems: str | None = None) -> Self:
        """The plan for all stems, the named ones, or one and its complement; ConfigError for stems it lacks."""
        if stems is not None and two_stems is not None:
            raise ConfigError("stems and two stems exclude each other; give one of them")
        wanted = tuple(stems) if stems is not None else (two_stems,) if two_stems is not None else config.sources
        unknown = [stem for stem in wanted if stem not in config.sources]
        if unknown or not wanted or len(set(wanted)) < len(wanted):
            about = f"{unknown[0]!r} is none" if unknown else f"{', '.join(wanted) or 'none'} are wanted"
            raise ConfigError(
                f"stems: {about} of this model's {', '.join(config.sources)}; name these, once each, or another model "
                "(waveunet models list)"
            )
        residual = config.residual if config.additive and config.residual in wanted else None
        needed = [source for source in config.sources if (source in wanted if residual is None else source != residual)]
        return cls(
            stems=wanted if two_stems is None else (two_stems, f"no_{two_stems}"),
            estimated=tuple(config.sources.index(source) for source in needed),
            sources=tuple(needed),
            residual=residual,
            opposite=two_stems,
        )

    def select(self, mixture: Tensor, estimates: Tensor) -> dict[str, Tensor]:
        """(ch, t) and (len(estimated), ch, t) → {stem: (ch, t)}."""
        found: dict[str, Tensor] = dict(zip(self.sources, estimates, strict=True))
        if self.residual is not None:
            found[self.residual] = mixture - estimates.sum(0)
        if self.opposite is not None:
            found[f"no_{self.opposite}"] = mixture - found[self.opposite]
        return {stem: found[stem] for stem in self.stems}


class SongStream:
    """Push blocks (frames, channels), flush; get blocks of stems, in all as many frames as were pushed."""

    def __init__(
        self,
        stream: Stream,
        plan: StemPlan,
        channels: "ChannelPlan",
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


class ChannelPlan:
    """How the channels of a file meet those of a model.

    A stereo model takes channels in pairs, (1, 2), (3, 4) …; a lone last or only channel goes in twice, and the mean
    of what comes out is its stem. A mono model takes every channel by itself. Groups run side by side as a batch.
    `out` is the number of channels of the stems.
    """

    def __init__(self, file: int, model: int, stereo: bool) -> None:
        self.out = 2 if stereo and file == 1 else file
        self.groups = -(-self.out // model)
        self._model = model

    def at_the_door(self, x: Tensor) -> Tensor:
        """(file channels, t) → (ch, t): a mono file twice if stereo is wanted."""
        return x.expand(self.out, -1) if x.shape[0] < self.out else x

    def to_model(self, x: Tensor) -> Tensor:
        """(ch, t) → (B, C, t)."""
        if self.out < self.groups * self._model:
            x = torch.cat([x, x[-1:]])
        return x.reshape(self.groups, self._model, -1)

    def from_model(self, y: Tensor) -> Tensor:
        """(B, S, C, t) → (S, ch, t)."""
        sources, frames = y.shape[1], y.shape[-1]
        y = y.transpose(0, 1).reshape(sources, self.groups * self._model, frames)  # (S, B·C, t)
        if self.out < self.groups * self._model:
            y = torch.cat([y[:, : self.out - 1], y[:, self.out - 1 :].mean(1, keepdim=True)], 1)
        return y
