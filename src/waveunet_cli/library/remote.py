"""Songs and stems at addresses, through fsspec: s3://, gs://, memory:// and whatever else it knows.

A song is downloaded into a temporary folder to be read, and its stems are written there before they are uploaded: each
under the name of an unfinished file, which is then renamed, the manifest last. There are no locks on remote storage:
two batches at work on one song both do it, with the same result. An address file:// is a path of this machine, and is
treated as one.
"""

import hashlib
import posixpath
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from fsspec.core import url_to_fs

from waveunet_cli.errors import AudioError, AudioReadError, AudioWriteError, ConfigError, DeviceError
from waveunet_cli.library.find import find_songs, is_song
from waveunet_cli.library.names import distinct_tracks
from waveunet_cli.library.song import Song
from waveunet_cli.library.storage import DISK, Disk, Glance, Storage

INSTALL = "install what it needs, such as: pip install s3fs"


class Remote:
    """A file system of fsspec; see Storage. `address` is the folder or file below which the user's names begin."""

    def __init__(self, fs: Any, root: str, address: str) -> None:
        self.fs = fs
        self._root = root.rstrip("/")
        self._address = address.rstrip("/")

    def name(self, path: PurePath) -> str:
        return self._address + str(path).removeprefix(self._root)

    def identity(self, path: PurePath) -> str:
        return str(self.fs.unstrip_protocol(str(path)))

    def is_there(self, path: PurePath) -> bool:
        self.fs.invalidate_cache(str(path.parent))
        return bool(self.fs.exists(str(path)))

    def glance(self, path: PurePath) -> Glance:
        self.fs.invalidate_cache(str(path.parent))
        modified_ns = round(self.fs.modified(str(path)).timestamp() * 1e6) * 1000
        return Glance(self.fs.info(str(path))["size"], modified_ns)

    def sha256(self, path: PurePath) -> str:
        with self.fs.open(str(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read_text(self, path: PurePath) -> str:
        text: str = self.fs.cat_file(str(path)).decode()
        return text

    def write_text(self, path: PurePath, text: str, key: str) -> None:
        with tempfile.TemporaryDirectory(prefix="waveunet-") as folder:
            local = Path(folder, "text")
            local.write_text(text, encoding="utf-8")
            self._put(local, path, key)

    def beside(self, folder: PurePath, pattern: str) -> list[PurePath]:
        self.fs.invalidate_cache(str(folder))
        return [PurePosixPath(found) for found in self.fs.glob(f"{folder}/{pattern}")]

    @contextmanager
    def as_file(self, path: PurePath) -> Iterator[Path]:
        """Raises AudioReadError if the song cannot be fetched; errors about the copy name the song instead."""
        name = self.name(path)
        with tempfile.TemporaryDirectory(prefix="waveunet-") as folder:
            local = Path(folder, f"song{path.suffix}")
            try:
                self.fs.get_file(str(path), str(local))
            except FileNotFoundError as error:
                raise AudioReadError(f"{name}: no such file; check the address") from error
            except OSError as error:
                raise AudioReadError(f"{name}: the transfer failed ({_line(error)}); try again") from error
            with _renamed({str(local): name}):
                yield local

    @contextmanager
    def landing(self, paths: Mapping[str, PurePath], key: str) -> Iterator[Mapping[str, Path]]:
        """Raises AudioWriteError if a stem cannot be stored; errors about the copies name the stems instead."""
        with tempfile.TemporaryDirectory(prefix="waveunet-") as folder:
            local = {stem: Path(folder, str(i) + path.suffix) for i, (stem, path) in enumerate(paths.items())}
            with _renamed({str(local[stem]): self.name(path) for stem, path in paths.items()}):
                yield local
            try:
                for parent in {str(path.parent) for path in paths.values()}:
                    self.fs.makedirs(parent, exist_ok=True)
                    for part in self.fs.glob(f"{parent}/.waveunet-{key}-*.part"):  # of a batch that was killed
                        self.fs.rm_file(part)
                for stem, path in paths.items():
                    self._put(local[stem], path, key)
            except OSError as error:
                raise AudioWriteError(f"{self._address}: the transfer failed ({_line(error)}); try again") from error

    def _put(self, local: Path, path: PurePath, key: str) -> None:
        part = str(path.parent / f".waveunet-{key}-upload.part")
        self.fs.put_file(str(local), part)
        self.fs.mv(part, str(path))


class Opened(NamedTuple):
    """A place that a user named: a path of a storage."""

    storage: Storage
    path: PurePath


def opened(place: str) -> Opened:
    """Raises ConfigError for an address that nothing installed can reach."""
    url = urlsplit(place)
    if "://" not in place or url.scheme in ("file", "local"):
        return Opened(DISK, Path(unquote(url.path) if "://" in place else place))
    try:
        fs, root = url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{place}: cannot be reached ({_line(error)}); {INSTALL}") from error
    return Opened(Remote(fs, root, place), PurePosixPath(root))


class _Found(NamedTuple):
    song: Song
    root: PurePath | None  # the folder it was found in, if it was not given itself


def find_songs_anywhere(inputs: Sequence[str], out: str) -> tuple[list[Song], list[AudioReadError]]:
    """As `find_songs`, for paths and addresses; folders at addresses are searched through and through, too."""
    target = opened(out)
    places = {
        given: opened(given) for given in sorted(set(inputs), key=lambda url: (url.count("/"), url), reverse=True)
    }
    on_disk = [Path(place.path) for place in places.values() if isinstance(place.storage, Disk)]
    found: dict[str, _Found] = {}  # by an address that is the same however the file was given
    problems: list[AudioReadError] = []
    if on_disk:
        local, problems = find_songs(
            on_disk, Path(target.path) if isinstance(target.storage, Disk) else Path("/dev/null/out")
        )
        for song in local:
            above = [folder for folder in on_disk if folder in song.path.parents]
            root = min(above, key=lambda folder: len(folder.parts), default=None)
            found[song.identity] = _Found(song, root)
    for given, place in places.items():
        if isinstance(place.storage, Remote):
            try:
                for one in _found_at(given, place.storage, str(place.path), target):
                    found.setdefault(one.song.identity, one)
            except FileNotFoundError:
                problems.append(AudioReadError(f"{given}: no such file or folder; check the address"))
            except OSError as error:
                problems.append(AudioReadError(f"{given}: cannot be listed ({_line(error)}); check the address"))
            except AudioReadError as error:
                problems.append(error)
    chosen = [found[key] for key in sorted(found)]
    absolute = [PurePosixPath("/", one.song.path) for one in chosen]
    roots = [None if one.root is None else PurePosixPath("/", one.root) for one in chosen]
    tracks = distinct_tracks(absolute, roots)
    songs = [
        Song(one.song.path, track, one.song.storage, one.song.address, one.song.size_bytes)
        for one, track in zip(chosen, tracks, strict=True)
    ]
    return sorted(songs, key=lambda song: song.track), problems


def _found_at(given: str, storage: Remote, root: str, out: Opened) -> Iterator[_Found]:
    fs = storage.fs
    if not fs.isdir(root):
        path = PurePosixPath(root)
        yield _Found(Song(path, "", storage, storage.name(path), fs.info(root)["size"]), None)
        return
    own = out.storage.identity(out.path) if isinstance(out.storage, Remote) else None
    files = fs.find(root, detail=True)
    wanted = [name for name in files if _is_wanted(name, root)]
    wanted = [name for name in wanted if own is None or not fs.unstrip_protocol(name).startswith(f"{own}/")]
    if not wanted:
        raise AudioReadError(f"{given}: no audio files in this folder; check the address")
    for name in wanted:
        path = PurePosixPath(name)
        yield _Found(Song(path, "", storage, storage.name(path), files[name]["size"]), PurePosixPath(root))


def _is_wanted(name: str, root: str) -> bool:
    parts = posixpath.relpath(name, root).split("/")
    return is_song(parts[-1]) and not any(part.startswith(".") for part in parts[:-1])


@contextmanager
def _renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors speak of what the user knows instead of temporary files."""
    try:
        yield
    except (AudioError, DeviceError, ConfigError) as error:
        said = str(error)
        for local, name in names.items():
            said = said.replace(local, name)
        raise type(error)(said) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
