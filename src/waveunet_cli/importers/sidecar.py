"""A sidecar: what the tensors of a checkpoint cannot tell, in a TOML file beside it, CHECKPOINT.waveunet.toml.

    padding = "same"                        sample_rate = 44100
    stems = ["accompaniment", "vocals"]     residual = "accompaniment"
    window_frames = 88200                   stride = 4
    activation = "linear"

All of it may be left out. CHECKPOINT is the whole name of the file, or the prefix of a TensorFlow bundle.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waveunet_cli.errors import ConfigError
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.importers.tensorflow_bundle import find_prefix


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) > 1


_FITS: dict[str, Callable[[Any], bool]] = {
    "padding": ("valid", "same").__contains__,
    "activation": ("tanh", "linear").__contains__,
    "sample_rate": _is_count,
    "stems": _are_names,
    "residual": lambda value: isinstance(value, str),
    "window_frames": _is_count,
    "stride": _is_count,
}


def read_sidecar(checkpoint: Path) -> ImportOptions:
    """The options that stand beside a checkpoint; none without a sidecar.

    Raises ConfigError for a sidecar that is no TOML or says what no option says.
    """
    checkpoint = find_prefix(checkpoint) or checkpoint
    path = checkpoint.with_name(f"{checkpoint.name}.waveunet.toml")
    if not path.is_file():
        return ImportOptions()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: unreadable sidecar ({error}); mend it or take it away") from error
    for key, value in table.items():
        if key not in _FITS or not _FITS[key](value):
            raise ConfigError(f"{path}: {key!r}: {value!r} is no option of an import; known are {', '.join(_FITS)}")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return ImportOptions(**given)
