"""What a finished song leaves beside its stems, so that the next run knows that they are whole and still wanted.

    <folder of the first stem>/.waveunet-KEY.json       the manifest, written last, atomically
                               .waveunet-KEY.lock       held while the song is being separated
                               .waveunet-KEY-*.part     unfinished files of whoever holds the lock

KEY is a hash of the stems' names. A lock file outlives only a process that was killed, so unfinished files lie beside a
lock file that nobody holds. Whoever takes the lock next removes them. On a storage without locks the lock file keeps
nobody away; it is left behind by an upload that was broken off.
"""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Literal, get_args

import msgspec

from waveunet_cli import __version__
from waveunet_cli.audio import WriteReport
from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import AudioWriteError, ConfigError
from waveunet_cli.library.storage import HERE, BusyError, FileMark, Located
from waveunet_cli.tables import MOST_BYTES
from waveunet_cli.text import in_line

FORMAT = 1
REMEDY = "choose another --out or --filename, or replace it with --overwrite always"
SettingValue = str | bool | float | None | list[str] | dict[str, float]
Overwrite = Literal["always", "never", "changed"]


@dataclass(frozen=True)
class Request:
    """What decides the stems of a song besides its samples: the model's hash, and settings that change samples."""

    model_sha256: str
    settings: Mapping[str, SettingValue]


@dataclass(frozen=True)
class Manifest:
    """A finished song. `stems` are by name, their paths relative to the manifest's folder."""

    format: int
    waveunet: str
    input: str
    input_mark: FileMark
    model: str
    model_sha256: str
    settings: Mapping[str, SettingValue]
    sample_rate_hz: int
    frames: int
    gain: float
    peak: float
    paths: Mapping[str, str]
    stems: Mapping[str, FileMark]


def require_overwrite(value: object) -> None:
    """Raise ConfigError for what says of no song whether it is done again."""
    if value not in get_args(Overwrite):
        raise ConfigError(f"overwrite: found {value!r}; choose one of {', '.join(get_args(Overwrite))}")


def parse_manifest(text: str) -> Manifest:
    """Raises ValueError for anything but a manifest of this format."""
    try:
        manifest = msgspec.convert(json.loads(text), Manifest)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise ValueError("no manifest") from error
    if manifest.format != FORMAT:
        raise ValueError("another format")
    return manifest


def manifest_text(manifest: Manifest) -> str:
    """What `parse_manifest` reads."""
    return json.dumps(asdict(manifest), indent=1) + "\n"


def _can_be_seen(file: Located) -> bool:
    try:
        file.glance()
    except OSError:
        return False
    return True


def _require_same_song(manifest: Manifest, source: Located, stem: str) -> None:
    """Raise AudioWriteError if a stem is another song's: of another name, with other bytes."""
    if manifest.input == source.storage.name(source.path):
        return
    try:
        if manifest.input_mark.seen_again(source) is not None:
            return
    except FileNotFoundError:  # the song is missing, which is said elsewhere
        return
    except OSError:  # nobody can tell
        pass
    raise AudioWriteError(f"{stem}: is a stem of {in_line(manifest.input)}, not of {source.name}; {REMEDY}")


class SongOutputs:
    """The stems of one song, and what stands beside them.

    Here alone it is decided whether a song is done, and which files its stems may replace.
    """

    def __init__(self, paths: Mapping[str, PurePath], out: Located = HERE) -> None:
        """Stem → path, below the folder `out`."""
        self.paths = dict(paths)
        self.storage = out.storage
        self.names = {stem: out.at(path).name for stem, path in paths.items()}
        self.name = next(iter(self.names.values()))
        self._folder = next(iter(paths.values())).parent
        self._relative = {stem: os.path.relpath(path, self._folder) for stem, path in paths.items()}
        self.key = hashlib.sha256("\0".join(self._relative.values()).encode(errors="surrogateescape")).hexdigest()[:12]
        self.manifest = self._folder / f".waveunet-{self.key}.json"
        self.lock = self._folder / f".waveunet-{self.key}.lock"
        self._are_landing = False

    def why_again(
        self, source: Located, request: Request, overwrite: Overwrite = "changed", remember: bool = True
    ) -> str | None:
        """Why the song is to be separated, in a word or two; None if its stems are whole and what is asked for.

        With `remember`, stems and songs that were only copied or touched are known at a glance the next time.
        Raises AudioWriteError where the stems' names are taken by files of the user's, or by another song's stems.
        """
        with explained(self.name):
            if overwrite == "always":
                return "asked for"
            if overwrite == "never" and len(self._taken_by_files()) == len(self.paths):
                return None
            return self._why_changed(source, request, remember)

    def _why_changed(self, source: Located, request: Request, remember: bool) -> str | None:
        try:
            manifest = self._read()
        except FileNotFoundError:
            if not self.was_abandoned:  # else the files may be what a killed process finished
                self._require_free(source, f"is there, and is no stem of {source.name}")
            return "new"
        except (OSError, ValueError):
            if self._stated_input() != source.storage.name(source.path):
                self._require_free(source, f"is there, and {self.manifest.name} does not tell of which song")
            return "manifest unreadable"
        _require_same_song(manifest, source, self.name)
        if manifest.model_sha256 != request.model_sha256:
            return "model changed"
        if manifest.settings != request.settings:
            return "settings changed"
        try:
            input_mark = manifest.input_mark.seen_again(source)
            found = {stem: manifest.stems[stem].seen_again(self._located(stem)) for stem in self.paths}
        except (OSError, KeyError):
            return "stems missing" if _can_be_seen(source) else "input missing"
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

    def _taken(self) -> list[str]:
        return [stem for stem, path in self.paths.items() if self.storage.is_there(path)]

    def _taken_by_files(self) -> list[str]:
        """Raises AudioWriteError for a folder: it is no stem, and nothing replaces it."""
        taken = self._taken()
        for stem in taken:
            if self.storage.is_folder(self.paths[stem]):
                raise AudioWriteError(
                    f"{self.names[stem]}: is a folder; choose another --out or --filename, or remove it"
                )
        return taken

    def _require_free(self, source: Located, fault: str) -> None:
        """Raise AudioWriteError for a file that is there, if no manifest names it, or that of another song does."""
        taken = self._taken_by_files()
        manifests = list(self._manifests_here()) if taken else []
        for stem in taken:
            owners = [manifest for manifest in manifests if self._relative[stem] in manifest.paths.values()]
            if not owners:
                raise AudioWriteError(f"{self.names[stem]}: {fault}; {REMEDY}")
            for manifest in owners:
                _require_same_song(manifest, source, self.names[stem])

    def _manifests_here(self) -> Iterator[Manifest]:
        for name in self.storage.names(self._folder):
            if name.startswith(".waveunet-") and name.endswith(".json"):
                with contextlib.suppress(OSError, ValueError):
                    yield parse_manifest(self._text(self._folder / name))

    def _text(self, path: PurePath) -> str:
        with self.storage.open(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError("too large for a manifest")
        return data.decode()

    def _read(self) -> Manifest:
        manifest = parse_manifest(self._text(self.manifest))
        if manifest.paths != self._relative:
            raise ValueError("other stems")
        return manifest

    def _stated_input(self) -> object:
        """The song that a manifest of another format names; None if it names none."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            return json.loads(self._text(self.manifest))["input"]
        return None

    def _write(self, manifest: Manifest) -> None:
        part = self._folder / f".waveunet-{self.key}-{uuid.uuid4().hex[:12]}.part"
        self.storage.write_text(self.manifest, manifest_text(manifest), part)

    def land(self) -> None:
        """From now on the stems come to their places, until `finish`."""
        self._are_landing = True

    def _are_without_manifest(self) -> bool:
        try:
            return self._are_landing and bool(self._taken()) and not self.storage.is_there(self.manifest)
        except OSError:  # nobody can tell
            return self._are_landing

    def finish(
        self, source: Located, mark: FileMark, model: str, request: Request, sample_rate_hz: int, report: WriteReport
    ) -> None:
        """Write the manifest of stems that are in their places. Raises AudioWriteError."""
        with explained(self.name):
            self._write(
                Manifest(
                    format=FORMAT,
                    waveunet=__version__,
                    input=source.storage.name(source.path),
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
        self._are_landing = False

    @property
    def was_abandoned(self) -> bool:
        """Whether a process was killed here, or is at work. Raises AudioWriteError."""
        with explained(self.name):
            return self.storage.is_there(self.lock)

    @contextlib.contextmanager
    def claim(self, wait: bool = True, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Hold the song's lock; what a killed process left unfinished is removed first.

        Gives False if the disk has no locks, so that another process may be at work on the same song.

        If another process holds it, `waiting` is called before it is waited for. Raises BusyError if `wait` is false
        then, AudioWriteError if the folder cannot be written.
        """
        with contextlib.ExitStack() as stack:
            with explained(self.name):
                abandoned = self.was_abandoned
                try:
                    keeps_away = stack.enter_context(self.storage.claimed(self.lock, False, self._are_without_manifest))
                except BusyError:
                    if not wait:
                        raise
                    waiting()
                    keeps_away = stack.enter_context(self.storage.claimed(self.lock, True, self._are_without_manifest))
                if abandoned:
                    self._remove_parts()
            yield keeps_away

    def _remove_parts(self) -> None:
        for folder in {path.parent for path in self.paths.values()}:
            for name in self.storage.names(folder):
                if name.startswith(f".waveunet-{self.key}-") and name.endswith(".part"):
                    self.storage.remove(folder / name)
