"""How many frames of audio a CPU trains on in a second: our path beside plain Conv1d modules.

    python benchmarks/training.py [--filters 24] [--hop-frames 98304] [--rounds 5]

All train an M5-HighSR of random weights with Adam on the same random samples in float32, a step each in turn, so that
whatever else the machine does falls on all. "Frames" are those of the output, which the loss sees. The plain modules
run in our window and, as the paper did, in windows of 16 389 frames. Where the processor multiplies bfloat16 itself,
our path in bfloat16 comes last. On a busy machine: chrt -f 10 python …
"""

import argparse
import time
from dataclasses import dataclass, field, replace
from statistics import median

import torch
from plain import PlainWaveUNet
from torch import nn

from waveunet_cli.devices import choose_placement
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.geometry import Window
from waveunet_cli.networks.wave_u_net.config import M5_HIGHSR
from waveunet_cli.networks.wave_u_net.network import crop
from waveunet_cli.training.network import Trainable


@dataclass
class Path:
    """One way to train."""

    name: str
    network: nn.Module
    window: Window
    batch: int
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-4)

    def step(self) -> None:
        """Train on one batch."""
        sources = 0.1 * torch.randn(self.batch, 2, M5_HIGHSR.channels, self.window.input)
        started = time.perf_counter()
        estimate = self.network(sources.sum(1))
        self.optimizer.zero_grad(set_to_none=True)
        (estimate - crop(sources, estimate.shape[-1])).square().mean().backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - started)

    @property
    def frames_per_second(self) -> float:
        """Of the median step; the first one warms up."""
        return self.batch * self.window.output / median(self.seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, default=24, help="F_c")
    parser.add_argument("--hop-frames", type=int, default=98_304, help="of our window")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each")
    asked = parser.parse_args()
    config = replace(M5_HIGHSR, filters=asked.filters)
    short, long = config.window(), config.window(asked.hop_frames)
    paths = [
        Path("plain, the paper's window", PlainWaveUNet(config), short, 4),
        Path("plain, our window", PlainWaveUNet(config), long, 1),
        Path("ours", Trainable(build_network(config)), long, 1),
    ]
    if choose_placement("cpu").dtype == torch.bfloat16:
        paths.append(Path("ours, bfloat16", Trainable(build_network(config), torch.bfloat16), long, 1))
    for _ in range(asked.rounds + 1):
        for path in paths:
            path.step()
    print(f"M5-HighSR, F_c = {asked.filters}, {torch.get_num_threads()} threads, median of {asked.rounds} steps each")
    print(f"{'':<27}{'window':>9}{'frames/s':>10}{'s of audio/s':>14}{'ratio':>7}{'ratio':>7}")
    for path in paths:
        speed = path.frames_per_second
        ratios = "".join(f"{speed / other.frames_per_second:>7.2f}" for other in paths[:2])
        seconds = speed / config.sample_rate
        print(f"{path.name:<27}{path.window.output:>9}{speed:>10,.0f}{seconds:>14.2f}{ratios}")


if __name__ == "__main__":
    main()
