"""Where samples of one stem go: a spool of raw float32, or the encoder of its format."""

import contextlib
import errno
import re
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.encode import EncoderFailedError, EncoderProcess, SndfileEncoder
from waveunet_cli.audio.formats import CONTAINERS, MAX_QUALITY, OutputFormat
from waveunet_cli.audio.layout import to_vorbis
from waveunet_cli.audio.libav_encode import CODECS, LibavEncoder, stored_frames
from waveunet_cli.audio.read import frames_of
from waveunet_cli.audio.tags import Tags, write_tags
from waveunet_cli.audio.wav import WavWriter, write_all
from waveunet_cli.errors import AudioReadError, AudioWriteError
from waveunet_cli.files import to_disk

_CHUNK_FRAMES = 1 << 14
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder with --out",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder with --out",
    errno.EFBIG: "the file would be larger than is allowed here; choose flac or another folder with --out",
    errno.EACCES: "may not be written; check the folder's permissions or choose another with --out",
    errno.EPERM: "may not be written; check the folder's permissions or choose another with --out",
    errno.EROFS: "the file system is read-only; choose another folder with --out",
    errno.ENAMETOOLONG: "the name is too long; shorten it with --filename",
    errno.ENOTDIR: "a part of the path is a file; choose another folder with --out",
    errno.EEXIST: "a part of the path is a file; choose another folder with --out",
}


@contextlib.contextmanager
def explained(target: Path | str) -> Iterator[None]:
    """Turn an OSError into one line about the file the user asked for."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; choose another folder with --out")
        raise AudioWriteError(f"{target}: cannot be written: {remedy}") from error


class Spool:
    """Raw float32 frames in a temporary file."""

    def __init__(self, target: Path, temporary: Path, channels: int) -> None:
        self.temporary = temporary
        self._target = target
        self._channels = channels
        with explained(target):
            self._file = FileIO(temporary, "x+")

    def write(self, block: NDArray[np.float32]) -> None:
        data = np.ascontiguousarray(block, np.float32)
        with explained(self._target):
            write_all(self._file, data.data.cast("B"))

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All frames from the first, as blocks of (frames, channels)."""
        self._file.seek(0)
        while (flat := np.fromfile(self._file, np.float32, _CHUNK_FRAMES * self._channels)).size:
            yield flat.reshape(-1, self._channels)

    def discard(self) -> None:
        self._file.close()
        self.temporary.unlink(missing_ok=True)


def _asked_for(output: OutputFormat, sample_rate_hz: int) -> dict[str, Any]:
    """The settings of libsndfile for a quality or a bit rate of MP3, which it knows as a level from 1 down to 0."""
    if output.quality is not None:
        return {"compression_level": min(1 - output.quality / MAX_QUALITY, 0.9999)}  # LAME refuses the last
    if output.kbits is None:
        return {}
    lowest, highest = (32, 320) if sample_rate_hz >= 32_000 else (8, 160)
    level = (highest - min(output.kbits, highest)) / (highest - lowest)
    return {"compression_level": level, "bitrate_mode": "CONSTANT"}


class Encoder:
    """One stem encoded into a temporary file."""

    def __init__(
        self,
        target: Path,
        temporary: Path,
        output: OutputFormat,
        expected_frames: int | None,
        sample_rate_hz: int,
        channels: int,
        tags: Tags | None = None,
    ) -> None:
        """tags: what the file is to say of itself"""
        self.temporary = temporary
        self._target = target
        self._output = output
        self._tags = tags
        self._frames = 0
        container = CONTAINERS[output.container]
        self._order = to_vorbis(channels) if container.has_vorbis_order else None
        self._comment = ""
        if output.container == "flac" and output.channel_mask and channels > 2:
            self._comment = f"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x{output.channel_mask:04X}"
        settings = {"format": output.container, "subtype": output.subtype, **container.encoder}
        settings |= _asked_for(output, sample_rate_hz)
        self._stored_hz = container.stored_hz or sample_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._encoder: WavWriter | SndfileEncoder | EncoderProcess | LibavEncoder
        with self._explained():
            if output.container == "wav":
                self._encoder = WavWriter(
                    temporary, output.subtype, sample_rate_hz, channels, output.channel_mask, expected_frames
                )
            elif output.subtype in CODECS:
                self._encoder = LibavEncoder(
                    temporary, output.subtype, sample_rate_hz, channels, self._stored_hz, output.kbits
                )
            elif container.may_end_the_process:
                self._encoder = EncoderProcess(temporary, sample_rate_hz, channels, settings)
            else:
                filler = self._comment and "x" * (len(self._comment) - len("COMMENT="))
                self._encoder = SndfileEncoder(temporary, sample_rate_hz, channels, settings, filler)

    def write(self, block: NDArray[np.float32]) -> None:
        self._frames += len(block)
        with self._explained():
            self._encoder.write(block if self._order is None else block[:, self._order])

    def finish(self) -> list[str]:
        """Close the file, wait until it is on the disk, and check that its header counts the frames written.

        Returns what of its tags the format has no place for.
        """
        lost: list[str] = []
        with self._explained():
            self._encoder.finish()
            if self._comment:
                self._put_comment()
            if self._tags is not None:
                lost = write_tags(self.temporary, self._output.container, self._tags)
            to_disk(self.temporary)
        try:
            found_frames = frames_of(self.temporary)
        except AudioReadError:
            found_frames = None
        if found_frames != stored_frames(self._frames, self._sample_rate_hz, self._stored_hz):
            raise AudioWriteError(
                f"{self._target}: {self._frames} frames written, {found_frames or 0} found in the file;"
                " try again or choose wav"
            )
        return lost

    def _put_comment(self) -> None:
        """In the place of the filler: libsndfile writes comments of certain names only."""
        filler = re.compile(rb"comment=x{%d}" % (len(self._comment) - len("COMMENT=")), re.IGNORECASE)
        with self.temporary.open("r+b") as file:
            found = filler.search(file.read(1 << 16))
            assert found is not None
            file.seek(found.start())
            file.write(self._comment.encode())

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(self._target):
                yield
        except EncoderFailedError as error:
            other = "flac" if self._output.container == "wav" else "wav"
            raise AudioWriteError(
                f"{self._target}: the {self._output.container} encoder failed ({error}); choose {other}"
            ) from error

    def discard(self) -> None:
        if hasattr(self, "_encoder"):
            self._encoder.discard()
        self.temporary.unlink(missing_ok=True)
