"""Several trained networks as the towers of one, whose estimates are the mean of theirs, before activation and masks.

    python recipes/join.py OUT.safetensors CHECKPOINT.safetensors:SHARE...

Networks that were trained apart are wrong in different places, so their mean is better than each (Uhlich et al.,
Improving Music Source Separation Based on Deep Neural Networks through Data Augmentation and Network Blending, 2017).
The sources and masks are those of the first checkpoint; another may have one source split further, such as four stems
where the first has vocals and accompaniment. A share of 0 leaves a network out:

    python recipes/join.py vocals.safetensors models/vocals.safetensors:0 models/4stems.safetensors:1

makes four stems' network one of vocals and accompaniment. Where networks do not predict the same sources, the mean is
exact for linear outputs only; with tanh it is near for music well below full scale. Written as float16.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from waveunet_cli.errors import WaveUNetError
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.networks.wave_u_net.network import WaveUNet

# no weight depends on these
MAY_DIFFER = ("sources", "residual", "towers", "window_frames", "mask_exponent", "mask_spread", "gate")


def rows_of(network: WaveUNet) -> dict[str, Tensor]:
    """What makes each source: the rows (C, C + towers · F_c + 1) of the last layer, the bias as the last column."""
    config, c = network.config, network.config.channels
    layer = torch.cat([network.output.weight[..., 0], network.output.bias[:, None]], 1)
    rows = dict(zip(config.sources, torch.split(layer, c), strict=False))
    if config.additive:
        rows[config.sources[-1]] = torch.eye(c, layer.shape[1]) - sum(rows.values())
    return rows


def predicted_by(network: WaveUNet, like: WaveUNetConfig) -> Tensor:
    """The last layer (·, C + towers · F_c + 1) with which `network` predicts the sources that `like` predicts.

    A source that it does not know is the sum of those that `like` does not know.
    """
    rows = rows_of(network)
    predicted = like.sources[: -1 if like.additive else None]
    parts = [part for source, part in rows.items() if source not in like.sources]
    unknown = [source for source in like.sources if source not in rows]
    if len(unknown) > 1 or bool(unknown) != bool(parts):
        raise ValueError(f"sources {', '.join(rows)} cannot be grouped as {', '.join(like.sources)}")
    return torch.cat([rows[source] if source in rows else torch.stack(parts).sum(0) for source in predicted])


def towers_of(network: WaveUNet) -> list[dict[str, Tensor]]:
    """The weights of each tower, by their names in a tower of its own."""
    return [
        {name: w for name, w in tower.state_dict().items() if not name.startswith(("output.", "beside."))}
        for tower in network.towers
    ]


def join(networks: list[WaveUNet], shares: list[float]) -> tuple[WaveUNetConfig, dict[str, Tensor]]:
    """The configuration and the weights of the network whose last layer reads all towers of these.

    Raises ValueError for networks that differ in more than their sources, or whose sources cannot be grouped.
    """
    like = networks[0].config
    kept = [(network, share) for network, share in zip(networks, shares, strict=True) if share]
    towers, layers, c = [], [], like.channels
    for network, share in kept:
        different = [
            f"{name} {value!r} instead of {getattr(like, name)!r}"
            for name, value in asdict(network.config).items()
            if value != getattr(like, name) and name not in MAY_DIFFER
        ]
        if different:
            raise ValueError(f"networks differ in more than their sources: {', '.join(different)}")
        towers += towers_of(network)
        layers.append(share * predicted_by(network, like))
    of_mixture, bias = sum(layer[:, :c] for layer in layers), sum(layer[:, -1] for layer in layers)
    weight = torch.cat([of_mixture, *(layer[:, c:-1] for layer in layers)], 1)
    weights = {"output.weight": weight[..., None], "output.bias": bias, **towers[0]}
    for i, tower in enumerate(towers[1:]):
        weights |= {f"beside.{i}.{name}": w for name, w in tower.items()}
    return replace(like, towers=len(towers)), weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT.safetensors:SHARE")
    options = parser.parse_args()
    paths, shares = [], []
    for text in options.checkpoints:
        path, _, share = text.rpartition(":")
        try:
            shares.append(float(share))
        except ValueError:
            parser.error(f"{text}: no share; write CHECKPOINT.safetensors:0.5")
        paths.append(Path(path))
    if not abs(sum(shares) - 1) < 1e-6:  # so that NaN does not pass
        parser.error(f"the shares add up to {sum(shares):g} instead of 1")
    try:
        networks = [load_checkpoint(path).network for path in paths]
    except WaveUNetError as error:
        parser.error(str(error))
    strangers = [str(path) for path, network in zip(paths, networks, strict=True) if not isinstance(network, WaveUNet)]
    if strangers:
        parser.error(f"{', '.join(strangers)}: no Wave-U-Net of this project's own family; leave them out")
    try:
        save_checkpoint(options.out, *join(networks, shares), torch.float16)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
