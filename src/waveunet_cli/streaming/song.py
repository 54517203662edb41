"""One song on its way through a model: the whole data path on one page.

    block (t, ch) at the file's rate
      → channels    (B, C, t)       groups of as many channels as the model has                     channels.py
      → resample    (B, C, t')      to the model's rate                                             resample.py
      → network     (B, S, C, t')   block by block: layers that carry their state on a CPU,         engine.py
                                    overlapping context windows elsewhere
      → masks       (B, S, C, t')   of masked models: shares of the mixture instead of estimates    masks.py
      → channels    (S, ch, t')     back to the file's channels
      → resample    (S, ch, t)      back to the file's rate
      → treble      (S, ch, t)      of masked models: what lies above the model's band is shared    treble.py
      → stems       {stem: (t, ch)}                                                                 stems.py

The stem named `residual` of a model whose sources sum to the mixture is the mixture minus the others, at the file's own
rate. So the stems sum to the mixture; and of a model without masks all that lies above its band is in the residual.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.devices import compute_on
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Config
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.streaming.channels import ChannelLayout
from waveunet_cli.streaming.masks import MaskedStream
from waveunet_cli.streaming.resample import Resampler
from waveunet_cli.streaming.stems import StemSelection
from waveunet_cli.streaming.treble import Treble
from waveunet_cli.streaming.windows import Stream

BLOCK_FRAMES = 65_536  # of the file that pass through all stages at once, however long the blocks are that come
MOST_BLOCK_SAMPLES = 1 << 20  # of all channels, at the file's rate or the model's: fewer frames if one is extreme
MOST_NETWORK_SAMPLES = 1 << 17  # of all channels and sources, that pass through the stages after the network at once

Audio = NDArray[np.float32]


class Engine(Protocol):
    """A network ready to run as streams: `stream(B)` gives one for B signals side by side, before masks."""

    def stream(self, size: int = 1) -> Stream: ...


def open_stream(
    engine: Engine, config: Config, selection: StemSelection, layout: ChannelLayout, file_hz: int, device: torch.device
) -> "SongStream":
    """Put the stages together for one song at `file_hz`, with channels as `layout` says.

    Raises ConfigError for a rate that cannot be.
    """
    down = Resampler(file_hz, config.sample_rate, device)
    up = Resampler(config.sample_rate, file_hz, device)
    network, treble = engine.stream(layout.groups), None
    if is_masked(config):
        network = MaskedStream(network)
        if file_hz > config.sample_rate:
            treble = Treble(file_hz, config.sample_rate)
    highest_hz = max(file_hz, config.sample_rate)
    most_frames = max(1, MOST_BLOCK_SAMPLES * file_hz // (highest_hz * layout.out))
    return SongStream(layout, down, network, up, treble, selection, device, min(BLOCK_FRAMES, most_frames))


def is_masked(config: Config) -> bool:
    """Whether the network's estimates only decide the shares of the mixture that the stems get."""
    return isinstance(config, WaveUNetConfig) and config.output == "masked"


class SongStream:
    """Push blocks (frames, channels), flush; get blocks of stems, in all as many frames as were pushed.

    They are computed in the thread of the device, whatever thread calls: `block_frames` at once, so that other songs
    have their turn within a long block, and Ctrl-C ends it.
    """

    def __init__(
        self,
        layout: ChannelLayout,
        down: Resampler,
        network: Stream,
        up: Resampler,
        treble: Treble | None,
        selection: StemSelection,
        device: torch.device,
        block_frames: int = BLOCK_FRAMES,
    ) -> None:
        """The stages, which `block_frames` of the file pass at once.

        `network` takes `layout.groups` signals on `device`; with `treble` it must be a MaskedStream.
        """
        self._layout = layout
        self._down = down
        self._network = network
        self._up = up
        self._treble = treble
        self._selection = selection
        self._device = device
        self._block_frames = block_frames
        self._mixture = torch.zeros(layout.out, 0)  # (ch, t) whose stems have not come out yet
        self._ended = False

    def push(self, block: Audio) -> dict[str, Audio]:
        """(frames, channels) → {stem: (frames', channels)}; frames' may be 0. Raises ConfigError after flush."""
        size = self._block_frames
        parts = [block[start : start + size] for start in range(0, max(1, len(block)), size)]
        return self._joined([compute_on(self._device, self._push, part) for part in parts])

    def flush(self) -> dict[str, Audio]:
        """The rest of the song: {stem: (frames', channels)}."""
        return compute_on(self._device, self._flush)

    def _push(self, block: Audio) -> dict[str, Audio]:
        if self._ended:
            raise ConfigError("this song has ended with flush; open another stream for the next song")
        mixture = self._layout.at_the_door(torch.from_numpy(np.ascontiguousarray(block.T, dtype=np.float32)))
        self._mixture = torch.cat([self._mixture, mixture], -1)  # (ch, t)
        x = self._layout.to_model(mixture)  # (B, C, t)
        if self._device.type == "cuda":
            x = x.pin_memory().to(self._device, non_blocking=True)
        y = self._network.push(self._down.push(x.to(self._device)))  # (B, S, C, t')
        return self._stems_of(y)

    def _flush(self) -> dict[str, Audio]:
        started = self._push(np.zeros((0, self._layout.file), np.float32))  # else a song of no blocks has no shape
        before = self._network.push(self._down.flush())
        rest = self._stems_of(torch.cat([before, self._network.flush()], -1))
        last = self._emit(self._up.flush())
        self._ended = True
        return self._joined([started, rest, last])

    def _stems_of(self, y: Tensor) -> dict[str, Audio]:
        """(B, S, C, t') → {stem: (frames, channels)}: of many channels fewer frames at once."""
        most_frames = max(1, MOST_NETWORK_SAMPLES // (y.shape[0] * y.shape[1] * y.shape[2]))
        return self._joined([self._emit(self._up.push(self._needed(part))) for part in torch.split(y, most_frames, -1)])

    def _joined(self, parts: list[dict[str, Audio]]) -> dict[str, Audio]:
        if len(parts) == 1:
            return parts[0]
        return {stem: np.concatenate([part.pop(stem) for part in parts]) for stem in self._selection.stems}

    def _needed(self, y: Tensor) -> Tensor:
        """(B, S, C, t') → the sources to be resampled (S', ch, t'), and for the treble, last, all sources together."""
        needed = y[:, list(self._selection.estimated)]
        if self._treble is None:
            return self._layout.from_model(needed)
        return self._layout.from_model(torch.cat([needed, y.sum(1, keepdim=True)], 1))

    def _emit(self, y: Tensor) -> dict[str, Audio]:
        frames = min(y.shape[-1], self._mixture.shape[-1])  # resampling twice may give a few frames too many
        mixture, self._mixture = self._mixture[:, :frames], self._mixture[:, frames:]
        y = y[..., :frames].cpu()
        if self._treble is not None:
            y = self._with_treble(self._treble, mixture, y[:-1], y[-1])
        stems = self._selection.select(mixture, y)
        return {stem: np.ascontiguousarray(audio.T.numpy()) for stem, audio in stems.items()}

    def _with_treble(self, treble: Treble, mixture: Tensor, sources: Tensor, band: Tensor) -> Tensor:
        """Add to the sources (S', ch, t) their shares of what the mixture (ch, t) has beyond the band (ch, t)."""
        assert isinstance(self._network, MaskedStream)
        for shares in self._network.take_top_shares():  # (B, S, n)
            chosen = shares[:, list(self._selection.estimated), None]  # (B, S', 1, n)
            if len(chosen) == 1:
                treble.add(chosen[0].cpu())  # (S', 1, n): one share for all channels
            else:
                per_channel = chosen.expand(-1, -1, self._layout.model, -1)  # (B, S', C, n)
                treble.add(self._layout.from_model(per_channel).cpu())
        frames = mixture.shape[-1]
        return sources if not frames else torch.addcmul(sources, treble.gains(frames), mixture - band)
