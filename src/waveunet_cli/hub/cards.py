"""A model card: one readable TOML file that says what a published model is and where its bytes are.

A card is checked in full when it is read: every key is known, typed and consistent with the others, so the rest
of the hub never meets a doubtful one. No torch here.

    name = "m4"                        lower-case letters, digits, dashes
    architecture = "M4"                a variant of config.py, or the program that made it (PROGRAMS of importers/)
    changes = { filters = 16 }         fields in which the model differs from that variant, if any
    format = "tensorflow"              what the files are: safetensors, tensorflow, pytorch or keras
    import_options = { stride = 4 }    what else the conversion must be told (ImportOptions of importers/), if anything
    stems, residual, sample_rate, channels, licence, authors, citation, homepage, verified, notes, attribution
    [[files]]                          name, size or expected_size, sha256 or git_sha1, urls
    [archive]                          the same keys: a zip or tar.gz that holds the files, too, a second source
    [[quality]]                        dataset, metric, aggregation, values = { vocals = 4.46 }

`verified` is true only where the bytes themselves were seen and their size and hash taken. `size` is then exact
and enforced; `expected_size` is hearsay: shown, and twice that is the most that will be read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from waveunet_cli.bounds import AudioChannels, SampleRateHz, SourceName
from waveunet_cli.errors import ConfigError
from waveunet_cli.importers import PROGRAMS
from waveunet_cli.importers.options import ImportOptions, Names
from waveunet_cli.networks.wave_u_net.config import VARIANTS, WaveUNetConfig
from waveunet_cli.tables import check, from_table, partial, toml_in, toml_of
from waveunet_cli.text import shown

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
ModelName = Annotated[
    str, Meta(pattern=rf"\A{NAME.pattern}\Z", max_length=64, description="lower-case letters, digits and dashes")
]
FileName = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=128, description="the plain name of a file")
]
Bytes = Annotated[int, Meta(ge=1, le=20 * 10**9)]  # the largest published music model has 0.3 GB
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="64 hex digits")]
Sha1 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{40}\Z", description="40 hex digits")]


@dataclass(frozen=True)
class File:
    """One file of a model: what it must be, and the addresses to try in turn.

    Without addresses the file lies in the card's archive, or beside the card if that has none.
    """

    name: FileName
    size: Bytes | None = None
    expected_size: Bytes | None = None
    sha256: Sha256 | None = None
    git_sha1: Sha1 | None = None
    urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        _require(
            (self.size is None) != (self.expected_size is None),
            f"{self.name}: needs either size (exact) or expected_size",
        )
        for url in self.urls:
            _require(is_url(url), f"{self.name}: urls: found {shown(url)}; expected an http(s) address with a host")

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

    name: ModelName
    title: str
    architecture: str
    format: Literal["safetensors", "tensorflow", "pytorch", "keras"]
    stems: Names
    residual: SourceName
    sample_rate: SampleRateHz
    channels: AudioChannels
    licence: str
    authors: tuple[str, ...]
    citation: str
    homepage: str
    verified: bool
    notes: str
    files: tuple[File, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    import_options: ImportOptions = field(default_factory=ImportOptions)
    attribution: str = ""
    archive: File | None = None
    quality: tuple[Quality, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        check(self)
        _require(len(set(self.stems)) == len(self.stems), f"stems: found {self.stems}; expected different names")
        known = (*VARIANTS, *PROGRAMS)
        _require(
            self.architecture in known,
            f"architecture: found {shown(self.architecture)}; expected one of {', '.join(known)}",
        )
        _require(self.architecture in VARIANTS or not self.changes, "changes: only a variant's fields can be changed")
        _require(self.residual in self.stems, f"residual: found {self.residual}; expected one of the stems")
        _require(
            1 <= len(self.files) <= 32, f"files: found {len(self.files)}; expected one or more [[files]], at most 32"
        )
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
        doubled = self.import_options.given().keys() & self._stated.keys()
        _require(not doubled, f"import_options: {', '.join(sorted(doubled))}: the card states that already")

    @property
    def config(self) -> WaveUNetConfig | None:
        """The architecture, where it is a Wave-U-Net of config.py; a port's is read from its checkpoint."""
        if self.architecture in PROGRAMS:
            return None
        variant = VARIANTS[self.architecture]
        return replace(variant, **partial(type(variant), self.changes, "changes"))

    @property
    def options(self) -> ImportOptions:
        """What its files are converted with: all that the card and its architecture state."""
        return ImportOptions(**self._stated).over(self.import_options)

    @property
    def _stated(self) -> dict[str, Any]:
        known = {**(vars(self.config) if self.config else {}), **vars(self)}
        return {option.name: known[option.name] for option in fields(ImportOptions) if option.name in known}

    @property
    def size(self) -> int:
        """Bytes to download, exact or expected."""
        return sum(file.shown_size for file in self._downloaded)

    @property
    def is_size_exact(self) -> bool:
        """Whether `size` is what the card states, and not in part expected."""
        return all(file.size is not None for file in self._downloaded)

    @property
    def _downloaded(self) -> tuple[File, ...]:
        """The files, or the archive where they lie in nothing else."""
        if self.archive is not None and not all(file.urls for file in self.files):
            return (self.archive,)
        return self.files


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
    return _card(toml_in(path), path.as_posix(), str(path.parent))


def parse_card(text: str, where: str, origin: str) -> Card:
    """The card in a TOML text that lies at `where`, a path or an address. Raises ConfigError."""
    return _card(toml_of(text, where), where, origin)


def _card(table: dict[str, Any], where: str, origin: str) -> Card:
    card = from_table(Card, table, where, origin=origin)
    stem = PurePosixPath(where).stem
    _require(card.name == stem, f"{where}: name: found {card.name}; a card is named after its file: expected {stem}")
    return card


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
