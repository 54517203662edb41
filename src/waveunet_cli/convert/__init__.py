"""Checkpoints of other programs, turned into ours: what is read is data, never code.

One file a format; this one recognises them.
"""

from pathlib import Path
from typing import Literal

import torch

from waveunet_cli.checkpoint import build_network, load_weights, save_checkpoint
from waveunet_cli.convert import tf1
from waveunet_cli.convert.converted import Converted, Options
from waveunet_cli.errors import CheckpointError

__all__ = ["Converted", "convert", "import_checkpoint"]


def convert(
    path: Path,
    *,
    padding: Literal["valid", "same"] = "valid",
    sample_rate: int | None = None,
    sources: tuple[str, ...] | None = None,
    residual: str | None = None,
) -> Converted:
    """Read a checkpoint of another program; the options say what its tensors cannot tell.

    Raises CheckpointError if the file is missing, damaged, of no known format, or not one of the networks.
    """
    options = Options(padding=padding, sample_rate=sample_rate, sources=sources, residual=residual)
    prefix = tf1.find_prefix(path)
    if prefix is not None:
        converted = tf1.convert(prefix, options)
    else:
        raise CheckpointError(f"{path}: no such checkpoint, or of no known format")
    with torch.device("meta"):  # only to compare every name and shape
        network = build_network(converted.config)
    load_weights(network, converted.weights, where=str(path))
    return converted


def import_checkpoint(
    path: Path,
    destination: Path,
    *,
    padding: Literal["valid", "same"] = "valid",
    sample_rate: int | None = None,
    sources: tuple[str, ...] | None = None,
    residual: str | None = None,
) -> Converted:
    """Convert a checkpoint (see `convert`) and write it to `destination`, a .safetensors file."""
    converted = convert(path, padding=padding, sample_rate=sample_rate, sources=sources, residual=residual)
    save_checkpoint(destination, converted.config, converted.weights)
    return converted
