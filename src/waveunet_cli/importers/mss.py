"""Checkpoints of MSS_WaveUNet (lijm1358/MSS_WaveUNet): a plain state dict of a mono network at 22.05 kHz.

Names: `net.i.net.0` (way down, then the bottleneck), `net.i.conv.0` (way up), `separation.0`. The published
file's size fits one convolution a block; earlier revisions with two are refused.

Inferred: depth, widths, taps and number of sources, from the tensors. Taken from that repository's text: the
rate, and the order drums, bass, other, vocals (accompaniment, vocals in its two-stem revision).
"""

import re
from pathlib import Path

from torch import Tensor

from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.importers.converted import Converted, Importer, listed, residual_of
from waveunet_cli.importers.foreign import Foreign
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.mss import MSSConfig
from waveunet_cli.networks.wave_u_net.config import VOICE

FORMAT = "MSS_WaveUNet"
DOWN = re.compile(r"net\.(\d+)\.net\.0\.(weight|bias)")
UP = re.compile(r"net\.(\d+)\.conv\.0\.(weight|bias)")
OUTPUT = re.compile(r"separation\.0\.(weight|bias)")


def recognises(foreign: Foreign) -> bool:
    """Whether these are the weights of such a network."""
    weights = foreign.state or {}
    return "net.0.net.0.weight" in weights and "separation.0.weight" in weights


def convert(foreign: Foreign, options: ImportOptions) -> Converted:
    """The network of a state dict, its architecture inferred from the tensors.

    Raises CheckpointError if the tensors are not such a network's.
    """
    weights, where = foreign.state or {}, foreign.path
    named: dict[str, Tensor] = {}
    unknown = []
    bottleneck = len({match[1] for name in weights if (match := DOWN.fullmatch(name))}) - 1
    for name, weight in weights.items():
        if match := DOWN.fullmatch(name):
            named[f"down.{match[1]}.{match[2]}"] = weight
        elif match := UP.fullmatch(name):
            named[f"up.{int(match[1]) - bottleneck - 1}.{match[2]}"] = weight
        elif match := OUTPUT.fullmatch(name):
            named[f"output.{match[1]}"] = weight
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"{where}: unknown weights: {listed(unknown)}; only MSS_WaveUNet's published revision, with one "
            "convolution a block, can be converted"
        )
    try:
        sources = options.stems or _sources(named["output.weight"].shape[0], where)
        config = MSSConfig(
            sources=sources,
            sample_rate=options.sample_rate or MSSConfig.sample_rate,
            levels=bottleneck,
            filters=named["down.0.weight"].shape[0],
            down_taps=named["down.0.weight"].shape[2],
            up_taps=named["up.0.weight"].shape[2],
            window_frames=options.window_frames or MSSConfig.window_frames,
            residual=residual_of(sources, options.residual),
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{where}: tensors of MSS_WaveUNet are missing or misshapen ({error}); the checkpoint is incomplete"
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{where}: the tensors give an impossible network: {error}") from error
    notes = [f"windows of {config.window_frames} frames are assumed, as in the published program"]
    if options.sample_rate is None:
        notes.append(f"sample rate {config.sample_rate} Hz is assumed, as in the published program")
    if options.stems is None:
        notes.append(f"stems {', '.join(config.sources)} are assumed from the number of outputs")
    return Converted(config, named, FORMAT, notes)


def _sources(outputs: int, where: Path) -> tuple[str, ...]:
    for names in (MSSConfig.sources, VOICE):
        if len(names) == outputs:
            return names
    raise CheckpointError(f"{where}: the network predicts {outputs} sources; give their names with --stems")


IMPORTER = Importer(
    FORMAT,
    frozenset({"sample_rate", "stems", "residual", "window_frames"}),
    recognises,
    convert,
)
