"""Find the importer of a checkpoint and let it convert."""

from importlib import import_module
from pathlib import Path

from waveunet_cli.errors import CheckpointError, ConfigError, WaveUNetError
from waveunet_cli.importers import PROGRAMS
from waveunet_cli.importers.converted import Converted, Importer
from waveunet_cli.importers.foreign import Foreign
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.checkpoint import load_weights, network_without_weights, save_checkpoint
from waveunet_cli.networks.family import check_window
from waveunet_cli.text import one_line

IMPORTERS: tuple[Importer, ...] = tuple(import_module(f"{__package__}.{name}").IMPORTER for name in PROGRAMS.values())


def convert(path: Path, options: ImportOptions | None = None) -> Converted:
    """Read a checkpoint of another program; the options say what its tensors cannot tell.

    Raises CheckpointError if the file is missing, unreadable, damaged, of no known format, or not one of the networks;
    ConfigError for an option that this format does not read.
    """
    options = options or ImportOptions()
    foreign = Foreign(path)
    try:
        importer = _importer_of(foreign)
        refuse_unread(options, str(path), importer.format, importer.options)
        converted = importer.convert(foreign, options)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({one_line(error)}); check the path and its permissions"
        ) from error
    except WaveUNetError:
        raise
    except Exception as error:  # damage makes anything of numbers and names
        raise CheckpointError(
            f"{path}: not a readable checkpoint, or a damaged one ({type(error).__name__}: {one_line(error)}); copy or "
            "download it again"
        ) from error
    try:
        check_window(converted.config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: the tensors give an impossible network: {error}") from error
    load_weights(network_without_weights(converted.config), converted.weights, where=str(path))
    return converted


def import_checkpoint(path: Path, destination: Path, options: ImportOptions | None = None) -> Converted:
    """Convert a checkpoint as `convert` does, and write it to `destination`, a .safetensors file."""
    converted = convert(path, options)
    save_checkpoint(destination, converted.config, converted.weights)
    return converted


def refuse_unread(options: ImportOptions, where: str, format: str, read: frozenset[str] = frozenset()) -> None:
    """Raise ConfigError if an option was given that checkpoints of this format do not read."""
    for name in sorted(options.given().keys() - read):
        readers = [importer.format for importer in IMPORTERS if name in importer.options]
        raise ConfigError(
            f"{where}: the option {name} (--{name.replace('_', '-')}) is for {', '.join(readers)}; "
            f"this is {format}, which does not read it: leave it out"
        )


def _importer_of(foreign: Foreign) -> Importer:
    if foreign.bundle is None and not foreign.path.is_file():
        if foreign.path.exists() and not foreign.path.is_dir():
            raise CheckpointError(f"{foreign.path}: is no regular file; save the stream to a file first")
        found = "a folder without a checkpoint" if foreign.path.is_dir() else "no such checkpoint"
        raise CheckpointError(
            f"{foreign.path}: {found}; give a PyTorch or .h5 file, or a TensorFlow checkpoint's .index or folder"
        )
    for importer in IMPORTERS:
        if importer.recognises(foreign):
            return importer
    names = list(foreign.bundle.entries if foreign.bundle else foreign.state or ())
    if names:
        raise CheckpointError(
            f"{foreign.path}: weights of an unknown network, such as {names[0]}; "
            f"known are {', '.join(importer.format for importer in IMPORTERS)}"
        )
    raise CheckpointError(
        f"{foreign.path}: of no known format; TensorFlow 1 checkpoints, PyTorch files and Keras .h5 files can be "
        "converted"
    )
