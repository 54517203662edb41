"""Random weights of the ports that save with torch, under the names those programs give them."""

import torch

from waveunet_cli.networks.family import build_network


def state_of(config):
    """A random state dict of the network of a configuration."""
    torch.manual_seed(0)
    return build_network(config).state_dict()


def mss_state(config):
    """The same with MSS_WaveUNet's names."""
    state = {}
    for name, weight in state_of(config).items():
        part, *rest = name.split(".")
        if part == "down":
            state[f"net.{rest[0]}.net.0.{rest[1]}"] = weight
        elif part == "up":
            state[f"net.{config.levels + 1 + int(rest[0])}.conv.0.{rest[1]}"] = weight
        else:
            state[f"separation.0.{rest[0]}"] = weight
    return state
