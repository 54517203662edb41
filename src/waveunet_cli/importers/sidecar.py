"""A sidecar: what the tensors of a checkpoint cannot tell, in a TOML file beside it, CHECKPOINT.waveunet.toml.

    padding = "same"                        sample_rate = 44100
    stems = ["accompaniment", "vocals"]     residual = "accompaniment"
    window_frames = 88200                   stride = 4
    activation = "linear"

All of it may be left out. CHECKPOINT is the whole name of the file, or the prefix of a TensorFlow bundle.
"""

from pathlib import Path

from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.importers.tensorflow_bundle import find_prefix
from waveunet_cli.tables import from_table, toml_in


def read_sidecar(checkpoint: Path) -> ImportOptions:
    """The options that stand beside a checkpoint; none without a sidecar.

    Raises ConfigError for a sidecar that is no TOML or says what no option says.
    """
    checkpoint = find_prefix(checkpoint) or checkpoint
    path = checkpoint.with_name(f"{checkpoint.name}.waveunet.toml")
    if not path.is_file():
        return ImportOptions()
    return from_table(ImportOptions, toml_in(path), str(path))
