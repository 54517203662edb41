"""Checkpoints of the authors' PyTorch port (f90/Wave-U-Net-Pytorch).

Names are `waveunets.<source or ALL>.…`; the sources of separate networks stand in their order.
"""

import re
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.importers.converted import Converted, Importer, residual_of
from waveunet_cli.importers.foreign import Foreign
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.pytorch_port import PyTorchPortConfig, sinc_kernel
from waveunet_cli.networks.wave_u_net.config import FOUR_STEMS

FORMAT = "PyTorch port"
DEFAULT_STRIDE = 4
LARGEST_STRIDE = 32


def recognises(foreign: Foreign) -> bool:
    """Whether these are the weights of such a network."""
    return any(name.startswith("waveunets.") for name in foreign.state or ())


def convert(foreign: Foreign, options: ImportOptions) -> Converted:
    """The network of a state dict, its architecture inferred from the tensors; the weights stay as they are.

    Raises CheckpointError if the tensors are not such a network's.
    """
    weights, where = foreign.state or {}, foreign.path
    notes: list[str] = []
    names = list(dict.fromkeys(name.split(".")[1] for name in weights if name.startswith("waveunets.")))
    prefix = f"waveunets.{names[0]}"
    found = re.compile(rf"{re.escape(prefix)}\.downsampling_blocks\.(\d+)\.")
    levels = len({match[1] for name in weights if (match := found.match(name))})
    try:
        first = weights[f"{prefix}.downsampling_blocks.0.pre_shortcut_convs.0.filter.weight"]  # (out, in, tap)
        outputs = weights[f"{prefix}.output_conv.weight"].shape[0]
        blocks = [f"{prefix}.downsampling_blocks.{i}" for i in range(levels)]
        widths = (
            first.shape[0],
            *(weights[f"{block}.post_shortcut_convs.0.filter.weight"].shape[0] for block in blocks),
        )
        fixed = weights.get(f"{blocks[0]}.downconv.filter")  # (channel, 1, tap)
        channels, taps = first.shape[1:]
        sources = _sources(names, outputs // channels, where, options, notes)
        rate = options.sample_rate or PyTorchPortConfig.sample_rate
        config = PyTorchPortConfig(
            sources=sources,
            sample_rate=rate,
            channels=channels,
            widths=widths,
            taps=taps,
            stride=_stride(fixed, where, options, notes),
            norm=_norm(weights),
            resampling="learned" if fixed is None else "fixed",
            separate=names != ["ALL"],
            window_frames=options.window_frames or 2 * rate,
            residual=residual_of(sources, options.residual),
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{where}: tensors of the PyTorch port are missing or misshapen ({error}); the checkpoint is incomplete"
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{where}: the tensors give an impossible network: {error}") from error
    if options.sample_rate is None:
        notes.append(f"sample rate {config.sample_rate} Hz is assumed, the port's default")
    if options.window_frames is None:
        notes.append("windows of 2 s are assumed, the port's default")
    return Converted(config, weights, FORMAT, notes)


def _sources(names: list[str], outputs: int, where: Path, options: ImportOptions, notes: list[str]) -> tuple[str, ...]:
    if names != ["ALL"]:
        if options.stems is not None and sorted(options.stems) != sorted(names):
            raise CheckpointError(f"{where}: its networks are named {', '.join(names)}; --stems can't rename them")
        return tuple(names)
    if options.stems is None and outputs == len(FOUR_STEMS):
        notes.append(f"stems {', '.join(FOUR_STEMS)} are assumed, the port's default")
        return FOUR_STEMS
    if options.stems is None or len(options.stems) != outputs:
        raise CheckpointError(f"{where}: the network predicts {outputs} sources; give their names with --stems")
    return options.stems


def _stride(fixed: Tensor | None, where: Path, options: ImportOptions, notes: list[str]) -> int:
    """The stride that a fixed filter was designed for; a learned one cannot tell."""
    if fixed is None:
        if options.stride is None:
            notes.append(f"a stride of {DEFAULT_STRIDE} is assumed, the port's default")
        return options.stride or DEFAULT_STRIDE
    for stride in range(2, LARGEST_STRIDE + 1):
        expected = sinc_kernel(stride)
        if fixed.shape[-1:] == expected.shape and torch.allclose(fixed, expected.expand_as(fixed), atol=1e-5):
            if options.stride not in (None, stride):
                raise CheckpointError(f"{where}: its resampling filter is for a stride of {stride}; leave --stride out")
            return stride
    raise CheckpointError(f"{where}: its resampling filter is none of the port's; the checkpoint is damaged")


def _norm(weights: dict[str, Tensor]) -> Literal["group", "batch", "none"]:
    if any(name.endswith(".norm.running_mean") for name in weights):
        return "batch"
    return "group" if any(name.endswith(".norm.weight") for name in weights) else "none"


IMPORTER = Importer(
    FORMAT,
    frozenset({"sample_rate", "stems", "residual", "window_frames", "stride"}),
    recognises,
    convert,
)
