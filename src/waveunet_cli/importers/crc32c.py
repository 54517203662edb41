"""CRC-32C (Castagnoli) of large arrays, in numpy.

A register r, fed bytes, is a linear map over GF(2) of (r, bytes). Three consequences, used below:

    two bytes at once    r' = T[(r ^ word) & 0xFFFF] ^ (r >> 16)          T: 65 536 entries
    parallel lanes       crc(a‖b) = shift(crc(a), len b) ^ crc(b) with registers that start at 0, so equal
                         lanes advance side by side and are joined afterwards
    leading zeros        leave a register of 0 at 0: the message is padded at its front to whole lanes. The
                         standard's initial register of ones is the message's first 4 bytes inverted.

TensorFlow stores masked sums: rotated right by 15 bits, plus a constant.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # reflected
LANE_WORDS = 512  # of 16 bits
FEW_BYTES = 8192  # fewer are done sooner one by one
Words = NDArray[np.uint32]


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """The masked CRC-32C as TensorFlow and LevelDB write it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC-32C of `data`."""
    size = len(data)
    if size < FEW_BYTES:
        return _short(bytes(data))
    lanes = -(-size // (2 * LANE_WORDS))
    padded = np.zeros(lanes * 2 * LANE_WORDS, np.uint8)
    start = padded.size - size
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 0xFF
    table = _word_table()
    words = np.ascontiguousarray(padded.view("<u2").reshape(lanes, LANE_WORDS).T)  # (word, lane)
    registers = _advance(np.zeros(lanes, np.uint32), words, table)
    columns = _lane_shift()
    crc = 0
    for register in registers.tolist():
        crc = (
            columns[0][crc & 0xFF] ^ columns[1][crc >> 8 & 0xFF] ^ columns[2][crc >> 16 & 0xFF] ^ columns[3][crc >> 24]
        )
        crc ^= register
    return crc ^ 0xFFFFFFFF


def _advance(registers: Words, words: NDArray[np.uint16], table: Words) -> Words:
    """Feed every register (lane,) its column of words (word, lane)."""
    for row in words:
        registers = table[(registers ^ row) & 0xFFFF] ^ (registers >> 16)
    return registers


def _short(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _byte_list()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _byte_list() -> list[int]:
    listed: list[int] = _byte_table().tolist()
    return listed


@lru_cache(maxsize=1)
def _byte_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


@lru_cache(maxsize=1)
def _word_table() -> Words:
    table = np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        table = _byte_table()[table & 0xFF] ^ (table >> 8)
    return table


@lru_cache(maxsize=1)
def _lane_shift() -> list[list[int]]:
    """What a lane of zeros makes of each byte value at each of a register's 4 places."""
    registers = (np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]).ravel()
    zeros = np.zeros((LANE_WORDS, 1), np.uint16)
    shifted: list[list[int]] = _advance(registers, zeros, _word_table()).reshape(4, 256).tolist()
    return shifted
