"""The user's cache: converted models, what is known of each, and the hashes recorded on first use.

    <cache>/models/NAME.safetensors   the only thing the runtime opens
    <cache>/models/NAME.json          its Record; a model without one does not exist
    <cache>/first-use.json            model → file → sha256, for files whose hash nobody published; survives removal
    <cache>/downloads/                what is being fetched; emptied once a model is converted
    <cache>/registries/ID.json        last good copy of a registry that was read over the network: its files by name
    <cache>/locks/                    one a model, so that two processes do not fetch the same one

What was downloaded is not kept after conversion: its hashes are in the Record. <cache> is WAVEUNET_CACHE, else the
platform's user cache. No torch here.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import Timeout
from msgspec import ValidationError, convert
from platformdirs import user_cache_path

from waveunet_cli.errors import CheckpointError, ConfigError, WaveUNetError
from waveunet_cli.files import locked, new_lock, whole_file
from waveunet_cli.hub.cards import NAME
from waveunet_cli.tables import from_table, json_in
from waveunet_cli.text import one_line

MOST_REGISTRY_BYTES = 100_000_000
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # only writing fails so, and only into the cache is written


@dataclass(frozen=True)
class Record:
    """What is known of a model in the cache; `sha256` and `size` are those of its .safetensors file.

    `origin` is where it came from, `files` the sha256 of each file it was converted from.
    """

    name: str
    stems: tuple[str, ...]
    residual: str
    sample_rate: int
    channels: int
    format: str
    licence: str
    origin: str
    files: dict[str, str]
    notes: tuple[str, ...]
    size: int
    sha256: str


class Cache:
    """Paths and records below one folder, which is created when something is first written."""

    def __init__(self, root: Path | None = None) -> None:
        override = os.environ.get("WAVEUNET_CACHE")
        self.root = root or (Path(override) if override else user_cache_path("waveunet", appauthor=False))
        self._models = self.root / "models"

    def weights_path(self, name: str) -> Path:
        return self._models / f"{name}.safetensors"

    def downloads(self, name: str) -> Path:
        """The folder for the downloads of one model."""
        return self.root / "downloads" / name

    def archive(self, url: str) -> Path:
        """Where an archive is kept while models are taken out of it."""
        return self.root / "downloads" / f"_{_key(url)}.archive"

    def registry(self, url: str) -> "LastCopy":
        """The last good copy of a registry."""
        return LastCopy(self.root / "registries" / f"{_key(url)}.json")

    def record(self, name: str) -> Record | None:
        """The record of a model, None if it is not in the cache; raises CheckpointError for a damaged one."""
        path = self._models / f"{name}.json"
        if not path.is_file():
            return None
        try:
            record = from_table(Record, json_in(path), str(path))
        except ConfigError as error:
            raise CheckpointError(f"{error}; run 'waveunet models remove {name}', then get the model again") from error
        return record if self.weights_path(name).is_file() else None

    def records(self) -> tuple[dict[str, Record], dict[str, WaveUNetError]]:
        """Every model in the cache, by name, sorted; and why a record could not be read, by the model's name."""
        good: dict[str, Record] = {}
        bad: dict[str, WaveUNetError] = {}
        for name in sorted(path.stem for path in self._models.glob("*.json") if NAME.fullmatch(path.stem)):
            try:
                if record := self.record(name):
                    good[name] = record
            except CheckpointError as error:
                bad[name] = error
        return good, bad

    def add(self, record: Record, weights: Path) -> None:
        """Move converted weights into the cache, then write their record."""
        self._models.mkdir(parents=True, exist_ok=True)
        weights.replace(self.weights_path(record.name))
        _write_json(self._models / f"{record.name}.json", asdict(record))

    def remove(self, name: str) -> bool:
        """Delete a model, its record and half-finished downloads; False if there was none."""
        record, weights = self._models / f"{name}.json", self.weights_path(name)
        found = record.is_file() or weights.is_file()
        record.unlink(missing_ok=True)
        weights.unlink(missing_ok=True)
        shutil.rmtree(self.downloads(name), ignore_errors=True)
        return found

    def first_use(self, model: str) -> dict[str, str]:
        """The sha256 recorded for each file of a model whose hash was not published."""
        return self._first_uses().get(model, {})

    def record_first_use(self, model: str, hashes: dict[str, str] | None) -> None:
        """Remember a model's hashes, or with None forget them."""
        with self.lock("_first-use"):
            uses = self._first_uses()
            uses.pop(model, None)
            if hashes:
                uses[model] = hashes
            _write_json(self._first_use_path, uses)

    @contextmanager
    def lock(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of a model (other things have names with _) across processes; calls `waiting` if it is taken.

        An OSError, now or while the lock is held, becomes a CheckpointError: one that tells how to get another cache
        if it is the cache that cannot be read or written, one about the file that it names otherwise.
        """
        lock = new_lock(self.root / "locks" / f"{name}.lock")
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                locked(lock, 0)
            except Timeout:
                waiting()
                locked(lock)
            yield
        except OSError as error:
            raise self._explained(error, name) from error
        finally:
            lock.release()

    def _explained(self, error: OSError, name: str) -> CheckpointError:
        files = [Path(str(file)) for file in (error.filename, error.filename2) if isinstance(file, str | Path)]
        if error.errno in FULL or any(file.is_relative_to(self.root) for file in files):
            return CheckpointError(
                f"{self.root}: the cache cannot be used ({one_line(error)}); set WAVEUNET_CACHE to a folder with room "
                "that you can write to"
            )
        where = files[0] if files else name
        return CheckpointError(f"{where}: cannot be read ({one_line(error)}); check the path and its permissions")

    @property
    def _first_use_path(self) -> Path:
        return self.root / "first-use.json"

    def _first_uses(self) -> dict[str, dict[str, str]]:
        path = self._first_use_path
        if not path.is_file():
            return {}
        try:
            return {model: _texts(hashes) for model, hashes in json_in(path).items()}
        except (ConfigError, ValidationError) as error:
            raise CheckpointError(
                f"{path}: damaged ({one_line(error)}); delete it to trust the next download of each model anew"
            ) from error


@dataclass(frozen=True)
class LastCopy:
    """The last good copy of a registry, in one file, so that it is replaced whole or not at all."""

    path: Path

    def read(self) -> dict[str, str]:
        """The texts of its files by name; {} if there is no copy, or none that can be read."""
        try:
            return _texts(json_in(self.path, MOST_REGISTRY_BYTES))
        except (ConfigError, ValidationError):
            return {}

    def replace(self, texts: dict[str, str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(self.path, texts)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _texts(table: object) -> dict[str, str]:
    return convert(table, dict[str, str])


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _write_json(path: Path, value: object) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
