"""All stems of a song in one file, as DJ software takes them: Native Instruments' Stems, .stem.mp4.

It is an MP4 file of five audio tracks: the master, which any player plays, and four stems. A box named stem, in the
user data of the movie, holds JSON with the stems' names and colours.
"""

import contextlib
import heapq
import json
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.formats import AudioInfo, OutputFormat
from waveunet_cli.audio.libav_encode import COUNT_TAG
from waveunet_cli.audio.sinks import explained
from waveunet_cli.audio.tags import Tags, write_tags
from waveunet_cli.audio.write import Clip, StemWriter, WriteReport
from waveunet_cli.errors import ConfigError
from waveunet_cli.files import to_disk

if TYPE_CHECKING:
    from av import AudioStream, Packet

SLOTS = 4
MASTER = "master"
_EMPTY = "empty "  # begins the name of a slot without a stem
_MAX_NAMES_BYTES = 1 << 20
_ORDER = ("drums", "bass", "other", "accompaniment", "vocals")
_COLOURS = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9")
_DSP = {  # what a player may do to the sum of the stems: nothing
    "compressor": {
        "enabled": False, "ratio": 3, "output_gain": 0.5, "release": 0.3, "attack": 0.003, "input_gain": 0.5,
        "threshold": 0, "hp_cutoff": 300, "dry_wet": 50,
    },
    "limiter": {"enabled": False, "release": 0.05, "threshold": 0, "ceiling": -0.35},
}  # fmt: skip


def in_slots(stems: Sequence[str]) -> list[str]:
    """The stems in the order of a Stems file. Raises ConfigError for more than it holds."""
    if len(stems) > SLOTS:
        raise ConfigError(f"a Stems file holds {SLOTS} stems, found {', '.join(stems)}; choose some with --stems")
    return sorted(stems, key=lambda stem: _ORDER.index(stem) if stem in _ORDER else len(_ORDER))


class StemsFileWriter:
    """Writes one file of all stems, of songs like `info`. It is used like a StemWriter, and has one for the tracks.

    The master is the sum of the stems, slots without a stem are silent. Raises AudioWriteError, and ConfigError for
    more than four stems.
    """

    def __init__(
        self,
        path: Path,
        stems: Sequence[str],
        info: AudioInfo,
        output: OutputFormat,
        clip: Clip,
        expected_frames: int | None,
        tag: str,
        tags: Tags | None,
    ) -> None:
        self._path = path
        self._stems = in_slots(stems)
        self._tags = tags
        self._rate_hz = info.sample_rate_hz
        mark = f".waveunet-{tag}-{uuid.uuid4().hex[:12]}"
        self._joined = path.with_name(f"{mark}.part")
        names = [MASTER, *self._stems, *(f"{_EMPTY}{number}" for number in range(len(stems) + 1, SLOTS + 1))]
        self._parts = {name: path.with_name(f"{mark}{number}.part") for number, name in enumerate(names)}
        inner = replace(output, container="m4a")
        self._tracks = StemWriter(self._parts, info.sample_rate_hz, 2, inner, clip, expected_frames, tag)

    def __enter__(self) -> Self:
        self._tracks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracks.__exit__(kind, error, trace)
        for path in (*self._parts.values(), self._joined):
            path.unlink(missing_ok=True)

    def write(self, stems: Mapping[str, NDArray[np.float32]]) -> None:
        """As StemWriter.write; of one channel two are made."""
        shape = (len(next(iter(stems.values()))), 2)
        tracks = dict.fromkeys(self._parts, np.zeros(shape, np.float32))
        tracks |= {stem: np.broadcast_to(audio, shape) for stem, audio in stems.items()}
        tracks[MASTER] = np.sum(list(stems.values()), axis=0, dtype=np.float32) + tracks[MASTER]
        self._tracks.write(tracks)

    def commit(self) -> WriteReport:
        """Finish the file; it appears with this call."""
        report = self._tracks.commit()
        with explained(self._path):
            self._join()
            self._keep_count()
            lost = () if self._tags is None else write_tags(self._joined, "m4a", self._tags)
            self._put_names()
            to_disk(self._joined)
            self._joined.replace(self._path)
        return replace(report, lost=tuple(lost))

    def _join(self) -> None:
        """All tracks in one file, as they are encoded, packet by packet in the order of time."""
        import av

        with contextlib.ExitStack() as stack:
            options = {"movie_timescale": str(self._rate_hz)}
            file = stack.enter_context(av.open(str(self._joined), "w", format="mp4", options=options))

            def packets(name: str, path: Path) -> "Iterator[Packet[AudioStream]]":
                read = stack.enter_context(av.open(str(path)))
                stream = file.add_stream_from_template(read.streams.audio[0])
                stream.metadata["handler_name"] = name
                # only the master is played by players that know nothing of stems
                stream.disposition = av.stream.Disposition.default if name == MASTER else av.stream.Disposition(0)

                def demuxed() -> "Iterator[Packet[AudioStream]]":
                    for packet in read.demux(read.streams.audio[0]):
                        if packet.dts is not None:
                            packet.stream = stream
                            yield packet

                return demuxed()

            tracks = [packets(name, path) for name, path in self._parts.items()]
            for packet in heapq.merge(*tracks, key=lambda packet: packet.dts or 0):
                file.mux(packet)

    def _keep_count(self) -> None:
        """The count of frames that the tracks have in a tag; it is the same for all."""
        from mutagen.mp4 import MP4

        tags = MP4(self._parts[MASTER]).tags
        if tags is not None and COUNT_TAG in tags:
            file = MP4(self._joined)
            file[COUNT_TAG] = tags[COUNT_TAG]
            file.save()

    def _put_names(self) -> None:
        """Append the box to the movie's user data. The movie comes last in the file, so that nothing else moves."""
        names = list(self._parts)[1:]
        stems = [{"name": name, "color": colour} for name, colour in zip(names, _COLOURS, strict=True)]
        told = json.dumps({"mastering_dsp": _DSP, "version": 1, "stems": stems}).encode()
        box = struct.pack(">I4s", 8 + len(told), b"stem") + told
        with self._joined.open("r+b") as file:
            movie = _box(file, b"moov", 0, self._joined.stat().st_size)
            assert movie is not None
            moov, end = movie
            assert end == self._joined.stat().st_size
            data = _box(file, b"udta", moov + 8, end)
            assert data is not None
            udta, udta_end = data
            file.seek(udta_end)
            rest = file.read()
            file.seek(udta_end)
            file.write(box + rest)
            for at, size in ((moov, end - moov), (udta, udta_end - udta)):
                file.seek(at)
                file.write(struct.pack(">I", size + len(box)))


def stems_in(path: Path) -> dict[str, int]:
    """The stems that a Stems file names, each with the number of its audio track; none for any other file.

    Slots that are empty in our own files are left out. May raise OSError.
    """
    with path.open("rb") as file:
        at, end = -8, file.seek(0, 2)
        for name in (b"moov", b"udta", b"stem"):
            found = _box(file, name, at + 8, end)
            if found is None:
                return {}
            at, end = found
        if end - at > _MAX_NAMES_BYTES:
            return {}
        file.seek(at + 8)
        text = file.read(end - at - 8)
    try:
        named = [str(stem["name"]) for stem in json.loads(text)["stems"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    names = [name.strip() or f"stem {number}" for number, name in enumerate(named[:SLOTS], 1)]
    different = [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names, 1)]
    return {name: number for number, name in enumerate(different, 2) if not name.startswith(_EMPTY)}


def _box(file: BinaryIO, name: bytes, at: int, end: int) -> tuple[int, int] | None:
    """Where a box begins and ends, of those from `at` up to `end`; None if there is none."""
    while at + 8 <= end:
        file.seek(at)
        size, found, long_size = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        size = long_size if size == 1 else size or end - at
        if size < 8 or at + size > end:
            return None
        if found == name:
            return at, at + size
        at += size
    return None
