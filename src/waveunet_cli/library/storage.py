"""Where songs and stems lie: on a disk of this machine (here), or at an address that fsspec knows (remote.py)."""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BufferedIOBase
from pathlib import Path, PurePath
from tempfile import mkdtemp
from typing import NamedTuple, Protocol, Self

from filelock import Timeout

from waveunet_cli.audio.read import reading_explained
from waveunet_cli.errors import AudioError, AudioReadError, ConfigError, DeviceError
from waveunet_cli.files import locked, new_lock, whole_file

STANDARD_INPUT = "-"


MOST_MISSES = 20  # times that a lock's folder may vanish between making it and making the lock


class BusyError(Exception):
    """Another process holds a lock."""


class Glance(NamedTuple):
    """What is seen of a file without reading it."""

    bytes: int
    modified_ns: int


class Listing(NamedTuple):
    """The files of a folder with their sizes in bytes, None if unknown; or the error that hides them."""

    folder: PurePath
    sizes: Mapping[str, int | None]
    error: OSError | None = None


class Storage(Protocol):
    """What a batch asks of the storage that its songs or its stems lie on. Every method may raise OSError."""

    def name(self, path: PurePath) -> str:
        """The file's name in manifests: the same from whatever folder the command is run."""

    def identity(self, path: PurePath) -> str:
        """The same text for all names of a file, whether it is there or not."""

    def is_folder(self, path: PurePath) -> bool: ...

    def is_there(self, path: PurePath) -> bool:
        """Whether the name is taken, be it by a link that leads nowhere."""

    def glance(self, path: PurePath) -> Glance: ...

    def open(self, path: PurePath) -> AbstractContextManager[BufferedIOBase]:
        """The file, to read from."""

    def write_text(self, path: PurePath, text: str, part: PurePath) -> None:
        """Write the file `part`, then rename it to `path`."""

    def remove(self, path: PurePath) -> None:
        """Delete a file, if it is there."""

    def names(self, folder: PurePath) -> list[str]:
        """The names in a folder; none if there is no such folder."""

    def walk(self, root: PurePath, enter: Callable[[PurePath], bool]) -> Iterator[Listing]:
        """A folder, and all folders in it that `enter` allows and that are no links."""

    def as_file(self, path: PurePath) -> AbstractContextManager[Path]:
        """The file as a path of this machine, to read from. May raise AudioReadError."""

    def claimed(self, lock: PurePath, wait: bool, keep: Callable[[], bool]) -> AbstractContextManager[bool]:
        """Hold a lock, whose file is left behind only if stems may be there without a manifest, as `keep` says.

        Raises BusyError if another process holds it and `wait` is false. A storage without locks keeps nobody away.
        Gives False where that comes as a surprise: on a disk.
        """

    def landing(self, paths: Mapping[str, PurePath], lock: PurePath) -> AbstractContextManager[Mapping[str, Path]]:
        """Paths of this machine, to write what shall be at `paths` when the context ends without an error.

        May raise AudioWriteError. `lock` is held.
        """

    def space(self, folder: PurePath) -> Path:
        """The folder of this machine whose free space limits what can be written to `folder`."""


class Disk:
    """Files of this machine."""

    def name(self, path: PurePath) -> str:
        return str(Path(path).absolute())

    def identity(self, path: PurePath) -> str:
        return os.path.realpath(path)  # unlike Path.resolve this has an answer for a link to itself

    def is_folder(self, path: PurePath) -> bool:
        return os.path.isdir(path)  # noqa: PTH112 - Path's own test raises where a folder above may not be entered

    def is_there(self, path: PurePath) -> bool:
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no name of a file
            return False
        return True

    def glance(self, path: PurePath) -> Glance:
        status = Path(path).stat()
        return Glance(status.st_size, status.st_mtime_ns)

    def open(self, path: PurePath) -> AbstractContextManager[BufferedIOBase]:
        if not Path(path).is_file() and self.is_there(path):  # a pipe would be waited for
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return Path(path).open("rb")

    def write_text(self, path: PurePath, text: str, part: PurePath) -> None:
        with whole_file(Path(path), Path(part)) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def remove(self, path: PurePath) -> None:
        Path(path).unlink(missing_ok=True)

    def names(self, folder: PurePath) -> list[str]:
        try:
            return os.listdir(folder)  # noqa: PTH208 - names, not paths
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self, root: PurePath, enter: Callable[[PurePath], bool]) -> Iterator[Listing]:
        errors: list[OSError] = []
        for folder, folders, names in os.walk(root, onerror=errors.append):
            folders[:] = [name for name in folders if enter(Path(folder, name))]
            yield Listing(Path(folder), dict.fromkeys(names))
        for error in errors:
            yield Listing(Path(error.filename), {}, error)

    @contextmanager
    def as_file(self, path: PurePath) -> Iterator[Path]:
        yield Path(path)

    @contextmanager
    def claimed(self, lock: PurePath, wait: bool, keep: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Makes the folder of the lock; takes it away again if it is empty at the end."""
        created: list[Path] = []
        path = Path(lock)
        held = new_lock(path)
        is_mine = False
        try:
            for left in reversed(range(MOST_MISSES)):
                try:
                    for folder in [folder for folder in reversed(path.parents) if not folder.exists()]:
                        folder.mkdir(exist_ok=True)
                        created.append(folder)
                    keeps_away = locked(held, -1 if wait else 0)
                    break
                except Timeout:
                    raise BusyError(str(path)) from None
                except FileNotFoundError:  # whoever held it takes its folder away
                    if not left:
                        raise
            is_mine = True
            yield keeps_away
        finally:
            if is_mine and not keep():
                try:
                    path.unlink(missing_ok=True)  # while it is held: whoever waits for it sees that, and tries anew
                except PermissionError:  # Windows deletes no file that is held, by us or by whoever takes it now
                    held.release()
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
            held.release()
            for folder in reversed(created):
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()

    @contextmanager
    def landing(self, paths: Mapping[str, PurePath], lock: PurePath) -> Iterator[Mapping[str, Path]]:
        yield {stem: Path(path) for stem, path in paths.items()}

    def space(self, folder: PurePath) -> Path:
        return Path(folder)


DISK: Storage = Disk()


class StandardInput(Disk):
    """What came on standard input: a file that goes with this process. Its name is always the same."""

    def __init__(self) -> None:
        """Reads all of it."""
        given = getattr(sys.stdin, "buffer", None)
        if given is None or given.closed:
            raise AudioReadError("standard input: there is none, or it is text; name a file")
        folder = mkdtemp(prefix="waveunet-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder, "stdin")
        with reading_explained("standard input"), self.path.open("wb") as file:
            shutil.copyfileobj(given, file)
        if not self.path.stat().st_size:
            raise AudioReadError("standard input: is empty; send a song there, once")

    def name(self, path: PurePath) -> str:
        return STANDARD_INPUT if path == self.path else super().name(path)

    @contextmanager
    def as_file(self, path: PurePath) -> Iterator[Path]:
        with renamed({str(path): "standard input"}):
            yield Path(path)


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors speak of what the user knows instead of temporary files."""
    try:
        yield
    except (AudioError, DeviceError, ConfigError) as error:
        said = str(error)
        for local, name in names.items():
            said = said.replace(local, name)
        raise type(error)(said) from error


@dataclass(frozen=True)
class Located:
    """A file or a folder of a storage. `address` is what the user calls it, if that is an address."""

    path: PurePath
    storage: Storage = DISK
    address: str | None = None

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.address or str(self.path)

    @property
    def identity(self) -> str:
        """The same text for all names of a file."""
        return self.storage.identity(self.path)

    def glance(self) -> Glance:
        """Raises OSError."""
        return self.storage.glance(self.path)

    def sha256(self) -> str:
        """Of the file's bytes. Raises OSError."""
        with self.storage.open(self.path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def above(self) -> Self:
        """The folder in which it lies."""
        address = None if self.address is None else self.address.rpartition("/")[0]
        return type(self)(self.path.parent, self.storage, address)

    def at(self, path: PurePath) -> Self:
        """The file or folder at a path below this folder."""
        if self.address is None:
            return type(self)(path, self.storage)
        below = path.relative_to(self.path).as_posix()
        return type(self)(path, self.storage, f"{self.address.rstrip('/')}/{below}")


HERE = Located(Path())


@dataclass(frozen=True)
class FileMark:
    """A file as it was: its size and time to see at a glance that it is the same, its hash to be sure."""

    bytes: int
    modified_ns: int
    sha256: str

    @classmethod
    def of(cls, file: Located) -> Self:
        """Reads the whole file. Raises OSError."""
        return cls(*file.glance(), file.sha256())

    def seen_again(self, file: Located) -> Self | None:
        """The mark of the file now if it has the same bytes, else None. Raises OSError."""
        glance = file.glance()
        if glance == (self.bytes, self.modified_ns):
            return self
        if glance.bytes != self.bytes:
            return None
        now = type(self)(*glance, file.sha256())
        return now if now.sha256 == self.sha256 else None


def located(name: str | os.PathLike[str]) -> Located:
    """What a path or an address names; of "-", what comes on standard input.

    Raises ConfigError for an address that nothing installed can reach, and AudioReadError.
    """
    text = os.fspath(name)
    if text == STANDARD_INPUT:
        read = StandardInput()
        return Located(read.path, read, "standard input")
    if "://" not in text:
        return on_disk(text)
    if find_spec("fsspec") is None:
        raise ConfigError(f"{text}: an address needs fsspec; install it with: pip install fsspec")
    from waveunet_cli.library.remote import at_address

    return at_address(text)


def on_disk(name: str | os.PathLike[str]) -> Located:
    """What a path of this machine names. Raises ConfigError for a text that is none."""
    text = os.fspath(name)
    if not text or "\0" in text:
        raise ConfigError(f"{text!r}: is no path; name a file or a folder")
    if "://" in text:
        raise ConfigError(f"{text}: is an address; give it to separate_songs, or name a path of this machine")
    return Located(Path(text))
