"""What a batch would do: which songs and why, how much music, how much space, how long."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from waveunet_cli.audio import AudioInfo, OutputFormat, choose_output, probe
from waveunet_cli.audio.formats import SUBTYPE_BITS
from waveunet_cli.errors import WaveUNetError
from waveunet_cli.events import Event, FileFailed, Plan, Planned
from waveunet_cli.files import existing
from waveunet_cli.library.song import Overwrite, Song, Target, why_again
from waveunet_cli.separator import Separator

CODEC_BYTES_PER_SECOND = 25_000  # of Vorbis or MP3 as they are written here, two channels
TRIAL_SECONDS = 10


def plan(
    songs: Sequence[Song],
    problems: Sequence[FileFailed],
    separator: Separator,
    target: Target,
    overwrite: Overwrite,
    tell: Callable[[Event], None],
) -> Plan:
    """Look at every song without separating it; tells Planned or FileFailed of each, then the Plan, and returns it."""
    failed = list(problems)
    for problem in problems:
        tell(problem)
    to_do = unknown = needed_bytes = 0
    seconds = 0.0
    for song in songs:
        try:
            why = why_again(separator, song, target, overwrite)
            info = probe(song.path)
            channels = separator.channels(info.channels)
            output = choose_output(replace(info, channels=channels), target.container, target.subtype)
        except WaveUNetError as error:
            failed.append(FileFailed(str(song.path), song.track, type(error).__name__, str(error)))
            tell(failed[-1])
            continue
        length = None if info.frames is None else info.frames / info.sample_rate_hz
        tell(Planned(str(song.path), song.track, why, length))
        if why is not None:
            to_do += 1
            unknown += length is None
            seconds += length or 0.0
            needed_bytes += _stem_bytes(info, channels, output) * len(separator.stems)
    speed = _speed(separator) if seconds else 0.0
    planned = Plan(
        songs=len(songs) + len(problems),
        to_do=to_do,
        failed=tuple(failed),
        unknown=unknown,
        seconds=seconds,
        needed_bytes=needed_bytes,
        free_bytes=shutil.disk_usage(existing(target.out)).free,
        estimated_seconds=seconds / speed if speed else 0.0,
        speed=speed,
    )
    tell(planned)
    return planned


def _stem_bytes(info: AudioInfo, channels: int, output: OutputFormat) -> int:
    frames = info.frames or 0
    if output.subtype in SUBTYPE_BITS:  # an upper bound for FLAC
        return frames * channels * SUBTYPE_BITS[output.subtype] // 8
    return frames * CODEC_BYTES_PER_SECOND // info.sample_rate_hz


def _speed(separator: Separator) -> float:
    """Seconds of music a second, of a short trial."""
    rate_hz = separator.model.config.sample_rate
    noise = np.random.default_rng(0).standard_normal((TRIAL_SECONDS * rate_hz, 2)).astype(np.float32) * 0.1
    separator.song(rate_hz, 2)  # what is made once, for the first song, is no matter of speed
    started = time.perf_counter()
    separator.separate(noise, rate_hz)
    return TRIAL_SECONDS / (time.perf_counter() - started)
