"""Where and in which precision a network runs, and in which thread."""

import copy
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from waveunet_cli.errors import DeviceError

CPU = torch.device("cpu")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Network = TypeVar("Network", bound=nn.Module)
P = ParamSpec("P")
T = TypeVar("T")

_here = threading.local()  # `device`: the one that the running thread computes on
_threads: dict[tuple[int, torch.device], ThreadPoolExecutor] = {}  # by process: one that is forked has none yet


@dataclass(frozen=True)
class Placement:
    """A device, the precision of the convolutions there, and whether the CPU may be taken instead."""

    device: torch.device
    dtype: torch.dtype
    may_leave: bool

    def __str__(self) -> str:
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}"


def choose_placement(device: str = "auto", precision: str = "auto") -> Placement:
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


def placed(network: Network, device: torch.device) -> Network:
    """The network itself if it is on that device, else a copy there: others may be using it where it is."""
    here = next((tensor.device for tensor in [*network.parameters(), *network.buffers()]), device)
    same = here.type == device.type and device.index in (None, here.index)
    return network if same else copy.deepcopy(network).to(device)


def compute_on(device: torch.device, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function in the one thread of this process that computes on the device, after those called before.

    Libraries below torch keep, for each thread that computes, a team of threads and 10 MB of buffers. With two teams on
    as many cores as one of them needs, their threads sleep and wake at every layer, which takes half as long again. So
    everything that takes torch long happens in this thread: loading networks, too, and the songs of all Separators.
    What takes long for another reason, such as a download, does not belong here: it would keep them waiting, and nobody
    could interrupt it. The function has as many of torch's threads as whoever calls it. Where there can be no thread,
    such as when the program ends, it is called at once; but a daemon's thread gets RuntimeError then.
    """
    if getattr(_here, "device", None) == device:  # a function that was called so calls another
        return function(*arguments, **options)
    key = os.getpid(), device
    thread = _threads.get(key) or _threads.setdefault(key, ThreadPoolExecutor(1, "compute", _computes_on, (device,)))
    threads = torch.get_num_threads()

    def called() -> T:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return function(*arguments, **options)

    try:
        future = thread.submit(called)
    except RuntimeError:
        _threads.pop(key, None)
        if threading.current_thread().daemon:  # ends with the program, which within torch would abort it
            raise
        return function(*arguments, **options)
    return future.result()


def _computes_on(device: torch.device) -> None:
    _here.device = device
