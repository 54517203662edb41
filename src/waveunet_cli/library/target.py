"""Where stems go, of which part of a song, and as what: the settings that `separate` has for every song."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio import CONTAINERS, AudioInfo, Clip, OutputFormat, StemWriter, choose_output, require_legal
from waveunet_cli.audio.stems_file import StemsFileWriter, in_slots
from waveunet_cli.audio.tags import Tags
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.library.manifest import Request, SettingValue, SongOutputs
from waveunet_cli.library.names import BESIDE_TEMPLATE, TEMPLATE, part_name, stem_paths
from waveunet_cli.library.storage import Located
from waveunet_cli.tables import check

if TYPE_CHECKING:
    from waveunet_cli.library.song import Song
    from waveunet_cli.separator import Separator

ALL_STEMS = "stems"  # the name of the file that holds all
MIX = "mix"  # the name of the stem that is a sum of others
LOUDEST = 1000  # the greatest factor of a stem in a mix; a greater one leaves nothing of the others in 16 bits

Audio = NDArray[np.float32]


class Settings(TypedDict, total=False):
    """The fields of Target that have a default, as keyword arguments."""

    filename: str | None
    container: str
    subtype: str | None
    clip: Clip
    tags: bool
    start_seconds: float
    end_seconds: float | None
    mix: Mapping[str, float]
    kbits: int | None
    quality: float | None
    audio_track: int | None


@dataclass(frozen=True)
class Part:
    """The frames of a song from `start` on, up to `stop` or, if that is None, to its end, which is not known."""

    start: int
    stop: int | None

    @property
    def frames(self) -> int | None:
        return None if self.stop is None else self.stop - self.start


@dataclass(frozen=True)
class Target:
    """Where stems go, of which part of a song, and as what.

    out        the folder; None: the song's own
    filename   the template of a stem's path below that folder, by default TEMPLATE or BESIDE_TEMPLATE
    container  wav, flac, ogg, mp3, m4a, opus, or stem, which is one file of all stems for DJ software
    subtype    a libsndfile name, by default the nearest to the input's depth
    clip       what happens to stems beyond full scale in integer and lossy formats: rescale (one gain for all),
               clamp or none
    tags       whether the song's tags, its cover, and a comment that names the model go into the stems
    start_seconds, end_seconds   the part of the song that is wanted; its stems are that part of the song's stems
    kbits, quality   the bit rate in kilobits a second, or the quality from 0 to 10 (best), where a format has it
    audio_track   of a file with several audio tracks, which one is separated, from 1 on
    mix        stem → factor: beside the stems, write one named mix, their sum with these factors and 1 for the rest

    Raises ConfigError for settings that cannot be.
    """

    out: Located | None
    filename: str | None = None
    container: str = "wav"
    subtype: str | None = None
    clip: Clip = "rescale"
    tags: bool = True
    start_seconds: float = 0.0
    end_seconds: float | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    kbits: int | None = None
    quality: float | None = None
    audio_track: int | None = None

    def __post_init__(self) -> None:
        check(self)
        require_legal(self.container, self.subtype, self.kbits, self.quality)
        stem_paths(Path(), self.template, "model", "track", ["stem"], self.container)  # refuses a bad template
        end = math.inf if self.end_seconds is None else self.end_seconds
        if not 0 <= self.start_seconds < end:  # NaN is refused, too
            raise ConfigError(
                f"a part from {self.start_seconds:g} s to {end:g} s: must begin at 0 s or later, and end after that"
            )
        for stem, factor in self.mix.items():
            if not 0 <= factor <= LOUDEST:  # NaN is refused, too
                raise ConfigError(f"mix: {stem} times {factor:g}; give a factor from 0 to {LOUDEST}, or at most 60dB")

    @property
    def template(self) -> str:
        """The template of a stem's path."""
        return self.filename or (BESIDE_TEMPLATE if self.out is None else TEMPLATE)

    def folder(self, song: "Song") -> Located:
        """The folder below which the stems of a song go."""
        return song.file.above() if self.out is None else self.out

    def output(self, info: AudioInfo) -> OutputFormat:
        """The format of the stems of a song; raises ConfigError where they cannot have it."""
        return choose_output(info, self.container, self.subtype, self.kbits, self.quality)

    def stems(self, separator: "Separator") -> tuple[str, ...]:
        """The names of the stems that are written. Raises ConfigError for a mix of others."""
        names = separator.stems
        if self.mix and self.is_one_file:
            raise ConfigError(f"mix: a file of the format {self.container} holds stems only; leave one of them out")
        for stem in self.mix:
            if stem not in names or MIX in names:
                raise ConfigError(f"mix: {stem} is none of the stems that are written: {', '.join(names)}")
        return (*names, MIX) if self.mix else names

    def mixed(self, stems: Mapping[str, Audio]) -> Mapping[str, Audio]:
        """These blocks (frames, channels), and that of the mix if there is one."""
        if not self.mix:
            return stems
        parts = [audio * np.float32(self.mix.get(stem, 1)) for stem, audio in stems.items()]
        return {**stems, MIX: functools.reduce(np.add, parts)}

    @property
    def is_part(self) -> bool:
        """Whether less than a whole song is wanted."""
        return bool(self.start_seconds) or self.end_seconds is not None

    def part(self, info: AudioInfo) -> Part:
        """The part of a song that is wanted. Raises AudioReadError if the song ends before it."""
        start = round(self.start_seconds * info.sample_rate_hz)
        stop = None if self.end_seconds is None else round(self.end_seconds * info.sample_rate_hz)
        if info.frames is not None:
            if start and start >= info.frames:
                raise self.too_short(info.path, info.frames / info.sample_rate_hz)
            return Part(start, info.frames if stop is None else min(stop, info.frames))
        return Part(start, stop)

    def too_short(self, path: Path, seconds: float) -> AudioReadError:
        """The error of a song that ends before the part."""
        return AudioReadError(
            f"{path}: is {seconds:.3f} s long, the part begins at {self.start_seconds:g} s; choose an earlier --start"
        )

    def outputs(self, separator: "Separator", song: "Song") -> SongOutputs:
        """Where the stems of a song go; raises ConfigError for an impossible template."""
        is_over = self.end_seconds is not None and song.ends_before(self.end_seconds)
        part = part_name(self.start_seconds, None if is_over else self.end_seconds)
        out, track = self.folder(song), song.track + part
        container = CONTAINERS.get(self.container.lower())
        ending = (container and container.ending) or self.container
        stems: Sequence[str] = self.stems(separator)
        if not self.is_one_file:
            return SongOutputs(stem_paths(out.path, self.template, separator.model.name, track, stems, ending), out)
        in_slots(separator.stems)  # refuses too many
        name = PurePath(track).name
        (path,) = stem_paths(out.path, self.template, separator.model.name, track, [name], ending).values()
        return SongOutputs({ALL_STEMS: path}, out)

    @property
    def is_one_file(self) -> bool:
        """Whether one file holds all stems."""
        container = CONTAINERS.get(self.container.lower())
        return container is not None and container.one_file

    def writer(
        self,
        paths: Mapping[str, Path],
        stems: Sequence[str],
        info: AudioInfo,
        frames: int | None,
        tag: str,
        tags: Mapping[str, Tags],
    ) -> StemWriter | StemsFileWriter:
        """What writes stems like `info`, so many frames where that is known, to these paths; `tag` is in the names of
        unfinished files.
        """
        output = self.output(info)
        if self.is_one_file:
            path = paths[ALL_STEMS]
            return StemsFileWriter(path, stems, info, output, self.clip, frames, tag, tags.get(ALL_STEMS))
        return StemWriter(paths, info.sample_rate_hz, info.channels, output, self.clip, frames, tag, tags)

    def request(self, separator: "Separator") -> Request:
        """What decides the samples of stems, the song itself aside."""
        settings: dict[str, SettingValue] = {**separator.settings, "stems": list(separator.stems)}
        settings |= {"container": self.container, "subtype": self.subtype, "clip": self.clip}
        changed = {"tags": self.tags, "start_seconds": self.start_seconds, "end_seconds": self.end_seconds}
        changed |= {"kbits": self.kbits, "quality": self.quality, "audio_track": self.audio_track}
        settings |= {name: value for name, value in changed.items() if value != getattr(Target, name)}
        settings |= {"mix": dict(self.mix)} if self.mix else {}
        return Request(separator.model.sha256, settings)
