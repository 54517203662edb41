"""What a finished song leaves beside its stems, so that the next run knows that they are whole and still wanted.

    <folder of the first stem>/.waveunet-KEY.json       the manifest, written last, atomically
                               .waveunet-KEY.lock       held while the song is being separated
                               .waveunet-KEY-*.part     unfinished files of whoever holds the lock

KEY is a hash of the stems' names. A lock file outlives only a process that was killed; so parts that nobody finishes
lie beside a lock file that nobody holds, and whoever takes the lock next removes them.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from filelock import FileLock, Timeout

from waveunet_cli import __version__
from waveunet_cli.audio import WriteReport
from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import AudioWriteError
from waveunet_cli.library.storage import DISK, Disk, FileMark, Located, Storage

FORMAT = 1
REMEDY = "choose another --out or --filename, or replace it with --overwrite always"
Settings = Mapping[str, str | bool | list[str] | None]


class BusyError(Exception):
    """Another process holds the lock of this song."""


@dataclass(frozen=True)
class Request:
    """What decides the stems of a song besides its samples: the model's hash, and settings that change samples."""

    model_sha256: str
    settings: Settings


@dataclass(frozen=True)
class Manifest:
    """A finished song. `stems` are by name, their paths relative to the manifest's folder."""

    format: int
    waveunet: str
    input: str
    input_mark: FileMark
    model: str
    model_sha256: str
    settings: Settings
    sample_rate_hz: int
    frames: int
    gain: float
    peak: float
    paths: Mapping[str, str]
    stems: Mapping[str, FileMark]


def parse_manifest(text: str) -> Manifest:
    """Raises ValueError, TypeError or KeyError for anything but a manifest of this format."""
    values: dict[str, Any] = json.loads(text)
    values["input_mark"] = FileMark(**values["input_mark"])
    values["stems"] = {stem: FileMark(**mark) for stem, mark in values["stems"].items()}
    manifest = Manifest(**values)
    if manifest.format != FORMAT:
        raise ValueError("another format")
    return manifest


def manifest_text(manifest: Manifest) -> str:
    """What `parse_manifest` reads."""
    return json.dumps(asdict(manifest), indent=1) + "\n"


def _is_of(manifest: Manifest, source: Located) -> bool:
    """Whether a manifest's stems are those of a song: of that name, or of these bytes. Raises OSError."""
    return manifest.input == source.name or manifest.input_mark.seen_again(source) is not None


def _require_same_song(manifest: Manifest, source: Located, stem: PurePath) -> None:
    """Raise AudioWriteError if a stem is another song's: of another path, with other bytes."""
    try:
        is_same = _is_of(manifest, source)
    except OSError:  # the song is missing, which is said elsewhere
        return
    if not is_same:
        raise AudioWriteError(f"{stem}: is a stem of {manifest.input}, not of {source}; {REMEDY}")


class SongOutputs:
    """The stems of one song on a storage, and what stands beside them.

    Here alone it is decided whether a song is done, and which files its stems may replace.
    """

    def __init__(self, paths: Mapping[str, PurePath], storage: Storage = DISK) -> None:
        self.paths = dict(paths)
        self.storage = storage
        self.first = next(iter(paths.values()))
        self._folder = self.first.parent
        self._relative = {stem: os.path.relpath(path, self._folder) for stem, path in paths.items()}
        self.key = hashlib.sha256("\0".join(self._relative.values()).encode(errors="surrogateescape")).hexdigest()[:12]
        self.manifest = self._folder / f".waveunet-{self.key}.json"
        self.lock = self._folder / f".waveunet-{self.key}.lock"

    def stems_exist(self) -> bool:
        return all(Located(path, self.storage).is_there() for path in self.paths.values())

    def why_again(self, source: Located, request: Request, remember: bool = True) -> str | None:
        """None if the stems are whole and what is asked for; else in a word or two what they are not.

        With `remember`, stems and songs that were only copied or touched are known at a glance the next time.
        Raises AudioWriteError where the stems' names are taken: by files of the user's, or another song's stems.
        """
        try:
            manifest = self._read()
        except FileNotFoundError:
            if not self.was_abandoned:  # else the files may be what a killed process finished
                self._require_free(source)
            return "new"
        except (OSError, ValueError, TypeError, KeyError):
            if self._stated_input() != source.name:  # whose stems these are, nobody can say
                self._require_free(source)
            return "manifest unreadable"
        _require_same_song(manifest, source, self.first)
        if manifest.model_sha256 != request.model_sha256:
            return "model changed"
        if manifest.settings != request.settings:
            return "settings changed"
        if manifest.stems.keys() != self.paths.keys():
            return "stems missing"
        try:
            input_mark = manifest.input_mark.seen_again(source)
            found = {stem: mark.seen_again(self._located(stem)) for stem, mark in manifest.stems.items()}
        except OSError:
            return "stems missing" if source.is_there() else "input missing"
        if input_mark is None:
            return "input changed"
        marks = {stem: mark for stem, mark in found.items() if mark is not None}
        if len(marks) < len(found):
            return "stems changed"
        fresh = replace(manifest, input_mark=input_mark, stems=marks)
        if remember and fresh != manifest:
            with contextlib.suppress(OSError):
                self._write(fresh)
        return None

    def _located(self, stem: str) -> Located:
        return Located(self.paths[stem], self.storage)

    def _require_free(self, source: Located) -> None:
        """Raise AudioWriteError if a file is there that no manifest names, or that of another song does."""
        for path in [path for path in self.paths.values() if Located(path, self.storage).is_there()]:
            owners = [manifest for manifest in self._manifests_here() if path.name in manifest.paths.values()]
            if not owners:
                raise AudioWriteError(f"{path}: is there, and is no stem of {source}; {REMEDY}")
            for manifest in owners:
                _require_same_song(manifest, source, path)

    def _manifests_here(self) -> Iterator[Manifest]:
        for path in self.storage.beside(self._folder, ".waveunet-*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                yield parse_manifest(self.storage.read_text(path))

    def _read(self) -> Manifest:
        manifest = parse_manifest(self.storage.read_text(self.manifest))
        if manifest.paths != self._relative:
            raise ValueError("other stems")
        return manifest

    def _stated_input(self) -> object:
        """The song that a manifest of another format names."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            return json.loads(self.storage.read_text(self.manifest))["input"]
        return None

    def _write(self, manifest: Manifest) -> None:
        self.storage.write_text(self.manifest, manifest_text(manifest), self.key)

    def finish(
        self, source: Located, mark: FileMark, model: str, request: Request, sample_rate_hz: int, report: WriteReport
    ) -> None:
        """Write the manifest of stems that are in their places. Raises AudioWriteError."""
        with explained(self.manifest):
            self._write(
                Manifest(
                    format=FORMAT,
                    waveunet=__version__,
                    input=source.name,
                    input_mark=mark,
                    model=model,
                    model_sha256=request.model_sha256,
                    settings=request.settings,
                    sample_rate_hz=sample_rate_hz,
                    frames=report.frames,
                    gain=report.gain,
                    peak=report.peak,
                    paths=self._relative,
                    stems={stem: FileMark.of(self._located(stem)) for stem in self.paths},
                )
            )

    @property
    def was_abandoned(self) -> bool:
        """Whether a process was killed here, or is at work. There are no locks but on disks."""
        return isinstance(self.storage, Disk) and Path(self.lock).exists()

    @contextlib.contextmanager
    def claim(self, wait: bool = True) -> Iterator[None]:
        """Hold the song's lock; what a killed process left unfinished is removed first.

        Raises BusyError if another process holds it and `wait` is false, AudioWriteError if the folder cannot be
        written.
        """
        if not isinstance(self.storage, Disk):
            yield
            return
        created: list[Path] = []
        folder_of_all, lock_path = Path(self._folder), Path(self.lock)
        lock = FileLock(lock_path)
        try:
            with explained(self.first):
                missing = [folder for folder in (folder_of_all, *folder_of_all.parents) if not folder.exists()]
                for folder in reversed(missing):
                    folder.mkdir(exist_ok=True)
                    created.append(folder)
                abandoned = self.was_abandoned
                try:
                    lock.acquire(timeout=-1 if wait else 0)
                except Timeout:
                    raise BusyError(str(self.first)) from None
            if abandoned:
                self._remove_parts()
            yield
        finally:
            if lock.is_locked:
                lock_path.unlink(missing_ok=True)  # while it is held: whoever waits for it sees that, and tries anew
                lock.release()
            for folder in reversed(created):
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()

    def _remove_parts(self) -> None:
        for folder in {Path(path).parent for path in self.paths.values()}:
            for part in folder.glob(f".waveunet-{self.key}-*.part"):
                part.unlink(missing_ok=True)
