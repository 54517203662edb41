"""`waveunet train`: trains a network on folders of songs and writes a checkpoint."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from waveunet_cli.cli.interrupts import interrupts
from waveunet_cli.cli.terminal import say, say_path
from waveunet_cli.errors import CheckpointError, ConfigError, DeviceError
from waveunet_cli.events import Note
from waveunet_cli.text import one_line

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EXIT_STOPPED = 130


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), metavar="RECIPE.toml")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="training",
    show_default=True,
    help="Folder to write the training to.",
)
@click.option("--resume", is_flag=True, help="Go on with the training in the folder --out.")
@click.option(
    "--check", is_flag=True, help="Train nothing; print the network and how many songs it would be trained on."
)
@click.option(
    "-d",
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device to compute on; auto is a GPU if there is one.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of GPUs, or of processes on the CPU, of each machine.",
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of machines; start the command on each with torchrun.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all random numbers.  [default: the recipe's]")
@click.option("--tensorboard", is_flag=True, help="Write files for TensorBoard, too.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
def command(
    recipe: Path,
    out: Path,
    resume: bool,
    check: bool,
    device: str,
    devices: int,
    nodes: int,
    seed: int | None,
    tensorboard: bool,
    quiet: bool,
) -> None:
    """Train a network as RECIPE.toml says: its architecture, data, augmentation, loss and schedule.

    The folder --out gets model.safetensors (give its path to `waveunet separate --name`), state.safetensors (which
    --resume reads) and log.jsonl. Ctrl-C saves the state and ends the training. A training that was killed resumes from
    the state that was saved last.
    """
    from waveunet_cli.training.recipe import read_recipe  # imports torch

    settings = read_recipe(recipe)
    if seed is not None:
        settings = replace(settings, seed=seed)
    config = settings.config()
    if find_spec("lightning_fabric") is None:
        raise ConfigError("training: lightning-fabric is not installed; run: pip install lightning-fabric")
    from waveunet_cli.training.log import Log
    from waveunet_cli.training.loop import MODEL, require_place, require_trainable, train
    from waveunet_cli.training.material import gather

    if not check:
        require_place(out, resume)
    fabric = None if check else _fabric(device, devices, nodes)
    require_trainable(settings, config, 1 if fabric is None else fabric.world_size)
    quiet = not check and (quiet or fabric is None or not fabric.is_global_zero)

    def on_event(event: Note) -> None:
        if not quiet:
            say(event.text, err=True)

    material = gather(settings, config, on_event)
    if fabric is None:
        tracks = [track for pool in material.pools for track in pool.tracks]
        hours = sum(track.seconds for track in tracks) / 3600
        say(f"{type(config).__name__}: {', '.join(config.sources)} at {config.sample_rate} Hz")
        say(f"{len(tracks)} tracks, {hours:.1f} hours to train on, {len(material.validation)} to validate with")
        return
    with (
        _disk_explained(out),
        _saving_on_interrupt() as asked,
        Log(settings, out, config.sample_rate, quiet, tensorboard) as log,
    ):
        progress = train(settings, out, fabric, material, log.on_event, resume, asked.is_set)
    if not quiet:
        share, skipped = progress.computing_share, progress.skipped_steps
        say(
            f"{share:.0%} of the steps' time was computing, the rest waiting for windows; {skipped} steps skipped",
            err=True,
        )
    if not progress.done:
        saved = "" if progress.broken_steps else " and saved"
        say(f"Stopped at step {progress.step}{saved}; go on with --resume.", err=True)
        raise click.exceptions.Exit(EXIT_STOPPED)
    if fabric.is_global_zero:
        say_path(str(out / MODEL))


def _fabric(device: str, devices: int, nodes: int) -> "Fabric":
    """The processes that train together, started. Raises DeviceError for devices that this machine lacks."""
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from waveunet_cli.devices import choose_placement

    cores = os.cpu_count() or 1
    if choose_placement(device).device.type == "cpu" and devices > cores:  # each process takes memory of its own
        raise DeviceError(f"{devices} processes on the CPU: this machine has {cores} cores; choose fewer --devices")
    try:
        fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes)
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise DeviceError(f"{devices} × {device}: not available ({one_line(error)}); choose fewer --devices") from error
    fabric.launch()
    return fabric


@contextmanager
def _disk_explained(out: Path) -> Iterator[None]:
    """Make the folder; turn a disk that is full or may not be written into one line."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CheckpointError(
            f"{error.filename2 or error.filename or out}: cannot be written ({one_line(error)}); what was saved before "
            "is intact: correct that and add --resume"
        ) from error


@contextmanager
def _saving_on_interrupt() -> Iterator[Event]:
    """The first Ctrl-C, or SIGTERM, sets the event; the next Ctrl-C interrupts as usual."""
    asked = Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with interrupts(ask):
        yield asked
