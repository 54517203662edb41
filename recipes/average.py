"""The mean of several checkpoints' weights, which are of one architecture and of one training or its start.

    python recipes/average.py OUT.safetensors CHECKPOINT.safetensors... [--masked [EXPONENT]] [--spread SPECTRA]
        [--gate CONFIDENCE]

Where little music leaves a network sure of what it only learnt by heart, such a mean is better on other music than each
of them (Izmailov et al., Averaging Weights Leads to Wider Optima, 2018). Written as float16.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument(
        "--masked",
        type=float,
        nargs="?",
        const=1.0,
        metavar="EXPONENT",
        help="let it end in ratio masks, whatever it was trained with [default exponent: 1]",
    )
    parser.add_argument(
        "--spread",
        type=int,
        default=0,
        metavar="SPECTRA",
        help="with --masked: so many spectra before and after each count, too [default: 0]",
    )
    parser.add_argument(
        "--gate",
        type=float,
        metavar="CONFIDENCE",
        help="let it turn down for a while what it is less sure of than this [default: as the first checkpoint does]",
    )
    options = parser.parse_args()
    if options.spread and options.masked is None:
        parser.error("--spread is of masks; give --masked, too")
    models = [load_checkpoint(path) for path in options.checkpoints]
    config, states = models[0].config, [model.network.state_dict() for model in models]
    different = [str(path) for path, model in zip(options.checkpoints, models, strict=True) if model.config != config]
    if different:
        parser.error(f"{', '.join(different)}: not of the architecture of {options.checkpoints[0]}; leave them out")
    mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    changes: dict[str, object] = {} if options.gate is None else {"gate": options.gate}
    if options.masked is not None:
        if not (isinstance(config, WaveUNetConfig) and config.additive and config.padding == "valid"):
            parser.error(f"{options.checkpoints[0]}: no valid network of the difference kind; leave --masked out")
        changes |= {"output": "masked", "mask_exponent": options.masked, "mask_spread": options.spread}
    if changes:
        if not isinstance(config, WaveUNetConfig):
            parser.error(f"{options.checkpoints[0]}: no Wave-U-Net of this project's own family; leave --gate out")
        try:
            config = replace(config, **changes)  # type: ignore[arg-type]
        except ConfigError as error:
            parser.error(str(error))
    save_checkpoint(options.out, config, mean, torch.float16)


if __name__ == "__main__":
    main()
