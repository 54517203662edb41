"""`waveunet models`: list, download, verify, remove and import models. Only `download` and `import` import torch."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from waveunet_cli.cli.options import offline_option, registry_option
from waveunet_cli.cli.terminal import say, say_failed, say_path
from waveunet_cli.errors import ModelNotFoundError, WaveUNetError
from waveunet_cli.events import Note
from waveunet_cli.hub import Cache, Catalogue, Downloader, Entry
from waveunet_cli.hub.cards import megabytes
from waveunet_cli.importers.options import ImportOptions

Command = TypeVar("Command", bound=Callable[..., Any])

names_argument = click.argument("names", nargs=-1, metavar="[NAME…]")


@click.group("models", short_help="List, download, check and import models.")
def command() -> None:
    """List, download, check and import models.

    Downloaded and imported models are kept in a cache in your home folder. WAVEUNET_CACHE names another folder.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of a table.")
@registry_option
@offline_option
def list_models(as_json: bool, registry: str | None, offline: bool | None) -> None:
    """List all models: their stems, sample rate, size, place, licence and quality.

    A model whose card or record is damaged is named on stderr, and the command then fails after it listed the others.
    """
    with _catalogue(registry, offline) as catalogue:
        entries = catalogue.entries().values()
        damaged = catalogue.damaged()
    if as_json:
        say(json.dumps([_described(entry) for entry in entries], indent=1))
    else:
        say(_table([("NAME", "STEMS", "RATE", "SIZE", "WHERE", "LICENCE", "QUALITY (SDR)"), *map(row, entries)]))
    _fail_with(list(damaged.values()))


@command.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@registry_option
@offline_option
def info(name: str, as_json: bool, registry: str | None, offline: bool | None) -> None:
    """Print all that is known of the model NAME."""
    with _catalogue(registry, offline) as catalogue:
        described = _described(catalogue.entry(name))
    say(json.dumps(described, indent=1) if as_json else "\n".join(_lines(described)))


@command.command("download")
@names_argument
@click.option("--all", "everything", is_flag=True, help="Download every model that is not on this machine yet.")
@registry_option
@offline_option
def download(names: Sequence[str], everything: bool, registry: str | None, offline: bool | None) -> None:
    """Download models, verify them, and convert them into the cache. A download that broke off is resumed."""
    with _catalogue(registry, offline) as catalogue:
        errors = catalogue.download(_chosen(names, everything, catalogue.entries))
    _fail_with(errors)


@command.command("verify")
@names_argument
@registry_option
@offline_option
def verify(names: Sequence[str], registry: str | None, offline: bool | None) -> None:
    """Compare the size and hash of models on this machine with what they should be. Without a NAME, check all."""
    with _catalogue(registry, offline) as catalogue:
        errors = [] if names else list(catalogue.damaged().values())
        for name in names or [entry.name for entry in catalogue.entries().values() if entry.path]:
            try:
                catalogue.verify(name)
                say(f"{name}: ok")
            except WaveUNetError as error:
                errors.append(error)
    _fail_with(errors)


@command.command("path")
@click.argument("name")
@registry_option
@offline_option
def path(name: str, registry: str | None, offline: bool | None) -> None:
    """Print the path of the checkpoint of the model NAME."""
    with _catalogue(registry, offline) as catalogue:
        entry = catalogue.entry(name)
    if entry.path is None:
        raise ModelNotFoundError(f"{name}: not on this machine; run 'waveunet models download {name}'")
    say_path(str(entry.path))


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option(
    "--forget", is_flag=True, help="Also forget the hashes that were recorded when the models were first downloaded."
)
def remove(names: Sequence[str], forget: bool) -> None:
    """Delete models from the cache."""
    errors: list[WaveUNetError] = []
    with _catalogue(None, None) as catalogue:
        for name in names:
            try:
                catalogue.remove(name, forget=forget)
            except WaveUNetError as error:
                errors.append(error)
    _fail_with(errors)


def _import_options(command: Command) -> Command:
    """An option of the command line for each field of ImportOptions."""
    hints = get_type_hints(ImportOptions)
    for option in reversed(fields(ImportOptions)):
        kind = get_args(hints[option.name])[0]  # of `kind | None`
        listed = get_origin(kind) is tuple
        command = click.option(
            f"--{option.name.replace('_', '-')}",
            type=click.Choice(get_args(kind)) if get_origin(kind) is Literal else str if listed else kind,
            callback=_comma_separated if listed else None,
            **option.metadata,
        )(command)
    return command


def _comma_separated(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in value.split(",")) if value is not None else None


@command.command("import")
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The model's new name: lower-case letters, digits and dashes.")
@_import_options
@registry_option
def import_model(path: Path, name: str, registry: str | None, **options: Any) -> None:
    """Convert a checkpoint of another program and keep it in the cache as a model.

    The program may be the paper's (TensorFlow 1), one of its ports (PyTorch, Keras), MSS_WaveUNet or Spleeter. A
    .safetensors checkpoint of waveunet itself is copied. A folder that holds the files of a published model
    becomes that model, under its own name and without a download, if the files have the published hashes.

    The options say what a checkpoint does not contain. A file CHECKPOINT.waveunet.toml beside the checkpoint may say
    the same, with the options' names as its keys: sample_rate = 44100. What neither says is taken from the models that
    were published with the program, and the command reports what it took. An option that the checkpoint's program
    does not have is refused.
    """
    with _catalogue(registry, None) as catalogue:
        record = catalogue.import_checkpoint(path, name, ImportOptions(**options))
    for note in record.notes:
        say(f"{name}: {note}", err=True)
    say(f"{name}: {record.format}, {', '.join(record.stems)}, {record.sample_rate} Hz", err=True)


@contextmanager
def _catalogue(registry: str | None, offline: bool | None) -> Iterator[Catalogue]:
    def on_event(note: Note) -> None:
        say(note.text, err=True)

    with Downloader(offline=offline, progress=True, on_event=on_event) as downloader:
        yield Catalogue(Cache(), downloader, registry)


def _chosen(names: Sequence[str], everything: bool, entries: Callable[[], dict[str, Entry]]) -> Sequence[str]:
    if everything == bool(names):
        raise click.UsageError("Models are asked for by their names, or by --all; give one of these")
    return [entry.name for entry in entries().values() if entry.path is None] if everything else names


def _fail_with(errors: Sequence[WaveUNetError]) -> None:
    """Print all errors but the last, which ends the command as its failure."""
    for error in errors[:-1]:
        say_failed(error)
    if errors:
        raise errors[-1]


def _described(entry: Entry) -> dict[str, Any]:
    """An entry as plain values: what the card says, what the cache knows, where it is."""
    card, record = entry.card, entry.record
    known = card or record
    assert known is not None
    described: dict[str, Any] = {
        "name": entry.name,
        "where": entry.state,
        "path": str(entry.path) if entry.path else None,
        "size_bytes": entry.size,
        "stems": list(known.stems),
        "residual": known.residual,
        "sample_rate_hz": known.sample_rate,
        "channels": known.channels,
        "format": known.format,
        "licence": known.licence,
    }
    if card:
        keys = (
            "title",
            "architecture",
            "changes",
            "authors",
            "citation",
            "homepage",
            "verified",
            "notes",
            "attribution",
        )
        described |= {key: value for key, value in asdict(card).items() if key in keys}
        described |= {"files": [asdict(file) for file in card.files], "quality": [asdict(q) for q in card.quality]}
        described["archive"] = asdict(card.archive) if card.archive else None
    if record:
        described["installed"] = {key: asdict(record)[key] for key in ("origin", "files", "notes", "sha256")}
    return described


def row(entry: Entry) -> tuple[str, ...]:
    """One line of the table of models: name, stems, rate, size, where it is, licence, quality."""
    known = entry.card or entry.record
    assert known is not None
    best = entry.card.quality[0] if entry.card and entry.card.quality else None
    figures = ", ".join(f"{stem} {value:.2f}" for stem, value in best.values.items()) if best else ""
    about = "" if entry.path or (entry.card and entry.card.is_size_exact) else "~"
    return (
        entry.name,
        ",".join(known.stems),
        f"{known.sample_rate / 1000:g}k {'stereo' if known.channels == 2 else 'mono'}",
        f"{about}{megabytes(entry.size)}",
        entry.state,
        known.licence.split(" (")[0],
        f"{figures} dB ({best.dataset}, {best.aggregation})" if best else "-",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _lines(described: dict[str, Any]) -> Iterator[str]:
    """Readable lines of a description: one a value, blocks of text indented."""
    for key, value in described.items():
        if value in (None, "", [], {}):
            continue
        label = key.replace("_hz", " in Hz").replace("_bytes", " in bytes").replace("_", " ")
        if isinstance(value, list) and isinstance(value[0], dict):
            yield f"{label}:"
            for item in value:
                yield f"  {_text(item)}"
        elif isinstance(value, str) and "\n" in value:
            yield f"{label}:"
            yield from (f"  {line}" for line in value.strip().splitlines())
        else:
            yield f"{label}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
