"""Songs to score: their true stems and mixtures, and other programs' estimates of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from waveunet_cli.audio import AudioInfo, probe
from waveunet_cli.datasets.tracks import (
    MIXTURE,
    MIXTURES,
    Data,
    Track,
    aligned,
    audio_files,
    by_source,
    find_tracks,
    song_folders,
    stem_files,
)
from waveunet_cli.errors import AudioReadError, ConfigError

SPLIT = "test"
ALIASES = {"no_vocals": "accompaniment"}


@dataclass(frozen=True)
class ScoredSong:
    """A song whose true stems are known.

    truth      the true stems, and a source `mixture`
    channels   most that a file of the song has
    lossy      some of its files are lossy
    estimates  stems to score, if they are on disk
    note       what was done to make these fit
    """

    name: str
    truth: Track
    channels: int
    lossy: bool = False
    estimates: Track | None = None
    note: str | None = None


def find_scored_songs(folders: Sequence[Path], stems: Sequence[str]) -> tuple[list[ScoredSong], list[str]]:
    """The songs in `folders`, and a line for each song that is left out.

    A folder is a test set (<folder>/<song>/<stem>.wav or <folder>/test/<song>/<stem>.wav) or a song's own folder
    (<folder>/<stem>.wav). Raises ConfigError for a folder that is neither, and if two songs have one name.
    """
    sources = (*stems, MIXTURE)
    songs: list[ScoredSong] = []
    left_out: list[str] = []
    for folder in folders:
        if folder.is_dir() and audio_files(folder):
            try:
                tracks, problems = [aligned(str(folder), by_source(stem_files(folder), sources))], []
            except AudioReadError as error:
                tracks, problems = [], [str(error)]
        else:
            tracks, problems = find_tracks(Data(folder, split=SPLIT), sources)
        for track in tracks:
            infos = _infos(track)
            channels, lossy = max(info.channels for info in infos), any(info.lossy for info in infos)
            songs.append(ScoredSong(Path(track.name).resolve().name, track, channels, lossy))
        left_out += problems
    names = [song.name for song in songs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{twice[0]}: two songs have this name; rename a folder, or score them one by one")
    return songs, left_out


def stems_of(estimates: Path) -> tuple[str, ...]:
    """The names of the stems in a folder of estimates. Raises ConfigError if it has none, AudioReadError if a song has
    two files for one stem."""
    root = _root(estimates)
    folders = song_folders(root) if root.is_dir() else []
    found = {ALIASES.get(name, name) for folder in folders for name in stem_files(folder)} - set(MIXTURES)
    if not found:
        raise ConfigError(f"{estimates}: no estimates there; expected <song>/<stem>.wav or {SPLIT}/<song>/<stem>.wav")
    return tuple(sorted(found))


def with_estimates(song: ScoredSong, estimates: Path) -> ScoredSong:
    """A song with what a folder has of it.

    Estimates too long or too short are cut or followed by zeros, as museval does, and `note` says so. Raises
    AudioReadError where a stem is missing or of another rate or number of channels.
    """
    folder = _root(estimates) / song.name
    if not folder.is_dir():
        raise AudioReadError(f"{folder}: no such folder; put the song's estimates there, or leave the song out")
    stems = [source for source in song.truth.sources if source != MIXTURE]
    found = stem_files(folder)
    files = by_source(found, stems)
    for alias, stem in ALIASES.items():
        if stem in files and alias in found:
            files[stem] = (found[alias],)
    track = aligned(str(folder), files)
    if track.sample_rate_hz != song.truth.sample_rate_hz:
        raise AudioReadError(
            f"{folder}: {track.sample_rate_hz} Hz, but the song's stems have {song.truth.sample_rate_hz} Hz; "
            "resample them first"
        )
    if (channels := max(info.channels for info in _infos(track))) != song.channels:
        raise AudioReadError(
            f"{folder}: {channels} channels, but the song's stems have {song.channels}; export them alike"
        )
    note = None
    if track.frames != song.truth.frames:
        change = "cut" if track.frames > song.truth.frames else "followed by zeros"
        note = f"{folder}: {track.frames} frames instead of {song.truth.frames}; {change}, as museval does"
    return replace(song, estimates=track, note=note)


def _root(folder: Path) -> Path:
    return folder / SPLIT if (folder / SPLIT).is_dir() else folder


def _infos(track: Track) -> list[AudioInfo]:
    return [probe(path) for paths in track.sources.values() for path in paths]
