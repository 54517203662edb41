"""A model card: one readable TOML file that says what a published model is and where its bytes are.

A card is checked in full when it is read: every key is known, typed and consistent with the others, so the rest
of the hub never meets a doubtful one. No torch here.

    name = "m4"                        lower-case letters, digits, dashes
    architecture = "M4"                a variant of config.py, or the name of a port (PORTS)
    changes = { filters = 16 }         fields in which the model differs from that variant, if any
    format = "tensorflow"              what the files are (FORMATS)
    stems, residual, sample_rate, channels, licence, authors, citation, homepage, verified, notes, attribution
    [[files]]                          name, size or expected_size, sha256 or git_sha1, urls
    [archive]                          the same keys: a zip that also holds the files, a second source for them
    [[quality]]                        dataset, metric, aggregation, values = { vocals = 4.46 }

`verified` is true only where the bytes themselves were seen and their size and hash taken. `size` is then exact
and enforced; `expected_size` is hearsay: shown, and twice that is the most that will be read.
"""

import re
import tomllib
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.wave_u_net.config import VARIANTS, WaveUNetConfig

FORMATS = ("safetensors", "tensorflow", "pytorch", "keras")
PORTS = ("PyTorch port", "Keras port", "MSS_WaveUNet")

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
STEM = re.compile(r"\w[\w -]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class File:
    """One file of a model: what it must be, and the addresses to try in turn.

    Without addresses the file lies in the card's archive, or beside the card if that has none.
    """

    name: str
    size: int | None = None
    expected_size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(_FILE_NAME.fullmatch(self.name)), f"file name {self.name!r} must be a plain name")
        _require(
            (self.size is None) != (self.expected_size is None) and self.shown_size > 0,
            f"{self.name} needs either size (exact) or expected_size, in bytes and positive",
        )
        _require(not self.sha256 or bool(_SHA256.fullmatch(self.sha256)), f"{self.name}: sha256 must be 64 hex digits")
        _require(not self.git_sha1 or bool(_SHA1.fullmatch(self.git_sha1)), f"{self.name}: git_sha1 must be 40 digits")
        for url in self.urls:
            _require(is_url(url), f"{self.name}: address {url!r} must be http(s), with a host")

    @property
    def shown_size(self) -> int:
        """Bytes, exact or expected."""
        return self.size or self.expected_size or 0

    @property
    def most_bytes(self) -> int:
        """More than this is never read."""
        return self.size or 2 * self.shown_size

    @property
    def hash_known(self) -> bool:
        return self.sha256 is not None or self.git_sha1 is not None


@dataclass(frozen=True)
class Quality:
    """A published or measured figure per stem, with what it is a figure of."""

    dataset: str
    metric: str
    aggregation: str
    values: dict[str, float]


@dataclass(frozen=True)
class Card:
    """One published model; `origin` is the folder, or the address, that the card came from."""

    name: str
    title: str
    architecture: str
    format: str
    stems: tuple[str, ...]
    residual: str
    sample_rate: int
    channels: int
    licence: str
    authors: tuple[str, ...]
    citation: str
    homepage: str
    verified: bool
    notes: str
    files: tuple[File, ...]
    changes: dict[str, Any]
    attribution: str = ""
    archive: File | None = None
    quality: tuple[Quality, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        _require(bool(NAME.fullmatch(self.name)), f"name {self.name!r} must be lower-case letters, digits and dashes")
        _require(self.format in FORMATS, f"format must be one of {', '.join(FORMATS)}, found {self.format!r}")
        _require(
            len(self.stems) == len(set(self.stems)) >= 2 and all(map(STEM.fullmatch, self.stems)),
            f"stems must be two or more different plain names: {self.stems}",
        )
        _require(self.residual in self.stems, f"residual {self.residual!r} must be one of the stems")
        _require(self.channels in (1, 2), f"channels must be 1 or 2, found {self.channels}")
        _require(self.sample_rate > 0, f"sample_rate must be positive, found {self.sample_rate}")
        _require(bool(self.files), "at least one [[files]] is needed")
        names = [file.name for file in self.files]
        _require(len(names) == len(set(names)), f"two files have the same name: {names}")
        if self.format == "tensorflow":
            indices = sum(name.endswith(".index") for name in names)
            _require(indices == 1, f"a TensorFlow bundle has exactly one .index file, found {indices}")
        else:
            _require(len(names) == 1, f"a {self.format} model is exactly one file, found {len(names)}")
        _require(self.archive is None or bool(self.archive.urls), "the archive has no urls")
        for quality in self.quality:
            strangers = quality.values.keys() - set(self.stems)
            _require(not strangers, f"quality names {sorted(strangers)}, which are no stems")
        if self.verified:
            hearsay = [file.name for file in self.files if file.size is None or file.sha256 is None]
            _require(not hearsay, f"verified, yet size and sha256 are not given for {', '.join(hearsay)}")
        config = self.config
        if config is not None:
            stated = (self.stems, self.sample_rate, self.channels, self.residual)
            derived = (config.sources, config.sample_rate, config.channels, config.residual)
            _require(
                stated == derived, f"stems, rate, channels, residual are {stated}, the architecture's are {derived}"
            )

    @property
    def config(self) -> WaveUNetConfig | None:
        """The architecture, where it is a Wave-U-Net of config.py; a port's is read from its checkpoint."""
        if self.architecture in PORTS:
            return None
        return replace(VARIANTS[self.architecture], **self.changes)

    @property
    def size(self) -> int:
        """Bytes to download, exact or expected: the files, or the archive where they lie in nothing else."""
        if self.archive is not None and not all(file.urls for file in self.files):
            return self.archive.shown_size
        return sum(file.shown_size for file in self.files)

    @property
    def is_size_exact(self) -> bool:
        """Whether `size` is what the card states, and not in part expected."""
        return self.size == sum(file.size or 0 for file in self.files)


def megabytes(size_bytes: int) -> str:
    """A size for people: 0.4 MB, 123 MB."""
    return f"{size_bytes / 1e6:.{1 if size_bytes < 10e6 else 0}f} MB"


def is_url(text: str) -> bool:
    """Whether a text is an address that can be fetched."""
    try:
        return text.startswith(("https://", "http://")) and bool(urlsplit(text).hostname)
    except ValueError:  # such as brackets around no address
        return False


def read_card(path: Path) -> Card:
    """Read a card from a file; raises ConfigError for anything that is not a complete, consistent card."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: unreadable model card ({error})") from error
    return parse_card(text, where=path.as_posix(), origin=str(path.parent))


def parse_card(text: str, where: str, origin: str) -> Card:
    """The card in a TOML text that lies at `where`, a path or an address. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: the model card is no TOML ({error})") from error
    try:
        _require("origin" not in table, "unknown: origin")
        table.setdefault("changes", {})
        _require(table.get("architecture") in (*VARIANTS, *PORTS), f"architecture: one of {[*VARIANTS, *PORTS]}")
        known = {field.name for field in fields(WaveUNetConfig)} if table["architecture"] in VARIANTS else set()
        _require(set(table["changes"]) <= known, f"changes must name fields of the architecture: {table['changes']}")
        table["changes"] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table["changes"].items()
        }
        table["files"] = tuple(_record(File, entry) for entry in table.get("files", ()))
        table["quality"] = tuple(_record(Quality, entry) for entry in table.get("quality", ()))
        if "archive" in table:
            table["archive"] = _record(File, table["archive"])
        card: Card = _record(Card, {**table, "origin": origin})
        _require(card.name == PurePosixPath(where).stem, f"a card is named after its file, this one says {card.name}")
        return card
    except (ConfigError, TypeError) as error:  # TypeError: a value of a kind that cannot be iterated or compared
        raise ConfigError(f"{where}: {error}; mend the model card") from error


_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    bool: (bool,),
    str | None: (str,),
    int | None: (int,),
}


def _record(kind: type[Any], table: Any) -> Any:
    """A dataclass from a table: all keys without default present, none unknown, simple ones of the right type."""
    _require(isinstance(table, dict), f"{kind.__name__.lower()} must be a table, found {table!r}")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(table.keys() - known.keys())
    _require(not unknown, f"unknown: {', '.join(unknown)}")
    missing = sorted(name for name, field in known.items() if field.default is MISSING and name not in table)
    _require(not missing, f"missing: {', '.join(missing)}")
    values = {}
    for name, value in table.items():
        wanted = known[name].type
        if wanted == tuple[str, ...]:
            right = isinstance(value, list) and all(isinstance(item, str) for item in value)
            value = tuple(value) if right else value
        elif wanted == dict[str, float]:
            right = isinstance(value, dict) and all(type(item) in (int, float) for item in value.values())
        else:
            right = wanted not in _TYPES or type(value) in _TYPES[wanted]
        _require(right, f"{name} is of the wrong type: {value!r}")
        values[name] = value
    return kind(**values)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
