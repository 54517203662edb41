"""The state of a training in one safetensors file, written whole or not at all.

Its tensors are `weights.…`, `average.…` (moving average), `best.…` (of the best validation) and `first.…`, `second.…`
(the optimizer's moments; Muon keeps no second ones of kernels). Its metadata are the progress, the architecture, and a
description of the recipe and its songs.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from waveunet_cli.errors import CheckpointError
from waveunet_cli.files import whole_file
from waveunet_cli.networks.checkpoint import load_weights, opened
from waveunet_cli.networks.family import Config, config_to_json
from waveunet_cli.text import one_line, shown
from waveunet_cli.training.schedule import PAPER_STAGES, Progress

Weights = dict[str, Tensor]
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}  # here → in torch


@dataclass
class State:
    """What a training changes. `average` and `best` are None where there is none (yet)."""

    network: nn.Module
    optimizer: torch.optim.AdamW
    progress: Progress
    average: Weights | None = None
    best: Weights | None = None

    @property
    def current(self) -> Weights:
        """The weights to judge and to use now: the moving average, if there is one."""
        return self.average if self.average is not None else self.network.state_dict()


def copy_of(weights: Mapping[str, Tensor]) -> Weights:
    """Weights that no step changes any more."""
    return {name: w.detach().clone() for name, w in weights.items()}


def update_average(state: State, keep: float) -> None:
    """Move the average towards the weights. It starts short, so that the first steps do not weigh on it for long."""
    if state.average is None:
        return
    step = state.progress.step
    for name, w in state.network.state_dict().items():
        if w.is_floating_point():
            state.average[name].lerp_(w, 1 - min(keep, (1 + step) / (10 + step)))
        else:
            state.average[name].copy_(w)


def save_state(path: Path, config: Config, state: State, about: Mapping[str, object]) -> None:
    """Write all that is needed to go on; `about` describes the recipe (see resume.py).

    Raises CheckpointError if it cannot; the file before stays as it was.
    """
    tensors = {f"weights.{name}": w for name, w in state.network.state_dict().items()}
    for label, weights in (("average", state.average), ("best", state.best)):
        tensors |= {f"{label}.{name}": w for name, w in (weights or {}).items()}
    for name, parameter in state.network.named_parameters():
        moments = state.optimizer.state.get(parameter, {})
        tensors |= {f"{label}.{name}": moments[key] for label, key in MOMENTS.items() if key in moments}
    metadata = {
        "config": config_to_json(config),
        "progress": json.dumps(asdict(state.progress)),
        "optimizer_steps": str(_optimizer_steps(state.optimizer)),
        "recipe": json.dumps(about),
    }
    try:
        # Without the copies, parameters that share memory would be refused.
        contents = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        with whole_file(path) as temporary:
            save_file(contents, temporary, metadata)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: cannot be written ({one_line(error)}); the state saved before is intact: correct that and add "
            "--resume"
        ) from error


def require_state(path: Path) -> None:
    """Raise CheckpointError if there is no such file."""
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file, so there is no training to go on with; leave out --resume, or name the folder of a "
            "training with --out"
        )


def load_state(path: Path, config: Config, state: State) -> dict[str, object] | None:
    """Put back what `save_state` wrote, and return what it wrote about the recipe; None for states of older versions.

    Raises CheckpointError for a file that is no such state or of another architecture.
    """
    require_state(path)
    try:
        with opened(path) as file:
            metadata = file.metadata() or {}
            # Copied to where torch aligns memory: elsewhere, sums may come out different in the last bit.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: no readable training state ({one_line(error)}); start in another folder"
        ) from error
    if not {"config", "progress", "optimizer_steps"} <= metadata.keys():
        raise CheckpointError(f"{path}: holds no training state; start in another folder")
    try:
        return _put_back(path, config, state, metadata, tensors)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged training state ({one_line(error)}); start in another folder") from error


def _put_back(
    path: Path, config: Config, state: State, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> dict[str, object] | None:
    """Raises CheckpointError for another architecture; ValueError, TypeError and KeyError for what nobody saved."""
    if json.loads(metadata["config"]) != json.loads(config_to_json(config)):
        raise CheckpointError(
            f"{path}: state of another architecture: {_difference(json.loads(metadata['config']), config)}; "
            "resume with the recipe it was started with, or start in another folder"
        )
    parts: dict[str, Weights] = {}
    for key, tensor in tensors.items():
        label, name = key.split(".", 1)
        parts.setdefault(label, {})[name] = tensor
    load_weights(state.network, parts.get("weights", {}), where=str(path))
    shapes = {name: w.shape for name, w in state.network.state_dict().items()}
    for label in parts.keys() & {"average", "best"}:
        if {name: w.shape for name, w in parts[label].items()} != shapes:
            raise ValueError(f"the weights called {label} are of another network")
    for label in parts.keys() & MOMENTS.keys():
        if any(w.shape != shapes[name] for name, w in parts[label].items()):
            raise ValueError(f"the moments called {label} are of another network")
    state.network.requires_grad_(True)
    device = next(state.network.parameters()).device
    state.progress = _progress(metadata["progress"])
    state.average, state.best = (
        {name: w.to(device) for name, w in parts[label].items()} if label in parts else None
        for label in ("average", "best")
    )
    settings = state.optimizer.param_groups[0]
    state.optimizer = type(state.optimizer)(
        state.network.parameters(), lr=0.0, betas=settings["betas"], weight_decay=settings["weight_decay"]
    )
    if "first" in parts:
        steps = torch.tensor(float(metadata["optimizer_steps"]))
        for name, parameter in state.network.named_parameters():
            moments = {key: parts[label][name].to(device) for label, key in MOMENTS.items() if name in parts[label]}
            state.optimizer.state[parameter] = {"step": steps.clone(), **moments}
    about: dict[str, object] | None = json.loads(metadata["recipe"]) if "recipe" in metadata else None
    if not isinstance(about, dict | None):
        raise TypeError(f"its recipe is {shown(about)}")
    return about


def _progress(text: str) -> Progress:
    """Raises ValueError and TypeError for what is none."""
    values = json.loads(text)
    found = Progress(**values)
    for field in fields(Progress):
        value = getattr(found, field.name)
        allowed = (int, float) if field.type is float else (field.type,)
        if type(value) not in allowed or not value >= 0:  # NaN is refused, too
            raise ValueError(f"{field.name} is {shown(value)}")
    if found.stage >= len(PAPER_STAGES):
        raise ValueError(f"stage is {found.stage}")
    return found


def _optimizer_steps(optimizer: torch.optim.AdamW) -> int:
    return max((int(moments["step"]) for moments in optimizer.state.values()), default=0)


def _difference(found: Mapping[str, object], config: Config) -> str:
    default = {field.name: field.default for field in fields(config)}  # type: ignore[arg-type]
    expected = default | json.loads(config_to_json(config))
    found = default | dict(found)
    return ", ".join(
        f"{key} {found.get(key)!r} instead of {expected.get(key)!r}"
        for key in sorted(found | expected)
        if found.get(key) != expected.get(key)
    )
