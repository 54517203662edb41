"""WAV as it is written: RIFF up to 4 GiB, RF64 above, decided when the last sample has come.

Where the length is not known beforehand, or too long for RIFF, a chunk that everybody skips (JUNK) keeps room for the
64-bit sizes of RF64 (EBU Tech 3306). libsndfile would need to know which of both before the first sample.
"""

import struct
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.encode import EncoderFailedError

LIMIT_BYTES = (1 << 32) - (1 << 16)  # RIFF counts in 32 bits; the rest is room for headers
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # follows the tag in an extensible header
_DS64_BYTES = 28
_UNKNOWN_32 = 0xFFFF_FFFF


class WavWriter:
    """Writes float32 blocks of (frames, channels) in [−1, 1] to a new file as PCM_U8, PCM_16 … or FLOAT.

    channel_mask: what the channels are; 0 leaves that open
    expected_frames: how many will come, None if that is not known
    """

    def __init__(
        self,
        path: Path,
        subtype: str,
        sample_rate_hz: int,
        channels: int,
        channel_mask: int,
        expected_frames: int | None,
    ) -> None:
        self._subtype = subtype
        self._bits = 32 if subtype == "FLOAT" else int(subtype.removeprefix("PCM_").removeprefix("U"))
        self._data_bytes = 0
        self._frame_bytes = channels * self._bits // 8
        tag = _FLOAT if subtype == "FLOAT" else _PCM
        is_extensible = channel_mask not in (0, 0x4 if channels == 1 else 0x3 if channels == 2 else 0)
        common = (channels, sample_rate_hz, sample_rate_hz * self._frame_bytes, self._frame_bytes, self._bits)
        fmt = struct.pack("<HHIIHH", _EXTENSIBLE if is_extensible else tag, *common)
        if is_extensible:
            fmt += struct.pack("<HHIH", 22, self._bits, channel_mask, tag) + _GUID_TAIL
        elif tag == _FLOAT:
            fmt += struct.pack("<H", 0)
        head = b"RIFF\0\0\0\0WAVE"
        self._may_be_long = expected_frames is None or expected_frames * self._frame_bytes > LIMIT_BYTES
        if self._may_be_long:
            head += struct.pack("<4sI", b"JUNK", _DS64_BYTES) + bytes(_DS64_BYTES)
        head += struct.pack("<4sI", b"fmt ", len(fmt)) + fmt
        self._fact_at = len(head) + 8 if tag == _FLOAT else None
        if tag == _FLOAT:
            head += struct.pack("<4sII", b"fact", 4, 0)
        self._head_bytes = len(head) + 8
        self._file = FileIO(path, "x+")
        write_all(self._file, memoryview(head + b"data\0\0\0\0"))

    def write(self, block: NDArray[np.float32]) -> None:
        data = self._encoded(np.ascontiguousarray(block, np.float32))
        self._data_bytes += data.nbytes
        if self._data_bytes > LIMIT_BYTES and not self._may_be_long:
            raise EncoderFailedError("more came than the 4 GiB that were announced")
        if data.size:
            write_all(self._file, data.data.cast("B"))

    def _encoded(self, block: NDArray[np.float32]) -> NDArray[np.generic]:
        if self._subtype == "FLOAT":
            return block.astype("<f4", copy=False)
        full_scale = 2.0 ** (self._bits - 1)
        # rounded in float64, where 32 bits have room
        levels = np.clip(np.rint(block.astype(np.float64) * full_scale), -full_scale, full_scale - 1)
        if self._bits == 8:
            return (levels + 128).astype(np.uint8)
        if self._bits == 24:
            quads = levels.astype("<i4").view(np.uint8).reshape(-1, 4)
            return np.ascontiguousarray(quads[:, :3])
        return levels.astype(f"<i{self._bits // 8}")

    def finish(self) -> None:
        """Fill in the sizes."""
        if self._data_bytes % 2:
            write_all(self._file, memoryview(b"\0"))
        riff_bytes = self._head_bytes + self._data_bytes + self._data_bytes % 2 - 8
        frames = self._data_bytes // self._frame_bytes
        is_long = self._data_bytes > LIMIT_BYTES
        if is_long:
            self._patch(0, b"RF64")
            self._patch(12, struct.pack("<4sIQQQI", b"ds64", _DS64_BYTES, riff_bytes, self._data_bytes, frames, 0))
        self._patch(4, struct.pack("<I", _UNKNOWN_32 if is_long else riff_bytes))
        self._patch(self._head_bytes - 4, struct.pack("<I", _UNKNOWN_32 if is_long else self._data_bytes))
        if self._fact_at is not None:
            self._patch(self._fact_at, struct.pack("<I", min(frames, _UNKNOWN_32)))
        self._file.close()

    def _patch(self, position: int, data: bytes) -> None:
        self._file.seek(position)
        write_all(self._file, memoryview(data))

    def discard(self) -> None:
        self._file.close()


def write_all(file: FileIO, data: memoryview) -> None:
    """All of it: an unbuffered file may take a part."""
    while data:
        data = data[file.write(data) :]
