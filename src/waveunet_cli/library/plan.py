"""What a batch would do: which songs and why, how much music, how much space, how long."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from waveunet_cli.audio import AudioInfo, OutputFormat, probe
from waveunet_cli.audio.formats import SUBTYPE_BITS
from waveunet_cli.errors import WaveUNetError
from waveunet_cli.events import FileFailed, OnEvent, Plan, Planned
from waveunet_cli.files import existing
from waveunet_cli.library.manifest import Overwrite
from waveunet_cli.library.song import Song, as_its_failure
from waveunet_cli.library.target import Target

if TYPE_CHECKING:
    from waveunet_cli.separator import Separator

CODEC_BYTES_PER_SECOND = 25_000  # of Vorbis or MP3 as they are written here, two channels
TRIAL_SECONDS = 10


def plan(
    songs: Sequence[Song],
    problems: Sequence[FileFailed],
    left_out: Mapping[str, int],
    separator: "Separator",
    target: Target,
    overwrite: Overwrite,
    on_event: OnEvent,
) -> Plan:
    """Look at every song without separating it, and change nothing; Planned or FileFailed of each, then the Plan."""
    failed = list(problems)
    for problem in problems:
        on_event(problem)
    to_do = unknown = needed_bytes = 0
    seconds = 0.0
    for song in songs:
        try:
            with as_its_failure(song):
                outputs = target.outputs(separator, song)
                why = outputs.why_again(song.file, target.request(separator), overwrite, remember=False)
                info = probe(Path(song.file.path))
                info = replace(info, frames=target.part(info).frames)
                channels = separator.channels(info.channels)
                output = target.output(replace(info, channels=channels))
        except WaveUNetError as error:
            failed.append(FileFailed(song.name, song.track, type(error).__name__, str(error)))
            on_event(failed[-1])
            continue
        length = None if info.frames is None else info.frames / info.sample_rate_hz
        on_event(Planned(song.name, song.track, why, length))
        if why is not None:
            to_do += 1
            unknown += length is None
            seconds += length or 0.0
            needed_bytes += _stem_bytes(info, channels, output) * len(target.stems(separator))
    speed = steady_speed(separator) if seconds else 0.0
    out = target.folder(songs[0])
    planned = Plan(
        songs=len(songs) + len(problems),
        to_do=to_do,
        failed=tuple(failed),
        left_out=dict(left_out),
        unknown=unknown,
        seconds=seconds,
        needed_bytes=needed_bytes,
        free_bytes=shutil.disk_usage(existing(out.storage.space(out.path))).free,
        estimated_seconds=seconds / speed if speed else 0.0,
        speed=speed,
    )
    on_event(planned)
    return planned


def _stem_bytes(info: AudioInfo, channels: int, output: OutputFormat) -> int:
    frames = info.frames or 0
    if output.subtype in SUBTYPE_BITS:  # an upper bound for FLAC
        return frames * channels * SUBTYPE_BITS[output.subtype] // 8
    return frames * (output.kbits * 125 if output.kbits else CODEC_BYTES_PER_SECOND) // info.sample_rate_hz


def steady_speed(separator: "Separator", clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of music that come out of the separator in a second, in the middle of a song: a short trial.

    The clock starts when the first stems have come. Until then the stream fills; in a trial that would count for much,
    in a song it counts for little.
    """
    rate_hz = separator.model.config.sample_rate
    stream, first = separator.song(rate_hz, 2), separator.stems[0]
    noise = np.random.default_rng(0).standard_normal((rate_hz, 2)).astype(np.float32) * 0.1
    while not len(stream.push(noise)[first]):
        pass
    started, done_frames = clock(), 0
    while done_frames < TRIAL_SECONDS * rate_hz:
        done_frames += len(stream.push(noise)[first])
    return done_frames / rate_hz / max(1e-9, clock() - started)
