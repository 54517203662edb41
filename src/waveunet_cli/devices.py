"""Where and in which precision a network runs, and what to do when it does not fit there."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from waveunet_cli.errors import DeviceError
from waveunet_cli.geometry import Window
from waveunet_cli.windows import shorter

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Placement:
    """A device, the precision of the convolutions there, and whether the CPU may be taken instead."""

    device: torch.device
    dtype: torch.dtype
    may_leave: bool

    def __str__(self) -> str:
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}"


def place(device: str = "auto", precision: str = "auto") -> Placement:
    """Choose where to run: `device` is auto, cpu, cuda[:N] or mps; `precision` auto, float32, bfloat16 or float16.

    auto takes CUDA, then Apple's GPU, then the CPU; and bfloat16 where the processor has instructions for it
    (at a cost below 0.02 dB, see the README), else float32. Raises DeviceError for what this machine lacks.
    """
    chosen = _device(device)
    return Placement(chosen, _dtype(precision, chosen), may_leave=device == "auto" and chosen.type != "cpu")


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,2})?", name):  # torch takes a long N modulo 256
        raise DeviceError(f"{name!r}: no such device; choose auto, cpu, cuda, cuda:N or mps")
    device = torch.device(name)
    cuda_devices = torch.cuda.device_count() if device.type == "cuda" else 0
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < cuda_devices,
        "mps": torch.backends.mps.is_available(),
    }
    if not available[device.type]:
        found = f", {cuda_devices} CUDA devices found" if device.type == "cuda" else ""
        raise DeviceError(f"{name}: this machine or this build of torch has no such device{found}; try --device cpu")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if _has_native_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise DeviceError(f"{name}: no such precision; choose auto, {', '.join(PRECISIONS)}")
    if name == "float16" and device.type == "cpu":
        raise DeviceError("float16: processors are slow at it; choose --precision float32 or bfloat16")
    return PRECISIONS[name]


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # torch knows, but has no public name for it; without an answer, float32 is always right.
        asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
        return any(ask() for ask in asked if ask is not None)
    return False


class FrugalNetwork:
    """A network (B, C, window.input) → (B, S, C, window.output) that goes on when its device's memory runs out.

    Where a batch does not fit, it is halved; then the window, where its geometry allows a shorter one; then, if the
    placement may leave its device, the CPU takes over. What did not fit once is not tried again, and `report` is
    told in words. torch.OutOfMemoryError remains only when nothing is left to try. Input and output stay on the
    device of the input.
    """

    def __init__(self, network: nn.Module, window: Window, placement: Placement, report: Callable[[str], None]) -> None:
        self._window = window
        self._device = placement.device
        self._dtype = placement.dtype
        self._may_leave = placement.may_leave
        self._report = report
        self._network = network.to(self._device)
        self._limit_frames: int | None = None  # over all windows of a batch

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t − 2·context)."""
        if self._limit_frames is None or x.shape[0] * x.shape[-1] <= self._limit_frames:
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
            y: Tensor = self._network(x.to(self._device))
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
            self._report(f"{self._device}: out of memory, going on with smaller batches and windows")
        else:
            self._may_leave = False
            self._report(f"{self._device}: out of memory even for one window, going on with the CPU")
            self._device, self._dtype, self._limit_frames = torch.device("cpu"), torch.float32, None
            self._network = self._network.to(self._device)
