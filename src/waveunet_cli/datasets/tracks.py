"""Folders of songs as tracks: which files make which source.

A song is a folder of stems of the same length. A stem is a source if it has the source's name. `accompaniment` is also
the sum of all stems but the vocals, and `mixture` the sum of all. Songs that lack a source, or whose stems differ in
length or rate, are left out, each with a line that names it.

A song may know a sum only. If it has `vocals` and `accompaniment`, and the model wants vocals, drums, bass and other,
then its accompaniment is the sum of the last three. This is read from the files; no setting is needed, since the name
`accompaniment` means the same everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from waveunet_cli.audio import AUDIO_EXTENSIONS, probe
from waveunet_cli.bounds import Probability, Weight
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.streaming.resample import resampled_frames
from waveunet_cli.tables import check

MIXTURES = ("mixture", "mix")
CCMIXTER = {"source-01": "accompaniment", "source-02": "vocals"}
VOCALS, ACCOMPANIMENT, MIXTURE = "vocals", "accompaniment", "mixture"


@dataclass(frozen=True)
class Data:
    """One folder to train on.

    path     the folder: <path>/train/<song>/<stem>.wav (as MUSDB18-HQ has it), <path>/<song>/<stem>.wav,
             <path>/<song>/source-01.wav and source-02.wav (CCMixter), or with `stem` a folder of files
    weight   how often the folder is drawn from, in proportion to the weights of the other folders
    weights  weights for one use, which replace `weight` there. A use is a source's name (the source is drawn for a
             remix) or "song" (all sources of one song are drawn together). 0 means never.
    reverb   probability of reverberation for what comes from this folder; it replaces the augmentation's
    split    the subfolder to take, if there is one of this name
    stem     the source that every file of the folder holds
    exclude  names of songs to leave out
    """

    path: Path
    weight: Annotated[float, Meta(gt=0, le=1_000_000)] = 1.0
    weights: Mapping[str, Weight] = field(default_factory=dict)
    reverb: Probability | None = None
    split: str = "train"
    stem: str | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Track:
    """A song, or one file with a single source.

    sources  name: the files that sum to this source, or to a sum of sources
    frames, sample_rate_hz  the files' own
    sums     name of a sum: the sources that it is the sum of, and that the track does not know one by one
    mixture  the file that all sources should sum to, if there is one
    """

    name: str
    sources: Mapping[str, tuple[Path, ...]]
    frames: int
    sample_rate_hz: int
    sums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mixture: Path | None = None

    def frames_at(self, sample_rate_hz: int) -> int:
        """The length at another rate."""
        return resampled_frames(self.frames, self.sample_rate_hz, sample_rate_hz)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all sources, each once."""
        return tuple(dict.fromkeys(path for paths in self.sources.values() for path in paths))

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.frames / self.sample_rate_hz

    def parts(self, sources: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What the track knows of `sources`, in their order. The key is a source or a sum, the value its sources."""
        sum_of = {source: name for name, summed in self.sums.items() for source in summed}
        names = dict.fromkeys(sum_of.get(source, source) for source in sources)
        return {name: tuple(self.sums.get(name, (name,))) for name in names if name in self.sources}

    def covers(self, sources: Sequence[str]) -> bool:
        """Whether the track knows all of `sources`, each by itself or in a sum."""
        return set(sources) <= {source for part in self.parts(sources).values() for source in part}


def find_tracks(data: Data, sources: Sequence[str], sums: bool = False) -> tuple[list[Track], list[str]]:
    """All usable tracks of a folder, and a line for each one left out. With `sums`, songs may know a sum only.

    Raises ConfigError if there is no such folder or nothing usable in it.
    """
    require_songs(data.path)
    if data.stem is not None and data.stem not in sources:
        raise ConfigError(
            f"{data.path}: stem {data.stem!r} is none of the model's sources {', '.join(sources)}; name one"
        )
    root = data.path / data.split if (data.path / data.split).is_dir() else data.path
    tracks: list[Track] = []
    left_out: list[str] = []
    places = {
        place: place.stem if data.stem else place.name for place in (audio_files if data.stem else song_folders)(root)
    }
    for name in data.exclude:
        if name not in places.values():  # misspelt, a song that was held out would be trained on
            raise ConfigError(f"{root}: has no song {name!r}, which data.exclude names; correct it there")
    for place, name in places.items():
        if name in data.exclude:
            continue
        try:
            if name in (Path(track.name).name for track in tracks):
                raise AudioReadError(f"{place}: a file of this name is used already; remove one, or rename it")
            loose = {data.stem: (place,)} if data.stem else None
            tracks.append(aligned(f"{root}/{name}", loose) if loose else _song(place, sources, sums))
        except AudioReadError as error:
            left_out.append(str(error))
    if not tracks:
        why = "; data.exclude names all that are there" if places and not left_out else ""
        why = f"; the first of {len(left_out)} left out: {left_out[0]}" if left_out else why
        raise ConfigError(
            f"{data.path}: no song with the stems {', '.join(sources)}{why}; "
            f"expected <song>/<stem>.wav or {data.split}/<song>/<stem>.wav"
        )
    return tracks, left_out


def require_songs(folder: Path) -> None:
    """Raise ConfigError if there is no such folder."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a folder of songs, each a folder of stems")


def song_folders(root: Path) -> list[Path]:
    """The folders in a folder, without hidden ones."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def audio_files(folder: Path) -> list[Path]:
    """The audio files in a folder, without hidden ones such as the `._vocals.wav` that macOS leaves behind."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in AUDIO_EXTENSIONS)
    return sorted(path for path in files if not path.name.startswith("."))


def stem_files(song: Path) -> dict[str, Path]:
    """The audio files of a folder by what they hold: the lower-case name, or what CCMixter's names stand for.

    Raises AudioReadError if two files hold the same stem.
    """
    found: dict[str, Path] = {}
    for path in audio_files(song):
        name = CCMIXTER.get(path.stem.lower(), path.stem.lower())
        if name in found:
            raise AudioReadError(f"{path}: holds {name}, and so does {found[name].name} beside it; remove one of them")
        found[name] = path
    return found


def by_source(files: Mapping[str, Path], sources: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """For each source those of a song's stem files that sum to it; none where there is no such stem."""
    stems = {name: path for name, path in files.items() if name not in MIXTURES}
    found: dict[str, tuple[Path, ...]] = {}
    for source in sources:
        if source in stems:
            found[source] = (stems[source],)
        elif source == ACCOMPANIMENT:
            found[source] = tuple(path for name, path in stems.items() if name != VOCALS)
        elif source == MIXTURE:
            given = [files[name] for name in MIXTURES if name in files][:1]
            pair = [stems[name] for name in (ACCOMPANIMENT, VOCALS) if name in stems]
            found[source] = tuple(given or (pair if len(pair) == 2 else stems.values()))
        else:
            found[source] = ()
    return found


def aligned(name: str, sources: Mapping[str, tuple[Path, ...]]) -> Track:
    """The track of these files. Raises AudioReadError if one is missing, unreadable, or unlike the others."""
    missing = [source for source, paths in sources.items() if not paths]
    if missing:
        raise AudioReadError(f"{name}: stem missing: {', '.join(missing)}; add it or remove the folder")
    lengths: dict[tuple[int, int], Path] = {}
    for path in [path for paths in sources.values() for path in paths]:
        info = probe(path)
        if info.frames is None or info.frames == 0:
            raise AudioReadError(f"{path}: its header counts no frames; convert it to WAV or FLAC")
        lengths.setdefault((info.frames, info.sample_rate_hz), path)
    if len(lengths) > 1:
        found = ", ".join(f"{path.name} {frames} frames at {hz} Hz" for (frames, hz), path in lengths.items())
        raise AudioReadError(f"{name}: stems differ in length or rate: {found}; export them again")
    frames, sample_rate_hz = next(iter(lengths))
    return Track(name, sources, frames, sample_rate_hz)


def _song(folder: Path, sources: Sequence[str], sums: bool) -> Track:
    """The track of a song's folder. Raises AudioReadError."""
    files = stem_files(folder)
    found, rest = by_source(files, sources), tuple(source for source in sources if source != VOCALS)
    may_sum = sums and VOCALS in sources and {VOCALS, ACCOMPANIMENT} <= files.keys()
    if may_sum and not all(found[source] for source in rest):
        found = by_source(files, (VOCALS, ACCOMPANIMENT))
        given_sums = {ACCOMPANIMENT: rest}
    else:
        given_sums = {}
    track = aligned(str(folder), found)
    used = {name for name, path in files.items() if path in track.files}
    is_whole = {VOCALS, ACCOMPANIMENT} <= used or files.keys() <= used | {*MIXTURES, ACCOMPANIMENT}
    mixture = next((files[name] for name in MIXTURES if name in files), None) if is_whole else None
    return replace(track, sums=given_sums, mixture=mixture)
