"""A checkpoint is a configuration and its weights in one safetensors file; nothing in it can run code.

The configuration stands as JSON under the metadata key "config" (see family.py). Loading is strict: unknown or missing
fields, names and shapes are listed and refused, and all of them before a weight is read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from waveunet_cli.errors import CheckpointError
from waveunet_cli.files import whole_file
from waveunet_cli.networks.family import Config, Model, build_network, config_from_json, config_to_json
from waveunet_cli.text import UNSENDABLE, one_line, shown

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
STORED = FLOATS | {"I64": torch.int64}  # what a weight may be; the integers count batches
Header = Mapping[str, tuple[tuple[int, ...], torch.dtype | str]]  # name → shape, kind of number


def save_checkpoint(
    path: Path, config: Config, weights: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint, whole or not at all; floating weights are stored as `dtype` if given."""
    stored = {
        name: (w.to(dtype) if dtype is not None and w.is_floating_point() else w).detach().cpu().contiguous()
        for name, w in weights.items()
    }
    try:
        with whole_file(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # safetensors leaves a file that nobody else may read
            save_file(stored, temporary, metadata={"config": config_to_json(config)})
            temporary.chmod(mode)
    except SafetensorError as error:
        raise OSError(EIO, f"cannot be written: {one_line(error)}", str(path)) from error


def load_checkpoint(path: Path, name: str | None = None) -> Model:
    """Read a checkpoint as a Model whose weights are float32.

    Raises CheckpointError if the file is missing, no safetensors file, truncated, without configuration, of an
    unknown family, or if names, shapes or values of the weights do not fit the configuration.
    """
    if not path.is_file():
        found = "is a folder, not a checkpoint" if path.is_dir() else "no such checkpoint"
        raise CheckpointError(f"{path}: {found}; give a model's name or the path of a .safetensors file")
    try:
        with opened(path) as file:
            metadata = file.metadata() or {}
            if "config" not in metadata:
                raise CheckpointError(
                    f"{path}: holds no configuration of a network, so it is none of waveunet's checkpoints; "
                    "give 'waveunet models import' the other program's own file"
                )
            if "progress" in metadata:
                raise CheckpointError(f"{path}: is the state of a training; give the model.safetensors beside it")
            config = config_from_json(metadata["config"], where=str(path))
            network = network_without_weights(config)
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            header = {
                key: (tuple(s.get_shape()), STORED.get(s.get_dtype(), s.get_dtype())) for key, s in slices.items()
            }
            _require_fit(network, header, str(path))
            # copies, for the whole file stays in memory as long as one of the tensors that lie in it
            weights = {key: _float32(file.get_tensor(key).clone()) for key in slices}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors checkpoint, or a truncated one ({one_line(error)}); "
            "download or convert it again"
        ) from error
    load_weights(network, weights, where=str(path))
    return Model(name or path.stem, config, network)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file as safe_open gives it, whatever its name is. Raises SafetensorError and OSError."""
    with path.open("rb") as file:
        # the library takes no name that is not UTF-8
        name = f"/dev/fd/{file.fileno()}" if UNSENDABLE.search(str(path)) else path
        with safe_open(name, "pt") as tensors:
            yield tensors


def network_without_weights(config: Config) -> nn.Module:
    """The network of a configuration on torch's meta device: shapes that take no memory, for load_weights to fill."""
    with torch.device("meta"):
        return build_network(config)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Give a network its weights, as float32; raises CheckpointError listing every name or shape that differs."""
    _require_fit(network, {name: (tuple(w.shape), w.dtype) for name, w in weights.items()}, where)
    converted = {name: _float32(weight) for name, weight in weights.items()}
    for name, weight in converted.items():
        if weight.is_floating_point() and not _all_finite(weight):
            raise CheckpointError(f"{where}: {name} holds NaN or infinite values; the checkpoint is damaged")
    network.load_state_dict(converted, assign=True)
    network.requires_grad_(False)


def _float32(weight: Tensor) -> Tensor:
    return weight.float() if weight.is_floating_point() else weight


def _all_finite(weight: Tensor) -> bool:
    """Whether no value is NaN or infinite. torch.isfinite takes five times as long and twice the memory."""
    return weight.numel() == 0 or all(bool(extreme.isfinite()) for extreme in weight.aminmax())


def _require_fit(network: nn.Module, found: Header, where: str) -> None:
    """Raise CheckpointError unless weights have the names, shapes and kinds of numbers that a network's have."""
    expected = network.state_dict()
    both = sorted(expected.keys() & found.keys())
    reshaped = [
        f"{name} {found[name][0]} instead of {tuple(expected[name].shape)}"
        for name in both
        if found[name][0] != tuple(expected[name].shape)
    ]
    retyped = [
        f"{name} {found[name][1]}"
        for name in both
        if found[name][1] not in (FLOATS.values() if expected[name].is_floating_point() else [expected[name].dtype])
    ]
    differences = [
        f"{what}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for what, names in (
            ("missing", sorted(expected.keys() - found.keys())),
            ("unexpected", [shown(name).strip("'") for name in sorted(found.keys() - expected.keys())]),
            ("shape", reshaped),
            ("kind of numbers", retyped),
        )
        if names
    ]
    if differences:
        raise CheckpointError(
            f"{where}: weights do not fit the configuration ({'; '.join(differences)}); "
            "it is a checkpoint of another architecture or a damaged one"
        )
