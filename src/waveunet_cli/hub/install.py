"""From a card to a model in the cache: fetch, verify, convert, record. Imports torch only to convert."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from waveunet_cli.errors import CheckpointError, ConfigError, DownloadError
from waveunet_cli.hub.archive import extract
from waveunet_cli.hub.cache import Cache, Record, sha256_of
from waveunet_cli.hub.cards import NAME, Card, File, is_url, megabytes
from waveunet_cli.hub.download import Downloader
from waveunet_cli.hub.registry import local_files
from waveunet_cli.hub.verify import require_space, verified
from waveunet_cli.importers.options import ImportOptions

if TYPE_CHECKING:
    from waveunet_cli.networks.family import Config


class Installer:
    """Installs cards into a cache; as a context manager it deletes, at its end, the archives they shared."""

    def __init__(self, cache: Cache, downloader: Downloader) -> None:
        self._cache = cache
        self._downloader = downloader
        self._archives: set[Path] = set()

    def __enter__(self) -> "Installer":
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives:
            archive.unlink(missing_ok=True)

    def install(self, card: Card) -> Record:
        """The model of a card, in the cache; fetched and converted if it is not there yet.

        Raises DownloadError if it cannot be fetched or is not what the card says, CheckpointError if it is no such
        checkpoint.
        """

        def waiting() -> None:
            self._downloader.note(f"{card.name}: another process is fetching it; waiting")

        with self._cache.lock(card.name, waiting):
            return self._cache.record(card.name) or self._install(card)

    def _install(self, card: Card) -> Record:
        folder = self._cache.downloads(card.name)
        folder.mkdir(parents=True, exist_ok=True)
        local = local_files(card)
        if local:
            hashes = {file.name: verified(path, file) for file, path in zip(card.files, local, strict=True)}
        else:
            hashes = self._download(card, folder)
        paths = local or [folder / file.name for file in card.files]
        weights = folder / "converted.safetensors"
        try:
            config, notes = _converted(paths, weights, card)
        except CheckpointError:
            shutil.rmtree(folder)  # whatever came, it is not the model; the next attempt fetches anew
            raise
        if not local:
            self._trust(card, hashes)
        files = {file.name: hashes[file.name] for file in card.files}
        record = _record(card.name, config, weights, card.format, card.licence, _whence(card), files, notes)
        self._cache.add(record, weights)
        shutil.rmtree(folder)
        return record

    def _download(self, card: Card, folder: Path) -> dict[str, str]:
        """Everything a card names, verified, in `folder`; the sha256 of each file that was fetched."""
        self._announce(card, folder)
        known = self._cache.first_use(card.name)
        try:
            return self._obtain(card, known, folder)
        except DownloadError as error:
            hint = (
                "; its hashes were recorded at the first download: if it was published anew, "
                f"'waveunet models remove --forget {card.name}' trusts the new bytes"
            )
            raise DownloadError(f"{card.name}: {error}{hint if known else ''}") from error

    def _announce(self, card: Card, folder: Path) -> None:
        """Say what comes from where, how large, under which licence; and refuse early if it cannot fit."""
        hosts = [urlsplit(url).netloc for file in card.files for url in addresses(card, file)]
        hosts += [urlsplit(url).netloc for url in (card.archive.urls if card.archive else ())]
        if self._downloader.offline or not hosts or all((folder / file.name).is_file() for file in card.files):
            return
        about = "" if card.is_size_exact else "about "
        self._downloader.note(
            f"{card.name}: downloading {about}{megabytes(card.size)} from {' or '.join(dict.fromkeys(hosts))}; "
            f"licence: {card.licence}"
        )
        require_space(folder, 2 * card.size)  # the files, and what they are converted to

    def _obtain(self, card: Card, known: dict[str, str], folder: Path) -> dict[str, str]:
        """Each file from its own addresses; from the first that these do not yield, all come out of the archive."""
        hashes: dict[str, str] = {}
        files = [_with_recorded_hash(file, known) for file in card.files]
        try:
            for file in files:
                hashes[file.name] = self._downloader.fetch(file, addresses(card, file), folder / file.name)
            return hashes
        except DownloadError as error:
            if card.archive is None:
                raise
            if file.urls and not self._downloader.offline:
                self._downloader.note(
                    f"{card.name}: {error}; trying {card.archive.name}, {megabytes(card.archive.shown_size)}"
                )
        missing = [file for file in files if file.name not in hashes]
        archive = _with_recorded_hash(card.archive, known)
        path = self._cache.archive(archive.urls[0])
        with self._cache.lock(path.stem):
            hashes[archive.name] = self._downloader.fetch(archive, archive.urls, path)
            self._archives.add(path)
            return hashes | extract(path, missing, folder, archive.name)

    def _trust(self, card: Card, hashes: dict[str, str]) -> None:
        """Record, now that the files proved to be the model, the hashes that nobody published."""
        known = self._cache.first_use(card.name)
        fetched = [*card.files, *([card.archive] if card.archive else [])]
        if card.archive and card.archive.hash_known:  # it vouches for what comes out of it
            fetched = [file for file in fetched if file.urls]
        unpublished = {file.name for file in fetched if not file.hash_known}
        fresh = {name: hashes[name] for name in sorted(unpublished & hashes.keys() - known.keys())}
        if fresh:
            self._cache.record_first_use(card.name, known | fresh)
            self._downloader.note(
                f"{card.name}: nobody published a hash of {', '.join(fresh)}; recorded it, a change will be refused"
            )


def addresses(card: Card, file: File) -> tuple[str, ...]:
    """Where a file can be fetched on its own; beside the card if that came from an address and nothing else is said."""
    if not file.urls and card.archive is None and is_url(card.origin):
        return (urljoin(card.origin, file.name),)
    return file.urls


def import_model(path: Path, name: str, cache: Cache, options: ImportOptions) -> Record:
    """Convert a checkpoint of any known format, or take one of ours, into the cache under a new name.

    What the options do not say, a sidecar may (see importers/sidecar.py).

    Raises ConfigError for a name that cannot be used, CheckpointError for a file that is no checkpoint.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be a model's name; use lower-case letters, digits and dashes")
    with cache.lock(name):
        if cache.record(name):
            raise ConfigError(f"{name}: a model of this name is in the cache; choose another, or remove it first")
        folder = cache.downloads(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _import(path, name, folder / "converted.safetensors", cache, options)
        finally:
            shutil.rmtree(folder)


def _import(path: Path, name: str, weights: Path, cache: Cache, options: ImportOptions) -> Record:
    from waveunet_cli.importers.convert import import_checkpoint, refuse_unread
    from waveunet_cli.importers.sidecar import read_sidecar

    options = options.over(read_sidecar(path))
    if path.suffix == ".safetensors":
        from waveunet_cli.networks.checkpoint import load_checkpoint

        refuse_unread(options, str(path), "a checkpoint of ours")
        config = load_checkpoint(path).config
        shutil.copyfile(path, weights)
        kind, notes = "safetensors", list[str]()
    else:
        converted = import_checkpoint(path, weights, options)
        config, kind, notes = converted.config, converted.format, converted.notes
    hashes = {path.name: sha256_of(path)} if path.is_file() else {}
    record = _record(name, config, weights, kind, "as its author says", str(path.resolve()), hashes, notes)
    cache.add(record, weights)
    return record


def _converted(paths: Sequence[Path], weights: Path, card: Card) -> tuple["Config", Sequence[str]]:
    """Write the weights of a card's files as ours; raises CheckpointError unless they are the card's model."""
    from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint

    if card.format == "safetensors":
        config = load_checkpoint(paths[0]).config
        _require_same(config, card)
        shutil.copyfile(paths[0], weights)
        return config, ()
    from waveunet_cli.devices import CPU, compute_on
    from waveunet_cli.importers.convert import convert

    whole = next((path for path in paths if path.suffix == ".index"), paths[0])
    converted = compute_on(CPU, convert, whole, card.options)
    _require_same(converted.config, card)
    save_checkpoint(weights, converted.config, converted.weights)
    return converted.config, converted.notes


def _require_same(config: "Config", card: Card) -> None:
    found = (config.sources, config.sample_rate, config.channels, config.residual)
    stated = (card.stems, card.sample_rate, card.channels, card.residual)
    if found != stated or (card.config and card.config != config):
        raise CheckpointError(
            f"{card.name}: the checkpoint is another model ({config}) than its card says ({card.config or stated}); "
            "tell whoever maintains the card"
        )


def _record(
    name: str,
    config: "Config",
    weights: Path,
    kind: str,
    licence: str,
    origin: str,
    files: dict[str, str],
    notes: Sequence[str],
) -> Record:
    return Record(
        name=name,
        stems=config.sources,
        residual=config.residual,
        sample_rate=config.sample_rate,
        channels=config.channels,
        format=kind,
        licence=licence,
        origin=origin,
        files=files,
        notes=tuple(notes),
        size=weights.stat().st_size,
        sha256=sha256_of(weights),
    )


def _with_recorded_hash(file: File, known: dict[str, str]) -> File:
    return file if file.hash_known else replace(file, sha256=known.get(file.name))


def _whence(card: Card) -> str:
    urls = [*addresses(card, card.files[0]), *(card.archive.urls if card.archive else ())]
    return urls[0] if urls else card.origin
