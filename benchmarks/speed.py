"""How fast the network runs against plain Conv1d modules in the published window, in one run, by turns.

    python benchmarks/speed.py [--model M5-HighSR] [--rounds 5]

Prints how many seconds of audio a second gives, medians over the rounds, and the ratio to the first row. All rows
compute the same function; the second column of the check is their largest difference on noise.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from plain import REFERENCE_INPUT_FRAMES, PlainWaveUNet
from torch import Tensor

from waveunet_cli.devices import choose_placement
from waveunet_cli.networks.wave_u_net.carried import CarriedNetwork
from waveunet_cli.networks.wave_u_net.config import VARIANTS, WaveUNetConfig
from waveunet_cli.networks.wave_u_net.network import WaveUNet

SECONDS = 12.0  # computed a round by the fast paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="M5-HighSR", choices=[name for name in VARIANTS if name >= "M5"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = VARIANTS[options.model]
    network = WaveUNet(config).eval()
    plain = _plain_of(network)
    print(f"{options.model}, {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads")
    print(f"torch {torch.__version__}, native bfloat16: {choose_placement('cpu').dtype == torch.bfloat16}")

    rows: dict[str, Callable[[], float]] = {"plain Conv1d, 147 443 → 16 389": _windows(plain, config, 1)}
    rows["own network, same window"] = _windows(network, config, 1)
    rows["own network, 10 s windows"] = _windows(network, config, 10 * config.sample_rate)
    rows["carried, float32"] = _carried(network, torch.float32)
    if choose_placement("cpu").dtype == torch.bfloat16:
        rows["carried, bfloat16"] = _carried(network, torch.bfloat16)
    x = 0.1 * torch.randn(1, config.channels, REFERENCE_INPUT_FRAMES)
    with torch.inference_mode():
        print(f"largest difference plain − own: {(plain(x) - network(x)).abs().max():.1e}")
        for run in rows.values():
            run()  # memory is touched, kernels are chosen
        speeds: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(options.rounds):
            for name, run in rows.items():
                start = time.perf_counter()
                seconds = run()
                speeds[name].append(seconds / (time.perf_counter() - start))
    first = median(speeds[next(iter(rows))])
    for name, values in speeds.items():
        print(f"{name:32s} {median(values):6.2f} × real time   {median(values) / first:5.2f} × plain")


def _plain_of(network: WaveUNet) -> PlainWaveUNet:
    """The same weights in plain modules."""
    plain = PlainWaveUNet(network.config).eval()
    state = network.state_dict()
    mine = {
        **{key: value for key, value in state.items() if key.startswith(("down.", "up.", "output."))},
        **{f"down.{network.config.levels}.{part}": state[f"bottleneck.{part}"] for part in ("weight", "bias")},
        **{f"mix.{i}": state[f"upsample.{i}"][:, None] for i in range(network.config.levels)},
    }
    plain.load_state_dict(mine)
    return plain


def _windows(network: Callable[[Tensor], Tensor], config: WaveUNetConfig, output_frames: int) -> Callable[[], float]:
    window = config.window(output_frames)
    frames = REFERENCE_INPUT_FRAMES if output_frames == 1 else window.input
    x = 0.1 * torch.randn(1, config.channels, frames)
    return lambda: network(x).shape[-1] / config.sample_rate


def _carried(network: WaveUNet, dtype: torch.dtype) -> Callable[[], float]:
    config = network.config
    carried = CarriedNetwork(network, dtype)
    stream, blocks = carried.stream(), max(1, round(SECONDS * config.sample_rate / carried.block))
    x = 0.1 * torch.randn(1, config.channels, blocks * carried.block)

    def run() -> float:
        stream.push(x)
        return x.shape[-1] / config.sample_rate

    return run


if __name__ == "__main__":
    main()
