"""A network that goes on when its device's memory runs out."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from waveunet_cli.devices import CPU, Placement, placed
from waveunet_cli.events import Event, Note
from waveunet_cli.networks.geometry import Window, shorter

MOST_SIGNALS = 4  # computed side by side on a CPU, which has nothing of more; eight channels of a stereo model


class FrugalNetwork:
    """A network (B, C, window.input) → (B, S, C, window.output) that goes on when its device's memory runs out.

    Where a batch does not fit, it is halved; then the window, where its geometry allows a shorter one; then, if the
    placement may leave its device, the CPU takes over. What did not fit once is not tried again, and a Note says so.
    torch.OutOfMemoryError remains only when nothing is left to try. Input and output stay on the device of the input.
    `network` itself stays where it is, since others may use it: what runs elsewhere is a copy.
    """

    def __init__(
        self,
        network: nn.Module,
        window: Window,
        placement: Placement,
        on_event: Callable[[Event], None],
        compute: Callable[[nn.Module, Tensor], Tensor] = lambda network, x: network(x),
    ) -> None:
        """`compute` says how the network is called."""
        self._compute = compute
        self._window = window
        self._device = placement.device
        self._dtype = placement.dtype
        self._may_leave = placement.may_leave
        self._on_event = on_event
        self._original = network
        self._network = placed(network, self._device)
        self._limit_frames: int | None = None  # over all windows of a batch

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t − 2·context)."""
        fits = self._limit_frames is None or x.shape[0] * x.shape[-1] <= self._limit_frames
        if fits and (x.shape[0] <= MOST_SIGNALS or self._device.type != "cpu"):
            try:
                return self._run(x)
            except torch.OutOfMemoryError:
                if not (self._is_divisible(x) or self._may_leave):
                    raise
            self._shrink(x)  # outside `except`: while the error lives, so do the layers that did not fit
        if x.shape[0] > 1:
            half = x.shape[0] // 2
            return torch.cat([self(x[:half]), self(x[half:])])
        hop = self._half_hop(x)
        if hop is None:  # the smallest window there is
            return self._run(x)
        more = self._window.output - self._window.hop  # frames a window gives beyond its hop
        first = self(x[..., : 2 * self._window.context + hop + more])[..., :hop]
        return torch.cat([first, self(x[..., hop:])], -1)

    def _run(self, x: Tensor) -> Tensor:
        reduced = self._dtype != torch.float32
        with (
            torch.no_grad(),
            torch.autocast(self._device.type, self._dtype, enabled=reduced),
            # else float32 would be TF32, with 10 bits of mantissa, in every convolution on CUDA
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            y = self._compute(self._network, x.to(self._device))
        return y.float().to(x.device)

    def _half_hop(self, x: Tensor) -> int | None:
        frames = x.shape[-1] - self._window.input + self._window.hop  # this window's hop
        half = shorter(self._window, frames // 2).hop
        return half if self._window.alignment and half < frames else None

    def _is_divisible(self, x: Tensor) -> bool:
        return x.shape[0] > 1 or self._half_hop(x) is not None

    def _shrink(self, x: Tensor) -> None:
        """Give the next try less to hold, or another device."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self._is_divisible(x):
            self._limit_frames = x.shape[0] * x.shape[-1] - 1
            self._on_event(Note(f"{self._device}: out of memory, going on with smaller batches and windows"))
        else:
            self._may_leave = False
            self._on_event(Note(f"{self._device}: out of memory even for one window, going on with the CPU"))
            self._device, self._dtype, self._limit_frames = CPU, torch.float32, None
            self._network = placed(self._original, self._device)
