"""Songs and stems at addresses, through fsspec: s3://, gs://, memory:// and whatever else it knows.

A song is downloaded into a temporary folder to be read. Its stems are written there, then uploaded: each under the name
of an unfinished file, which is renamed; the manifest last. There are no locks on remote storage: two batches at work on
one song both do it, with the same result. A file with the lock's name says that an upload was begun and not finished.
"""

import contextlib
import re
import tempfile
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from waveunet_cli.errors import AudioReadError, AudioWriteError, ConfigError
from waveunet_cli.library.storage import Glance, Listing, Located, renamed
from waveunet_cli.text import one_line

PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "http": "aiohttp",
    "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol", "webdav": "webdav4",
}  # fmt: skip


def at_address(address: str) -> Located:
    """What an address names; file:// names a path of this machine.

    Raises ConfigError for an address that nothing installed can reach.
    """
    try:
        fs, path = url_to_fs(address)
    except ImportError as error:
        package = PACKAGES.get(address.partition("://")[0])
        remedy = f"install it with: pip install {package}" if package else "install what is named there"
        raise ConfigError(f"{address}: cannot be reached ({one_line(error)}); {remedy}") from error
    except ValueError as error:
        raise ConfigError(f"{address}: cannot be reached ({one_line(error)}); check what is before ://") from error
    if isinstance(fs, LocalFileSystem):
        return Located(Path(path))
    scheme = re.match("https?://", path)
    if scheme:
        return Located(PurePosixPath(path[scheme.end() :]), Remote(fs, scheme[0]), address)
    return Located(PurePosixPath(path), Remote(fs), address)


@dataclass(frozen=True)
class Remote:
    """A file system of fsspec; see Storage. `scheme`: https:// where it wants that before every path."""

    fs: Any
    scheme: str = ""

    def _at(self, path: PurePath) -> str:
        return f"{self.scheme}{path}"

    def name(self, path: PurePath) -> str:
        return str(self.fs.unstrip_protocol(self._at(path)))

    def identity(self, path: PurePath) -> str:
        return self.name(path)

    def is_folder(self, path: PurePath) -> bool:
        return not self.scheme and bool(self.fs.isdir(self._at(path)))  # a page of the web is no folder

    def is_there(self, path: PurePath) -> bool:
        try:
            self._info(path)
        except FileNotFoundError:
            return False
        return True

    def glance(self, path: PurePath) -> Glance:
        info = self._info(path)
        if self.scheme:  # the web has dates and tags, or neither
            stated = f"{info.get('ETag')} {info.get('Last-Modified')}"
            return Glance(info.get("size") or 0, zlib.crc32(stated.encode()))
        return Glance(info["size"], round(self.fs.modified(self._at(path)).timestamp() * 1e6) * 1000)

    def _info(self, path: PurePath) -> Any:
        self.fs.invalidate_cache(self._at(path.parent))
        try:
            return self.fs.info(self._at(path))
        except FileNotFoundError as error:
            if not self.scheme or error.__cause__ is None:
                raise
            raise OSError(one_line(error.__cause__)) from error  # the web's reason

    @contextmanager
    def open(self, path: PurePath) -> Iterator[BufferedIOBase]:
        try:
            with self.fs.open(self._at(path), "rb") as file:
                yield file
        except (OSError, ValueError):  # ValueError: of what is read
            raise
        except Exception as error:  # each file system of fsspec has errors of its own
            raise OSError(one_line(error)) from error

    def write_text(self, path: PurePath, text: str, part: PurePath) -> None:
        self.fs.pipe_file(self._at(part), text.encode())
        self._rename(part, path)

    def remove(self, path: PurePath) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._at(path))

    def names(self, folder: PurePath) -> list[str]:
        self.fs.invalidate_cache(self._at(folder))
        try:
            return [PurePosixPath(path).name for path in self.fs.ls(self._at(folder), detail=False)]
        except FileNotFoundError:
            return []

    def walk(self, root: PurePath, enter: Callable[[PurePath], bool]) -> Iterator[Listing]:
        self.fs.invalidate_cache(self._at(root))
        folders: defaultdict[PurePosixPath, dict[str, int | None]] = defaultdict(dict)
        for name, info in self.fs.find(self._at(root), detail=True).items():  # one request, however many folders
            path = PurePosixPath(name)
            folders[path.parent][path.name] = info["size"]
        for folder, sizes in sorted(folders.items()):
            if all(enter(above) for above in (folder, *folder.parents) if root in above.parents):
                yield Listing(folder, sizes)

    @contextmanager
    def as_file(self, path: PurePath) -> Iterator[Path]:
        """Raises AudioReadError if the song cannot be fetched; errors about the copy name the song instead."""
        name = self.name(path)
        with tempfile.TemporaryDirectory(prefix="waveunet-") as folder:
            local = Path(folder, f"song{path.suffix}")
            try:
                self.fs.get_file(self._at(path), str(local))
            except FileNotFoundError as error:
                raise AudioReadError(f"{name}: no such file; check the address") from error
            except Exception as error:  # each file system of fsspec has errors of its own
                raise AudioReadError(f"{name}: the transfer failed ({one_line(error)}); try again") from error
            with renamed({str(local): name}):
                yield local

    @contextmanager
    def claimed(self, lock: PurePath, wait: bool, keep: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        yield True  # no lock: as the README says
        with contextlib.suppress(OSError):  # the next run of the batch removes it
            self.remove(lock)

    @contextmanager
    def landing(self, paths: Mapping[str, PurePath], lock: PurePath) -> Iterator[Mapping[str, Path]]:
        """Raises AudioWriteError if a stem cannot be stored; errors about the copies name the stems instead."""
        with tempfile.TemporaryDirectory(prefix="waveunet-") as folder:
            local = {stem: Path(folder, f"{index}{path.suffix}") for index, (stem, path) in enumerate(paths.items())}
            with renamed({str(local[stem]): self.name(path) for stem, path in paths.items()}):
                yield local
            path = lock
            try:
                self.fs.makedirs(self._at(lock.parent), exist_ok=True)
                self.fs.pipe_file(self._at(lock), b"")
                for stem, path in paths.items():
                    self.fs.makedirs(self._at(path.parent), exist_ok=True)
                    part = path.with_name(f"{lock.stem}-{uuid.uuid4().hex[:12]}.part")
                    self.fs.put_file(str(local[stem]), self._at(part))
                    self._rename(part, path)
            except OSError as error:
                name = self.name(path)
                raise AudioWriteError(f"{name}: the transfer failed ({one_line(error)}); try again") from error

    def space(self, folder: PurePath) -> Path:
        return Path(tempfile.gettempdir())

    def _rename(self, part: PurePath, path: PurePath) -> None:
        if type(self.fs).mv is AbstractFileSystem.mv:  # this takes brackets in a name for a pattern
            self.fs.cp_file(self._at(part), self._at(path))
            self.fs.rm_file(self._at(part))
        else:
            self.fs.mv(self._at(part), self._at(path))
