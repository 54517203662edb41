"""Decibels as a small PNG, in the same colours for all tracks of a song."""

import struct
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.listen.overview import SILENCE_DB

RANGE_DB = 80.0  # from black to the brightest colour
_COLOURS = 16  # four bits a pixel: small, and enough for the eye
_STOPS = ((8, 6, 22), (66, 20, 110), (150, 40, 125), (226, 80, 85), (250, 160, 60), (252, 246, 190))


def top_of(pictures: Iterable[NDArray[np.float32]]) -> float:
    """The level that gets the brightest colour in all of these: their loudest. Silence stays dark."""
    return max(SILENCE_DB + RANGE_DB, *(float(decibels.max()) for decibels in pictures))


def png(decibels: NDArray[np.float32], top_db: float) -> bytes:
    """A picture of (rows, columns), the first row at the bottom; `top_db` gets the brightest colour."""
    share = np.clip((decibels[::-1] - top_db) / RANGE_DB + 1, 0, 1)
    pixels = np.rint(share * (_COLOURS - 1)).astype(np.uint8)
    rows, columns = pixels.shape
    pairs = np.pad(pixels, ((0, 0), (0, columns % 2)))
    packed = pairs[:, ::2] << 4 | pairs[:, 1::2]
    lines = np.pad(packed, ((0, 0), (1, 0))).tobytes()  # each line begins with the number of its filter, 0
    places = np.linspace(0, len(_STOPS) - 1, _COLOURS)
    palette = np.stack([np.interp(places, range(len(_STOPS)), channel) for channel in zip(*_STOPS, strict=True)], 1)
    header = struct.pack(">IIBBBBB", columns, rows, 4, 3, 0, 0, 0)  # 4 bits, colours from a palette
    parts = [(b"IHDR", header), (b"PLTE", palette.astype(np.uint8).tobytes()), (b"IDAT", zlib.compress(lines, 9))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in [*parts, (b"IEND", b"")])


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
