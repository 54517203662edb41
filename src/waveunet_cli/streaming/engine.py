"""The network as a stage: which way it runs on a device, and how much of a song at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn

from waveunet_cli.devices import Placement, placed
from waveunet_cli.events import Event
from waveunet_cli.networks.family import Model
from waveunet_cli.networks.folded_u_net import FoldedSpleeter
from waveunet_cli.networks.geometry import Window
from waveunet_cli.networks.spleeter import MaskExtension, Spleeter
from waveunet_cli.networks.wave_u_net.carried import CarriedNetwork
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.networks.wave_u_net.network import WaveUNet
from waveunet_cli.streaming.frugal import MOST_SIGNALS, FrugalNetwork
from waveunet_cli.streaming.song import Engine, is_masked
from waveunet_cli.streaming.spectra import FoldedMasks, SpectraNetwork
from waveunet_cli.streaming.windows import Stream, WindowedStream

GPU_WINDOW_SECONDS = 8.0
GPU_BATCH = 4


@dataclass(frozen=True)
class WindowedNetwork:
    """A network that runs in overlapping windows, `batch` of them at once."""

    network: FrugalNetwork
    window: Window
    sources: int
    batch: int

    def stream(self, size: int = 1) -> WindowedStream:
        """A stream of signals side by side, whose number the first block tells."""
        return WindowedStream(self.network, self.window, self.sources, self.batch)


@dataclass(frozen=True)
class FrugalCarried:
    """A network that carries its layers' state from block to block, for so many signals as there is memory for; for
    more of them it runs in windows of WINDOW_FRAMES, one signal after the other, which computes their context again."""

    network: CarriedNetwork

    def stream(self, size: int = 1) -> Stream:
        """A stream of `size` signals side by side."""
        if size <= MOST_SIGNALS:
            return self.network.stream(size)
        return WindowedStream(self.network.windows, self.network.window, self.network.sources)


def new_engine(
    model: Model,
    placement: Placement,
    segment_seconds: float | None,
    on_event: Callable[[Event], None],
    mask_extension: MaskExtension = "average",
) -> Engine:
    """A valid Wave-U-Net carries its layers' state from block to block on a CPU; Spleeter runs in blocks of spectra,
    whose length is its own; all else runs in windows.

    Folds kernels, which takes a moment. `segment_seconds` of music are computed at once; None takes what is fast.
    """
    config, network = model.config, model.network
    on_cpu = placement.device.type == "cpu"
    if on_cpu and isinstance(network, WaveUNet) and network.config.padding == "valid":
        block_frames = None if segment_seconds is None else round(segment_seconds * config.sample_rate)
        return FrugalCarried(CarriedNetwork(placed(network, placement.device), placement.dtype, block_frames))
    if isinstance(network, Spleeter):
        if on_cpu:  # no other device takes over: the kernels may take the network's place in memory
            folded = FoldedSpleeter(network, placement.dtype)
            masks = FrugalNetwork(folded, config.window(), placement, on_event)
        else:
            masks = FrugalNetwork(network, config.window(), placement, on_event, FoldedMasks(placement))
        return SpectraNetwork(masks, network.config, mask_extension)
    if segment_seconds is None and not on_cpu:
        segment_seconds = GPU_WINDOW_SECONDS
    hop = None if segment_seconds is None else max(1, round(segment_seconds * config.sample_rate))
    window, batch = config.window(hop), 1 if on_cpu else GPU_BATCH
    if isinstance(config, WaveUNetConfig) and is_masked(config):  # masks are a stage of their own
        window = replace(config, output="difference").window(hop)
        frugal = FrugalNetwork(network, window, placement, on_event, _estimates)
    else:
        frugal = FrugalNetwork(network, window, placement, on_event)
    return WindowedNetwork(frugal, window, len(config.sources), batch)


def _estimates(network: nn.Module, x: Tensor) -> Tensor:
    return cast(WaveUNet, network).estimates(x)
