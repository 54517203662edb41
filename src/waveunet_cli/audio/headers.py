"""What the headers of audio files promise, read without decoding.

libsndfile takes the length of a truncated PCM file from the file's size, and guesses that of an MP3 without
a Xing header from its first frame. Both would lose music silently, so the promises are read here.

Sources: RIFF/WAVE (IBM and Microsoft 1991), RF64 (EBU Tech 3306), Wave64 (Sonic Foundry), AIFF (Apple 1989),
CAF (Apple), AU (Sun), Xing's MP3 header.
"""

import struct
from typing import BinaryIO

# A writer that cannot seek back leaves 0, all ones, or the largest round size that fits 31 or 32 bits.
_STREAMED_RANGES = ((0, 0), (0x7FFF_F000, 0x8000_0000), (0xFFFF_F000, 0xFFFF_FFFF))
_STREAMED_64 = 1 << 62


def _is_streamed(size_bytes: int) -> bool:
    return size_bytes >= _STREAMED_64 or any(low <= size_bytes <= high for low, high in _STREAMED_RANGES)


def declared_end_bytes(file: BinaryIO) -> int | None:
    """Where the samples end according to the header; None where the format or the header does not say.

    Leaves the file's position undefined.
    """
    file.seek(0)
    magic = file.read(16)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] == b"WAVE":
        return _riff_end(file, "little" if magic[:4] != b"RIFX" else "big", b"data")
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _riff_end(file, "big", b"SSND")
    if magic[:4] == b"riff" and magic[4:] == bytes.fromhex("2e91cf11a5d628db04c10000"):
        return _wave64_end(file)
    if magic[:4] == b"caff":
        return _caf_end(file)
    if magic[:4] in (b".snd", b"dns.") and len(magic) >= 12:
        offset, size = struct.unpack(">II" if magic[:4] == b".snd" else "<II", magic[4:12])
        return None if _is_streamed(size) else offset + size
    return None


def _riff_end(file: BinaryIO, byteorder: str, wanted: bytes) -> int | None:
    form = "<4sI" if byteorder == "little" else ">4sI"
    position = 12
    size_64: int | None = None
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return None
        name, size = struct.unpack(form, header)
        if name == b"ds64":
            _, size_64 = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
        if name == wanted:
            if size == 0xFFFF_FFFF and size_64 is not None:
                size = size_64
            return None if _is_streamed(size) else position + 8 + size
        position += 8 + size + size % 2


def _wave64_end(file: BinaryIO) -> int | None:
    position = 40  # the GUIDs of riff and wave and the size between them
    while True:
        file.seek(position)
        header = file.read(24)
        if len(header) < 24:
            return None
        size = int.from_bytes(header[16:], "little")  # with its own 24 bytes of header
        if header[:4] == b"data":
            return None if size <= 24 or _is_streamed(size) else position + size
        if size < 24:
            return None
        position += -(-size // 8) * 8


def _caf_end(file: BinaryIO) -> int | None:
    position = 8
    while True:
        file.seek(position)
        header = file.read(12)
        if len(header) < 12:
            return None
        name, size = struct.unpack(">4sq", header)
        if name == b"data":
            return position + 12 + size if size >= 0 else None  # −1: up to the end of the file
        if size < 0:
            return None
        position += 12 + size


def mp3_counts_frames(file: BinaryIO, file_bytes: int) -> bool:
    """Whether the first frame of an MP3 carries a Xing or Info header that counts the whole file.

    False as well for files joined end to end, where it counts the first part only. Leaves the file's
    position undefined.
    """
    position = 0
    while True:
        file.seek(position)
        tag = file.read(10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            break
        # ID3v2: seven bits a byte; flag 0x10 announces a footer as long as the header
        size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if tag[5] & 0x10 else 0)
    file.seek(position)
    frame = file.read(4096).lstrip(b"\0")[:64]
    # the tag follows 4 bytes of frame header, 0 or 2 of check sum and 9 to 32 of side information
    at = max(frame.find(b"Xing", 13, 42), frame.find(b"Info", 13, 42))
    if at < 0 or len(frame) < at + 16:
        return False
    flags, _, counted_bytes = struct.unpack(">III", frame[at + 4 : at + 16])
    has_frames, has_bytes = flags & 1, flags & 2
    slack_bytes = 1 << 16  # tags at the end
    return bool(has_frames and (not has_bytes or file_bytes - position <= counted_bytes * 1.01 + slack_bytes))
