"""Checkpoints of the paper's TensorFlow program: the Wave-U-Nets M1 to M7, inferred from a bundle's variables.

Kernels are [tap, in, out] there and [out, in, tap] here.
"""

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.importers.converted import Converted, Importer, listed, residual_of, sources_and_output
from waveunet_cli.importers.foreign import Foreign
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig

FORMAT = "TensorFlow 1 checkpoint"
LAYER = re.compile(r"separator/conv1d(?:_(\d+))?/(kernel|bias)")
INTERPOLATION = re.compile(r"separator/interp_(\d+)")
OPTIMIZER = re.compile(r"(.*/)?(Adam(_\d+)?|beta[12]_power|global_step)")


def recognises(foreign: Foreign) -> bool:
    """Whether a bundle holds a layer that is named as those of the program are."""
    return foreign.bundle is not None and any(LAYER.fullmatch(name) for name in foreign.bundle.entries)


def convert(foreign: Foreign, options: ImportOptions) -> Converted:
    """The network and weights of a bundle; the architecture is inferred from the tensors.

    Raises CheckpointError if the bundle is damaged or holds anything but a Wave-U-Net of the paper.
    """
    bundle = foreign.bundle
    assert bundle is not None
    prefix = bundle.prefix
    unknown = [
        name
        for name in bundle.entries
        if not (LAYER.fullmatch(name) or INTERPOLATION.fullmatch(name) or OPTIMIZER.fullmatch(name))
    ]
    if unknown:
        raise CheckpointError(
            f"{prefix}: unknown variables: {listed(unknown)}; only the paper's Wave-U-Nets can be converted"
        )
    layers = sum(1 for name in bundle.entries if LAYER.fullmatch(name) and name.endswith("/kernel"))
    interpolations = sum(1 for name in bundle.entries if INTERPOLATION.fullmatch(name))
    kernels = [f"separator/conv1d{f'_{i}' if i else ''}/kernel" for i in range(layers)]
    biases = [name.replace("/kernel", "/bias") for name in kernels]
    upsamplings = [f"separator/interp_{i}" for i in range(interpolations)]
    missing = {*kernels, *biases, *upsamplings} - bundle.entries.keys()
    stray = {name for name in bundle.entries if LAYER.fullmatch(name)} - {*kernels, *biases}
    if missing or stray or not layers:
        raise CheckpointError(
            f"{prefix}: layers are missing: {listed(missing) or 'all'}; stray: {listed(stray) or 'none'}; "
            "the checkpoint is incomplete"
        )

    misshapen = [name for name in kernels if len(bundle.entries[name].shape) != 3]
    misshapen += [name for name in biases if len(bundle.entries[name].shape) != 1]
    if misshapen:
        raise CheckpointError(
            f"{prefix}: not of 1-D convolutions: {listed(misshapen)}; it is another network's checkpoint"
        )

    weights = [_tensor(bundle.read(name)).permute(2, 1, 0).contiguous() for name in kernels]  # [out, in, tap]
    bias = [_tensor(bundle.read(name)) for name in biases]
    config = _infer(weights, len(upsamplings), prefix, options)
    levels = config.levels
    named: dict[str, Tensor] = {}
    places = [*(f"down.{i}" for i in range(levels)), "bottleneck", *(f"up.{i}" for i in range(levels))]
    for i, place in enumerate(places):
        named[f"{place}.weight"], named[f"{place}.bias"] = weights[i], bias[i]
    # One convolution of 1 tap per source there, one for all here.
    named["output.weight"] = torch.cat(weights[len(places) :])
    named["output.bias"] = torch.cat(bias[len(places) :])
    for i, name in enumerate(upsamplings):
        named[f"upsample.{i}"] = _tensor(bundle.read(name)).reshape(-1)

    notes = []
    if options.padding is None:
        notes.append(f"padding {config.padding} is assumed, as in most of the paper")
    if options.activation is None:
        notes.append(f"{config.activation} output is assumed, as in most of the paper")
    if options.sample_rate is None:
        notes.append(f"sample rate {config.sample_rate} Hz is assumed, as in most of the paper")
    if options.stems is None:
        notes.append(f"stems {', '.join(config.sources)} are assumed from the number of outputs")
    return Converted(config, named, FORMAT, notes)


def _infer(kernels: list[Tensor], interpolations: int, where: Path, options: ImportOptions) -> WaveUNetConfig:
    # Widths rise to the bottleneck, F_c · (L + 1), and fall again: the widest layer has the index L.
    widths = [kernel.shape[0] for kernel in kernels]
    levels = widths.index(max(widths))
    outputs = kernels[2 * levels + 1 :]
    channels = kernels[0].shape[1]
    if levels < 1 or not outputs or any(kernel.shape[0] != channels for kernel in outputs):
        raise CheckpointError(
            f"{where}: {len(kernels)} layers of widths {widths} are no Wave-U-Net; only the paper's can be converted"
        )
    if interpolations not in (0, levels):
        raise CheckpointError(
            f"{where}: {interpolations} learned upsamplings in {levels} levels; the checkpoint is incomplete"
        )
    sources, output = sources_and_output(len(outputs), options.stems, where)
    try:
        return WaveUNetConfig(
            sources=sources,
            sample_rate=options.sample_rate or WaveUNetConfig.sample_rate,
            channels=channels,
            levels=levels,
            filters=widths[0],
            down_taps=kernels[0].shape[2],
            up_taps=kernels[levels + 1].shape[2],
            padding=options.padding or "valid",
            activation=options.activation or "tanh",
            upsampling="learned" if interpolations else "linear",
            output=output,
            window_frames=options.window_frames or WaveUNetConfig.window_frames,
            residual=residual_of(sources, options.residual),
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: the tensors give an impossible network: {error}") from error


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


IMPORTER = Importer(
    FORMAT,
    frozenset({"padding", "activation", "sample_rate", "stems", "residual", "window_frames"}),
    recognises,
    convert,
)
