"""Spleeter's network narrow enough for tests, its tensors as the published program stores them, and what that program
computes: a whole song at once.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.spleeter import MaskExtension, Spleeter, SpleeterConfig, apply_share_, shares_of

SMALL = SpleeterConfig(sample_rate=8000, fft_frames=64, step_frames=16, bins=16, spectra=8, filters=(2, 3))
ELU = replace(SMALL, sources=("vocals", "drums", "bass", "other"), residual="bass", activation="elu", channels=1)


def network_of(config: SpleeterConfig, seed: int = 0) -> Spleeter:
    torch.manual_seed(seed)
    network = build_network(config)
    assert isinstance(network, Spleeter)
    with torch.no_grad():
        for name, weight in network.named_parameters():  # as if it had been trained
            if "norms" in name:
                weight.normal_(1.0 if name.endswith("weight") else 0.0, 0.3)
    return network


@torch.no_grad()
def whole_song(network: Spleeter, x: Tensor, extension: MaskExtension) -> Tensor:
    """(B, C, t) → (B, S, C, t): all spectra of a song, in blocks from the first on; one transform, and one back."""
    config, before = network.config, network.config.fft_frames
    spectra = -(-(before + x.shape[-1]) // config.step_frames)  # those that begin before the song's end
    padded = -(-spectra // config.spectra) * config.spectra
    end = (padded - 1) * config.step_frames + config.fft_frames
    seen = network.spectra.of(F.pad(x, (before, end - before - x.shape[-1])))  # (B, C, padded, all bins)
    blocks = seen[..., : config.bins].abs().split(config.spectra, 2)
    shares = torch.cat([shares_of(network.masks(block), block) for block in blocks], 3)  # (B, S, C, padded, bins)
    sources = torch.stack([apply_share_(seen.clone(), share, extension) for share in shares.unbind(1)], 1)
    return network.spectra.signal(sources)[..., before : before + x.shape[-1]]


def spleeter_tensors(config: SpleeterConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Random variables as the published program names and lays them out."""
    rng = np.random.default_rng(seed)
    down, up = [config.channels, *config.filters], [*config.filters[-2::-1], 1]
    read = [config.filters[-1], *(2 * width for width in up[:-1])]
    tensors = {"global_step": np.array(7, np.int64)}
    counts = dict.fromkeys(("conv2d", "conv2d_transpose", "batch_normalization"), 0)

    def add(layer: str, **parts: tuple[int, ...]) -> None:
        number = counts[layer]
        counts[layer] += 1
        for part, shape in parts.items():
            name = f"{layer}_{number}/{part}" if number else f"{layer}/{part}"
            tensors[name] = rng.uniform(0.1, 0.9, shape).astype(np.float32)

    for _ in config.sources:
        for i, o in pairwise(down):
            add("conv2d", kernel=(5, 5, i, o), bias=(o,))
        add("conv2d", kernel=(4, 4, 1, config.channels), bias=(config.channels,))
        for i, o in zip(read, up, strict=True):
            add("conv2d_transpose", kernel=(5, 5, o, i), bias=(o,))
        for o in (*config.filters, *up):
            add("batch_normalization", gamma=(o,), beta=(o,), moving_mean=(o,), moving_variance=(o,))
    return tensors
