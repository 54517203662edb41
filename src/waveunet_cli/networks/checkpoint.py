"""A checkpoint is a configuration and its weights in one safetensors file; nothing in it can run code.

The configuration stands as JSON under the metadata key "config": the family of the network, then the fields of the
family's dataclass. Loading is strict: unknown or missing fields, names and shapes are listed and refused. Only a field
that came after a family's first checkpoints (metadata "later") may be missing, and is while it has its default.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.files import whole_file
from waveunet_cli.networks.family import FAMILIES, Config, Model, build_network, config_class, family_of


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
        raise OSError(f"{path}: cannot be written ({error})") from error


def load_checkpoint(path: Path, name: str | None = None) -> Model:
    """Read a checkpoint as a Model whose weights are float32.

    Raises CheckpointError if the file is missing, no safetensors file, truncated, without configuration, of an
    unknown family, or if names, shapes or values of the weights do not fit the configuration.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; give a model's name or the path of a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors checkpoint, or a truncated one ({error}); download or convert it again"
        ) from error
    if "config" not in metadata:
        raise CheckpointError(f"{path}: holds weights but no configuration; convert it with 'waveunet models import'")
    config = config_from_json(metadata["config"], where=str(path))
    with torch.device("meta"):  # no time and memory for random weights that are replaced at once
        network = build_network(config)
    load_weights(network, weights, where=str(path))
    return Model(name or path.stem, config, network)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Give a network its weights, as float32; raises CheckpointError listing every name or shape that differs."""
    expected = network.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    reshaped = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & weights.keys())
        if weights[key].shape != expected[key].shape
    ]
    differences = [
        f"{what}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("shape", reshaped))
        if names
    ]
    if differences:
        raise CheckpointError(
            f"{where}: weights do not fit the configuration ({'; '.join(differences)}); "
            "it is a checkpoint of another architecture or a damaged one"
        )
    for key, weight in weights.items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise CheckpointError(f"{where}: {key} holds NaN or infinite values; the checkpoint is damaged")
    network.load_state_dict({key: w.float() if w.is_floating_point() else w for key, w in weights.items()}, assign=True)
    network.requires_grad_(False)


def config_to_json(config: Config) -> str:
    """A configuration as one line of JSON, its family first."""
    return json.dumps({"family": family_of(config), **stated_fields(config)})


def stated_fields(config: Config) -> dict[str, Any]:
    """The fields that a checkpoint states of its configuration: all but later ones that have their default."""
    later = _later(type(config))
    values: dict[str, Any] = asdict(config)  # type: ignore[call-overload]
    return {name: value for name, value in values.items() if name not in later or value != later[name]}


def config_from_json(text: str, where: str) -> Config:
    """The configuration that `config_to_json` wrote; raises CheckpointError for anything else."""
    try:
        values: dict[str, Any] = dict(json.loads(text))
        known = config_class(values.pop("family"))
    except (ValueError, TypeError, KeyError, ConfigError) as error:
        raise CheckpointError(
            f"{where}: unknown network family or unreadable configuration ({error}); "
            f"known families: {', '.join(FAMILIES)}; update waveunet or convert the checkpoint again"
        ) from error
    names = {field.name for field in fields(known)}  # type: ignore[arg-type]
    missing = names - values.keys() - _later(known).keys()
    if missing or values.keys() - names:
        raise CheckpointError(
            f"{where}: configuration fields differ (missing: {sorted(missing)}, "
            f"unknown: {sorted(values.keys() - names)}); update waveunet or convert the checkpoint again"
        )
    try:
        config: Config = known(**{key: _frozen(value) for key, value in values.items()})
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{where}: impossible configuration: {error}") from error
    return config


def _later(known: type) -> dict[str, Any]:
    """The defaults of the fields that a configuration got after the first checkpoints of its family."""
    return {field.name: field.default for field in fields(known) if field.metadata.get("later")}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
