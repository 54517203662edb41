"""Where songs and stems lie: a disk of this machine here; an address that fsspec knows in remote.py."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple, Protocol, Self

from waveunet_cli.files import whole_file


class Glance(NamedTuple):
    """What is seen of a file without reading it."""

    bytes: int
    modified_ns: int


class Storage(Protocol):
    """What a batch needs of the storage that its songs or its stems lie on. Every method may raise OSError."""

    def name(self, path: PurePath) -> str:
        """The file's name in manifests."""

    def identity(self, path: PurePath) -> str:
        """The same text for all names of a file, whether it is there or not."""

    def is_there(self, path: PurePath) -> bool:
        """Whether the name is taken, be it by a link that leads nowhere."""

    def glance(self, path: PurePath) -> Glance: ...

    def sha256(self, path: PurePath) -> str: ...

    def read_text(self, path: PurePath) -> str: ...

    def write_text(self, path: PurePath, text: str, key: str) -> None:
        """Write a file whole or not at all; `key` goes into the name of the unfinished file."""

    def beside(self, folder: PurePath, pattern: str) -> list[PurePath]:
        """The files of a folder whose names match; none if there is no such folder."""

    def as_file(self, path: PurePath) -> AbstractContextManager[Path]:
        """The file as a path of this machine, to read from."""

    def landing(self, paths: Mapping[str, PurePath], key: str) -> AbstractContextManager[Mapping[str, Path]]:
        """Paths of this machine to write what shall be at `paths` when the context ends without an error."""


class Disk:
    """Files of this machine."""

    def name(self, path: PurePath) -> str:
        return str(Path(path).absolute())

    def identity(self, path: PurePath) -> str:
        return os.path.realpath(path)  # unlike Path.resolve this has an answer for a link to itself

    def is_there(self, path: PurePath) -> bool:
        return os.path.lexists(path)

    def glance(self, path: PurePath) -> Glance:
        status = Path(path).stat()
        return Glance(status.st_size, status.st_mtime_ns)

    def sha256(self, path: PurePath) -> str:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read_text(self, path: PurePath) -> str:
        return Path(path).read_text(encoding="utf-8")

    def write_text(self, path: PurePath, text: str, key: str) -> None:
        temporary = Path(path).with_name(f".waveunet-{key}-{os.getpid()}.part")
        with whole_file(Path(path), temporary):
            temporary.write_text(text, encoding="utf-8")

    def beside(self, folder: PurePath, pattern: str) -> list[PurePath]:
        return list(Path(folder).glob(pattern))

    @contextmanager
    def as_file(self, path: PurePath) -> Iterator[Path]:
        yield Path(path)

    @contextmanager
    def landing(self, paths: Mapping[str, PurePath], key: str) -> Iterator[Mapping[str, Path]]:
        yield {stem: Path(path) for stem, path in paths.items()}


DISK: Storage = Disk()


@dataclass(frozen=True)
class Located:
    """A file on a storage."""

    path: PurePath
    storage: Storage = DISK

    @property
    def name(self) -> str:
        """In manifests."""
        return self.storage.name(self.path)

    def __str__(self) -> str:
        """As the user writes it."""
        return str(self.path) if isinstance(self.storage, Disk) else self.name

    def is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return self.storage.is_there(self.path)
        return False


@dataclass(frozen=True)
class FileMark:
    """A file as it was: its size and time to see at a glance that it is the same, its hash to be sure."""

    bytes: int
    modified_ns: int
    sha256: str

    @classmethod
    def of(cls, file: Located) -> Self:
        """Reads the whole file. Raises OSError."""
        return cls(*file.storage.glance(file.path), file.storage.sha256(file.path))

    @property
    def glance(self) -> Glance:
        return Glance(self.bytes, self.modified_ns)

    def seen_again(self, file: Located) -> Self | None:
        """The mark of the file now if it has the same bytes, else None. Raises OSError."""
        glance = file.storage.glance(file.path)
        if glance == self.glance:
            return self
        if glance.bytes != self.bytes:
            return None
        now = type(self).of(file)
        return now if now.sha256 == self.sha256 else None
