"""A song as a stream of overlapping context windows, for any network.

Window i covers the frames [i·hop − context, i·hop + output + context) of a stream that has zeros before its start
and after its end; of the network's output the first `hop` frames are kept and joined.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from waveunet_cli.networks.geometry import Window, shorter

Network = Callable[[Tensor], Tensor]  # (B, C, window.input) → (B, S, C, window.output)


class Stream(Protocol):
    """Frames in, separated frames out: (B, C, t) → (B, S, C, t'), as many in all as went in.

    Push at least once before flush, if only a block of no frames: it tells B and C.
    """

    def push(self, x: Tensor) -> Tensor: ...
    def flush(self) -> Tensor: ...


class WindowedStream:
    """Runs `network` over the windows of a stream, `batch` of them at once."""

    def __init__(self, network: Network, window: Window, sources: int, batch: int = 1) -> None:
        self._network = network
        self._sources = sources
        self._window = window
        self._batch = batch
        self._pending: Tensor | None = None  # (B, C, t), its first frame `context` frames before the next output
        self._owed = 0  # frames received and not yet returned

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'): what all whole batches of windows give; t' may be 0."""
        self._owed += x.shape[-1]
        pending = x.new_zeros(*x.shape[:-1], self._window.context) if self._pending is None else self._pending
        self._pending = torch.cat([pending, x], -1)
        outputs = []
        while self._pending.shape[-1] >= self._window.input + (self._batch - 1) * self._window.hop:
            outputs.append(self._advance(self._window, self._batch))
        return torch.cat(outputs, -1) if outputs else self._nothing()

    def flush(self) -> Tensor:
        """The rest, (B, S, C, t'). The last window is only as long as it must be."""
        assert self._pending is not None, "push at least once before flush"
        owed = self._owed
        outputs = [self._nothing()]
        while self._owed > 0:
            window = shorter(self._window, self._owed)
            batch = min(self._batch, max(1, self._owed // window.hop))
            missing = window.input + (batch - 1) * window.hop - self._pending.shape[-1]
            self._pending = torch.nn.functional.pad(self._pending, (0, max(0, missing)))
            outputs.append(self._advance(window, batch))
        return torch.cat(outputs, -1)[..., :owed]

    def _advance(self, window: Window, batch: int) -> Tensor:
        assert self._pending is not None
        size, channels, _ = self._pending.shape
        x = self._pending[..., : window.input + (batch - 1) * window.hop]
        x = x.unfold(-1, window.input, window.hop)  # (B, C, n, input)
        x = x.transpose(1, 2).reshape(size * batch, channels, window.input)  # (B·n, C, input)
        y = self._network(x)[..., : window.hop]  # (B·n, S, C, hop)
        y = y.reshape(size, batch, *y.shape[1:]).permute(0, 2, 3, 1, 4).flatten(3)  # (B, S, C, n·hop)
        self._pending = self._pending[..., batch * window.hop :]
        self._owed -= batch * window.hop
        return y

    def _nothing(self) -> Tensor:
        assert self._pending is not None
        size, channels, _ = self._pending.shape
        return self._pending.new_zeros(size, self._sources, channels, 0)
