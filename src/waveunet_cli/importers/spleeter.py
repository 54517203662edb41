"""Checkpoints of Spleeter: a TensorFlow bundle with a U-Net a source, one after the other in the order of the sources.

Layers are numbered over all U-Nets, as TensorFlow does: `conv2d`, `conv2d_1` … (the way down, then the last layer),
`conv2d_transpose` … (the way up) and `batch_normalization` … (the way down, then up; the program does not use the
deepest of the way down). Kernels are [h, w, in, out], transposed ones [h, w, out, in]; h is time, w is frequency.

Batch norm, y = γ·(x − μ)/√(v + ε) + β, is folded into a factor γ/√(v + ε) and a summand β − μ·γ/√(v + ε).

The tensors do not tell the transform, the sample rate, the order of the sources, and the activation, which is ELU in
the published networks of four and five stems.
"""

import torch
from torch import Tensor

from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.importers.converted import Converted, Importer, listed, residual_of
from waveunet_cli.importers.foreign import Foreign
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.spleeter import SpleeterConfig

FORMAT = "Spleeter"
PUBLISHED = (
    ("vocals", "accompaniment"),
    ("vocals", "drums", "bass", "other"),
    ("vocals", "piano", "drums", "bass", "other"),
)
LAST_TAPS = 4  # of the last layer's kernel; all others have 5
CONVOLUTION = ("kernel", "bias")
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
EPSILON = 1e-3


def recognises(foreign: Foreign) -> bool:
    """Whether a bundle holds the first layers of both ways."""
    return foreign.bundle is not None and {"conv2d/kernel", "conv2d_transpose/kernel"} <= foreign.bundle.entries.keys()


def convert(foreign: Foreign, options: ImportOptions) -> Converted:
    """The network and weights of a bundle, its architecture inferred from the tensors.

    Raises CheckpointError if the bundle is damaged, or if its tensors are not such a network's.
    """
    bundle = foreign.bundle
    assert bundle is not None
    where = bundle.prefix
    kernels = [bundle.entries.get(f"{_name('conv2d', number)}/kernel") for number in range(len(bundle.entries))]
    flat = [name for name, entry in bundle.entries.items() if name.endswith("/kernel") and len(entry.shape) != 4]
    shapes = [kernel.shape for kernel in kernels if kernel]
    last = [number for number, shape in enumerate(shapes) if shape[:1] == (LAST_TAPS,)]
    unets, levels = len(last), last[0] if last else 0
    layers = {f"unets.{unet}.{ours}": theirs for unet in range(unets) for ours, theirs in _layers(unet, levels).items()}
    expected = {f"{layer}/{part}" for layer in layers.values() for part in _parts(layer)}
    missing = expected - bundle.entries.keys()
    unknown = bundle.entries.keys() - expected - {"global_step"}
    if missing or unknown or flat or not levels:
        raise CheckpointError(
            f"{where}: not {unets} whole U-Nets of {levels} levels: missing: {listed(missing) or 'none'}; unknown or "
            f"of another kind: {listed(unknown.union(flat)) or 'none'}; the checkpoint is incomplete, or another "
            "network's"
        )
    sources = options.stems or next((published for published in PUBLISHED if len(published) == unets), ())
    if len(sources) != unets:
        given = f"{len(options.stems)} names were given" if options.stems else "published are 2, 4 or 5"
        raise CheckpointError(f"{where}: holds {unets} U-Nets, and {given}; give {unets} names with --stems")
    try:
        config = SpleeterConfig(
            sources=sources,
            sample_rate=options.sample_rate or SpleeterConfig.sample_rate,
            channels=shapes[0][2],
            filters=tuple(shape[3] for shape in shapes[:levels]),
            activation="leaky_relu" if unets == 2 else "elu",
            residual=residual_of(sources, options.residual),
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: the tensors give an impossible network: {error}") from error
    weights: dict[str, Tensor] = {}
    for ours, theirs in layers.items():
        if not ours.endswith(f"down_norms.{levels - 1}"):
            parts = [torch.from_numpy(bundle.read(f"{theirs}/{part}").copy()) for part in _parts(theirs)]
            weights[f"{ours}.weight"], weights[f"{ours}.bias"] = _converted(*parts)
    notes = [
        f"spectra of {config.fft_frames} frames every {config.step_frames}, of which {config.bins} bins are seen, in "
        f"blocks of {config.spectra}, are assumed, as in the published program",
        f"activation {config.activation} is assumed from the number of U-Nets",
    ]
    if options.sample_rate is None:
        notes.append(f"sample rate {config.sample_rate} Hz is assumed, as in the published program")
    if options.stems is None:
        notes.append(f"stems {', '.join(sources)} are assumed from the number of U-Nets")
    return Converted(config, weights, FORMAT, notes)


def _layers(unet: int, levels: int) -> dict[str, str]:
    """Our names of one U-Net's layers, and theirs."""
    first, first_norm = unet * (levels + 1), unet * 2 * levels
    layers = {"output": _name("conv2d", first + levels)}
    for level in range(levels):
        layers[f"down.{level}"] = _name("conv2d", first + level)
        layers[f"up.{level}"] = _name("conv2d_transpose", unet * levels + level)
        layers[f"down_norms.{level}"] = _name("batch_normalization", first_norm + level)
        layers[f"up_norms.{level}"] = _name("batch_normalization", first_norm + levels + level)
    return layers


def _name(layer: str, number: int) -> str:
    return f"{layer}_{number}" if number else layer


def _parts(layer: str) -> tuple[str, ...]:
    return NORM if layer.startswith("batch_normalization") else CONVOLUTION


def _converted(
    weight: Tensor, bias: Tensor, mean: Tensor | None = None, variance: Tensor | None = None
) -> list[Tensor]:
    """A layer's weight and bias; kernels as [out, in, h, w], transposed ones as [in, out, h, w]."""
    if mean is None or variance is None:
        return [weight.permute(3, 2, 0, 1).contiguous(), bias]
    factor = weight / (variance + EPSILON).sqrt()
    return [factor, bias - mean * factor]


IMPORTER = Importer(FORMAT, frozenset({"sample_rate", "stems", "residual"}), recognises, convert)
