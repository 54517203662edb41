"""Songs and stems on remote storage, through fsspec: s3://, gs://, memory://, file:// and whatever else it knows.

A song is streamed into a temporary folder, separated there, and its stems are uploaded: each whole under the name of
an unfinished file, then renamed, the manifest last. So the same manifests make a batch resumable here. There are no
locks on remote storage: two batches at work on one song both do it, with the same result.
"""

import posixpath
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from waveunet_cli.errors import AudioError, AudioReadError, AudioWriteError, ConfigError, DeviceError
from waveunet_cli.library.find import is_song
from waveunet_cli.library.manifest import FileMark, Manifest, SongOutputs, manifest_text, parse_manifest
from waveunet_cli.library.names import distinct_tracks
from waveunet_cli.library.song import Overwrite, Separated, Song, Target, outputs_of, request_of, separate_song
from waveunet_cli.separator import Separator

INSTALL = "install what it needs, such as: pip install s3fs"


@dataclass(frozen=True)
class RemoteSong(Song):
    """A song at an address; `path` stands for it only where songs are named."""

    url: str
    size_bytes: int

    @property
    def name(self) -> str:
        return self.url

    def bytes(self) -> int:
        return self.size_bytes


@dataclass(frozen=True)
class _Found:
    """A song, and the folder it was found in, if it was not given itself."""

    url: str
    path: Path
    root: Path | None
    size_bytes: int | None


@dataclass(frozen=True)
class RemoteSeparated(Separated):
    """Separated, with the addresses of the stems; the paths were temporary."""

    urls: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        return dict(self.urls)


def as_url(place: str) -> str:
    """The address of a file or folder that may be a path."""
    return place if "://" in place else f"file://{Path(place).absolute()}"


def find_remote_songs(inputs: Sequence[str], out: str) -> tuple[list[RemoteSong], list[AudioReadError]]:
    """As `find_songs`, for addresses; folders of addresses are searched through and through, without `out`."""
    found: dict[str, _Found] = {}  # by an address that is the same however the file was given
    problems = []
    for given in sorted(set(inputs), key=lambda url: (url.count("/"), url), reverse=True):
        fs, root = _opened(given)
        try:
            if fs.isdir(root):
                own = _opened(out)[1].rstrip("/") if as_url(out).partition("://")[0] in _protocols(fs) else None
                files = fs.find(root, detail=True)
                names = [name for name in files if _is_wanted(name, root, own)]
                for name in names:
                    url = f"{as_url(given).rstrip('/')}/{posixpath.relpath(name, root)}"
                    found[fs.unstrip_protocol(name)] = _Found(
                        url, Path("/", name), Path("/", root), files[name]["size"]
                    )
                if not names:
                    problems.append(AudioReadError(f"{given}: no audio files in this folder; check the address"))
            else:
                song = _Found(as_url(given), Path("/", root), None, fs.info(root)["size"])
                found.setdefault(fs.unstrip_protocol(root), song)
        except FileNotFoundError:
            problems.append(AudioReadError(f"{given}: no such file or folder; check the address"))
        except OSError as error:
            problems.append(AudioReadError(f"{given}: cannot be listed ({_line(error)}); check the address"))
    chosen = [found[key] for key in sorted(found)]
    tracks = distinct_tracks([song.path for song in chosen], [song.root for song in chosen])
    songs = [
        RemoteSong(song.path, track, song.url, song.size_bytes or 0) for song, track in zip(chosen, tracks, strict=True)
    ]
    return sorted(songs, key=lambda song: song.track), problems


class RemoteOutput:
    """Separates songs from anywhere into stems below an address."""

    def __init__(self, separator: Separator, target: Target, out: str, overwrite: Overwrite) -> None:
        """The stems go below `out`, named as by `target`, whose own folder does not matter."""
        self._separator = separator
        self._target = target
        self._out = as_url(out).rstrip("/")
        self._overwrite = overwrite

    def separate(self, song: Song, progress: Callable[[float, float | None], None]) -> Separated:
        """Raises what `separate_song` raises, AudioReadError for a download, and AudioWriteError for an upload."""
        assert isinstance(song, RemoteSong)
        source, remote_path = _opened(song.url)
        store, root = _opened(self._out)
        with tempfile.TemporaryDirectory(prefix="waveunet-") as name:
            staging = replace(self._target, out=Path(name, "out"))
            place = outputs_of(self._separator, song, staging)

            def there(path: Path) -> str:
                return posixpath.join(root, path.relative_to(staging.out).as_posix())

            urls = {
                stem: f"{self._out}/{path.relative_to(staging.out).as_posix()}" for stem, path in place.paths.items()
            }
            before = _transfers(song.url, AudioReadError, _glance, source, remote_path)
            if self._is_done(store, there, place, before, staging):
                return RemoteSeparated(song.path, {}, skipped=True, urls=urls)
            local = Path(name, "song" + Path(remote_path).suffix)
            _transfers(song.url, AudioReadError, source.get_file, remote_path, str(local))
            if _transfers(song.url, AudioReadError, _glance, source, remote_path) != before:
                raise AudioReadError(f"{song.url}: was changed while it was read; separate it again")
            try:
                done = separate_song(self._separator, Song(local, song.track), staging, progress=progress)
            except (AudioError, DeviceError, ConfigError) as error:
                said = str(error).replace(str(local), song.url).replace(str(staging.out), self._out)
                raise type(error)(said) from error
            _transfers(self._out, AudioWriteError, self._upload, store, there, place, song, before)
        return RemoteSeparated(**vars(done) | {"path": song.path, "stems": {}}, urls=urls)

    def _is_done(
        self, store: Any, there: Callable[[Path], str], place: SongOutputs, source: tuple[int, int], staging: Target
    ) -> bool:
        try:
            if self._overwrite == "never":
                return all(store.exists(there(path)) for path in place.paths.values())
            if self._overwrite == "always":
                return False
            manifest = parse_manifest(store.cat_file(there(place.manifest)).decode())
            request = request_of(self._separator, staging)
            marks = [manifest.stems[stem] for stem in place.paths]
            return (
                (manifest.model_sha256, manifest.settings) == (request.model_sha256, request.settings)
                and (manifest.input_mark.bytes, manifest.input_mark.modified_ns) == source
                and [(mark.bytes, mark.modified_ns) for mark in marks]
                == [_glance(store, there(path)) for path in place.paths.values()]
            )
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def _upload(
        self, store: Any, there: Callable[[Path], str], place: SongOutputs, song: RemoteSong, source: tuple[int, int]
    ) -> None:
        manifest = parse_manifest(place.manifest.read_text(encoding="utf-8"))
        for folder in {posixpath.dirname(there(path)) for path in place.paths.values()}:
            store.makedirs(folder, exist_ok=True)
            for part in store.glob(f"{folder}/.waveunet-{place.key}-*.part"):  # of a batch that was killed
                store.rm_file(part)
        marks = {}
        for stem, path in place.paths.items():
            self._put(store, path, there(path), place)
            size, modified_ns = _glance(store, there(path))
            marks[stem] = FileMark(size, modified_ns, manifest.stems[stem].sha256)
        fresh: Manifest = replace(
            manifest, input=song.url, input_mark=FileMark(*source, manifest.input_mark.sha256), stems=marks
        )
        place.manifest.write_text(manifest_text(fresh), encoding="utf-8")
        self._put(store, place.manifest, there(place.manifest), place)

    def _put(self, store: Any, path: Path, target: str, place: SongOutputs) -> None:
        part = posixpath.join(posixpath.dirname(target), f".waveunet-{place.key}-upload.part")
        store.put_file(str(path), part)
        store.mv(part, target)


def _opened(url: str) -> tuple[Any, str]:
    try:
        fs, path = url_to_fs(as_url(url))
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{url}: cannot be reached ({_line(error)}); {INSTALL}") from error
    return fs, path


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _is_wanted(name: str, root: str, own: str | None) -> bool:
    parts = posixpath.relpath(name, root).split("/")
    hidden = any(part.startswith(".") for part in parts[:-1])
    return is_song(parts[-1]) and not hidden and (own is None or not name.startswith(f"{own}/"))


def _glance(fs: Any, path: str) -> tuple[int, int]:
    """Size in bytes and time in nanoseconds."""
    fs.invalidate_cache(posixpath.dirname(path))
    return fs.info(path)["size"], round(fs.modified(path).timestamp() * 1e6) * 1000


def _transfers(
    where: str, kind: type[AudioReadError | AudioWriteError], function: Callable[..., Any], *what: Any
) -> Any:
    """Call; an OSError becomes one line about `where`."""
    try:
        return function(*what)
    except FileNotFoundError as error:
        raise kind(f"{where}: no such file; check the address") from error
    except OSError as error:
        raise kind(f"{where}: the transfer failed ({_line(error)}); try again") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
