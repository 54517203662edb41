"""`waveunet train`: a data set becomes a checkpoint."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import click

from waveunet_cli.errors import CheckpointError, ConfigError

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
    from lightning_fabric import Fabric

    from waveunet_cli.training.log import Log
    from waveunet_cli.training.loop import gather, train

    material = gather(settings, config)
    if not quiet or check:
        for line in material.left_out:
            click.echo(f"left out: {line}", err=True)
    if check:
        tracks = [track for pool in material.pools for track in pool.tracks]
        hours = sum(track.frames / track.sample_rate_hz for track in tracks) / 3600
        click.echo(f"{type(config).__name__}: {', '.join(config.sources)} at {config.sample_rate} Hz")
        click.echo(f"{len(tracks)} tracks, {hours:.1f} hours to train on, {len(material.validation)} to validate with")
        return
    fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes)
    fabric.launch()
    with (
        _disk_explained(out),
        _saving_on_interrupt() as asked,
        Log(settings, out, config.sample_rate, quiet or not fabric.is_global_zero, tensorboard) as log,
    ):
        progress = train(settings, out, fabric, log, material, resume, asked.is_set)
    if not progress.done:
        click.echo(f"Stopped at step {progress.step} and saved; go on with --resume.", err=True)
        raise click.exceptions.Exit(EXIT_STOPPED)
    if fabric.is_global_zero:
        click.echo(out / "model.safetensors")


@contextmanager
def _disk_explained(out: Path) -> Iterator[None]:
    """Make the folder; turn a disk that is full or may not be written into one line."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CheckpointError(
            f"{out}: cannot be written ({error}); what was saved before is intact: make space and add --resume"
        ) from error


@contextmanager
def _saving_on_interrupt() -> Iterator[Event]:
    """The first Ctrl-C, or SIGTERM, sets the event; the next Ctrl-C interrupts as usual."""
    asked = Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
