"""Checkpoints of other programs, turned into ours: what is read is data, never code.

One file a format; this one recognises them.
"""

from pathlib import Path
from typing import Any, Literal

import torch

from waveunet_cli.errors import CheckpointError
from waveunet_cli.importers import keras_port, mss, pytorch_port, tf1
from waveunet_cli.importers.converted import Converted, Options
from waveunet_cli.importers.sidecar import read_sidecar
from waveunet_cli.importers.torch_file import is_torch_file, read_state
from waveunet_cli.networks.checkpoint import load_weights, save_checkpoint
from waveunet_cli.networks.family import build_network

__all__ = ["Converted", "convert", "import_checkpoint", "read_sidecar"]


def convert(
    path: Path,
    *,
    padding: Literal["valid", "same"] = "valid",
    activation: Literal["tanh", "linear"] = "tanh",
    sample_rate: int | None = None,
    sources: tuple[str, ...] | None = None,
    residual: str | None = None,
    window_frames: int | None = None,
    stride: int | None = None,
) -> Converted:
    """Read a checkpoint of another program; the options say what its tensors cannot tell.

    padding          of a TensorFlow checkpoint's network, as is
    activation       that of its output
    sample_rate      Hz the network works at
    sources          stem names in the order of the outputs
    residual         the source for what lies above the model's Nyquist frequency
    window_frames    output frames of a network that runs at its own window only
    stride           of a PyTorch port's network with learned resampling

    Raises CheckpointError if the file is missing, unreadable, damaged, of no known format, or not one of the networks.
    """
    options = Options(
        padding=padding,
        activation=activation,
        sample_rate=sample_rate,
        sources=sources,
        residual=residual,
        window_frames=window_frames,
        stride=stride,
    )
    try:
        converted = _read(path, options)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); check the path and its permissions") from error
    with torch.device("meta"):  # only to compare every name and shape
        network = build_network(converted.config)
    load_weights(network, converted.weights, where=str(path))
    return converted


def import_checkpoint(path: Path, destination: Path, **options: Any) -> Converted:
    """Convert a checkpoint, with the options of `convert`, and write it to `destination`, a .safetensors file."""
    converted = convert(path, **options)
    save_checkpoint(destination, converted.config, converted.weights)
    return converted


def _read(path: Path, options: Options) -> Converted:
    prefix = tf1.find_prefix(path)
    if prefix is not None:
        return tf1.convert(prefix, options)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such checkpoint; give a PyTorch or .h5 file, or a TensorFlow checkpoint's .index or folder"
        )
    if keras_port.recognises(path):
        return keras_port.convert(path, options)
    if is_torch_file(path):
        weights = read_state(path)
        if pytorch_port.recognises(weights):
            return pytorch_port.convert(weights, path, options)
        if mss.recognises(weights):
            return mss.convert(weights, path, options)
        raise CheckpointError(
            f"{path}: weights of an unknown network, such as {next(iter(weights))}; "
            "known are the PyTorch port's and MSS_WaveUNet's"
        )
    raise CheckpointError(
        f"{path}: of no known format; TensorFlow 1 checkpoints, PyTorch files and Keras .h5 files can be converted"
    )
