"""What the headers of audio files promise, read without decoding.

libsndfile takes the length of a truncated PCM file from the file's size, and one that a streaming encoder left at 0
for the truth. Both would lose music silently, so the promises are read here, and mended where they promise nothing.

Sources: RIFF/WAVE (IBM and Microsoft 1991; channel masks: Microsoft 2001), RF64 (EBU Tech 3306), Wave64 (Sonic
Foundry), AIFF (Apple 1989), CAF (Apple), AU (Sun).
"""

import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

# A writer that cannot seek back leaves 0, all ones, or the largest round size that fits 31 or 32 bits.
_STREAMED_RANGES = ((0, 0), (0x7FFF_F000, 0x8000_0000), (0xFFFF_F000, 0xFFFF_FFFF))
_STREAMED_64 = 1 << 62
_UNKNOWN_32 = b"\xff\xff\xff\xff"
_WAVE64 = bytes.fromhex("2e91cf11a5d628db04c10000")  # the rest of the GUID that starts with "riff"
_MPEG_TAGS = (0x50, 0x55)  # MP2 and MP3 in WAV
_EXTENSIBLE = 0xFFFE
_ALAC_16 = (1).to_bytes(4, "big")  # the flags of CAF's ALAC: a number for its bits


@dataclass(frozen=True)
class Header:
    """end_bytes: where the samples end; None where the header does not say
    repairs: what to read instead of the header's own bytes, by position, so that a decoder takes all samples there are
    channel_mask: of WAV; 0 where there is none
    is_for_ffmpeg: whether libsndfile would open it and read it wrongly: MP3 in WAV, whose length no header of WAV
        knows; an order of channels in CAF and AIFF; ALAC of more than 16 bits in CAF, whose noisy packets it mixes up;
        8SVX, whose pad byte it takes for a sample; more than 32 bits can count, of which it takes what they can
    is_cut: whether the file ends before its samples begin
    """

    end_bytes: int | None = None
    repairs: Mapping[int, bytes] = field(default_factory=dict)
    channel_mask: int = 0
    is_for_ffmpeg: bool = False
    is_cut: bool = False


def read_header(file: BinaryIO) -> Header:
    """Of a file open for reading; leaves its position undefined."""
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(16)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:12] == b"WAVE":
        return _riff(file, file_bytes, "big" if magic[:4] == b"RIFX" else "little")
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file)
    if magic[:4] == b"FORM" and magic[8:12] == b"8SVX":
        return Header(is_for_ffmpeg=True)
    if magic[:4] == b"riff" and magic[4:] == _WAVE64:
        return _wave64(file, file_bytes)
    if magic[:4] == b"caff":
        return _caf(file, file_bytes)
    if magic[:4] in (b".snd", b"dns.") and len(magic) >= 12:
        offset, size = struct.unpack(">II" if magic[:4] == b".snd" else "<II", magic[4:12])
        if _is_streamed(size):
            repairs = {8: _UNKNOWN_32} if offset < file_bytes else {}
            return Header(repairs=repairs, is_for_ffmpeg=file_bytes - offset >= 1 << 32)
        return Header(end_bytes=offset + size)
    return Header()


def _is_streamed(size_bytes: int) -> bool:
    return size_bytes >= _STREAMED_64 or any(low <= size_bytes <= high for low, high in _STREAMED_RANGES)


def _chunks(file: BinaryIO, form: str, position: int, unit: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, position of the content and size of every chunk up to the first that is none, or lies beyond the file.

    Content fills up to a multiple of `unit` bytes.
    """
    header_bytes, file_bytes = struct.calcsize(form), file.seek(0, os.SEEK_END)
    while position < file_bytes:  # a size may lead further than a position can be counted
        file.seek(position)
        header = file.read(header_bytes)
        if len(header) < header_bytes:
            return
        name, size = struct.unpack(form, header)
        if not (name.isascii() and name.decode().isprintable()):
            return
        position += header_bytes
        yield name, position, size
        if size < 0:
            return
        position += -(-size // unit) * unit


def _are_chunks(file: BinaryIO, form: str, start: int, unit: int, file_bytes: int) -> bool:
    """Whether nothing but whole chunks fills the file from `start` on."""
    end = start
    for _, position, size in _chunks(file, form, start, unit):
        end = position + size
    return end in (file_bytes - 1, file_bytes)  # perhaps a pad byte


def _riff(file: BinaryIO, file_bytes: int, byteorder: str) -> Header:
    form = "<4sI" if byteorder == "little" else ">4sI"
    tag = mask = 0
    size_64: int | None = None
    size_64_at, end = 0, 12
    for name, start, size in _chunks(file, form, 12, 2):
        end = start + size
        if name == b"ds64":
            _, size_64 = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
            size_64_at = start
        if name == b"fmt ":
            tag, extended_mask, extended_tag = struct.unpack(form[0] + "H18xIH", file.read(26).ljust(26, b"\0"))
            if tag == _EXTENSIBLE:
                tag, mask = extended_tag, extended_mask
        if name == b"data":
            end_bytes, repairs = _riff_end(file, file_bytes, form, start, size, size_64, size_64_at)
            is_long = end_bytes is None and size_64 is None and file_bytes - start >= 1 << 32
            return Header(end_bytes, repairs, mask, is_for_ffmpeg=tag in _MPEG_TAGS or is_long)
    # without room for another chunk; where there is, it has no name
    return Header(channel_mask=mask, is_for_ffmpeg=tag in _MPEG_TAGS, is_cut=end > file_bytes - 8)


def _riff_end(
    file: BinaryIO, file_bytes: int, form: str, start: int, size: int, size_64: int | None, size_64_at: int
) -> tuple[int | None, dict[int, bytes]]:
    if size_64 is not None and size in (0, 0xFFFF_FFFF):
        if not _is_streamed(size_64) or start >= file_bytes:
            return start + size_64 if size_64 < _STREAMED_64 else None, {}
        return None, {size_64_at: struct.pack("<QQ", file_bytes - 8, file_bytes - start)}
    if size == 0 and _are_chunks(file, form, start, 2, file_bytes):
        return None, {}  # no samples, and maybe something about them
    is_wrapped = file_bytes - (start + size) >= 1 << 32  # counted beyond what 32 bits hold
    if _is_streamed(size) or is_wrapped:
        return None, {start - 4: _UNKNOWN_32}
    return start + size, {}


def _aiff(file: BinaryIO) -> Header:
    end_bytes, channels, tells_order = None, 0, False
    for name, start, size in _chunks(file, ">4sI", 12, 2):
        if name == b"COMM":
            channels = int.from_bytes(file.read(2), "big")
        tells_order |= name == b"CHAN"
        if name == b"SSND":
            if _is_streamed(size):
                break
            end_bytes = start + size
    return Header(end_bytes, is_for_ffmpeg=tells_order and channels > 2)


def _wave64(file: BinaryIO, file_bytes: int) -> Header:
    position = 40  # the GUIDs of riff and wave and the size between them
    while position < file_bytes:  # a size may lead further than a position can be counted
        file.seek(position)
        header = file.read(24)
        if len(header) < 24:
            break
        size = int.from_bytes(header[16:], "little")  # with its own 24 bytes of header
        if header[:4] == b"data":
            if size > 24 and not _is_streamed(size):
                return Header(position + size)
            return Header(repairs={position + 16: struct.pack("<Q", file_bytes - position)})
        if size < 24:
            return Header()
        position += -(-size // 8) * 8
    return Header(is_cut=True)


def _caf(file: BinaryIO, file_bytes: int) -> Header:
    end_bytes, channels, tells_order, is_deep_alac = None, 0, False, False
    packet_frames = bytes(4)
    repairs: dict[int, bytes] = {}
    for name, start, size in _chunks(file, ">4sq", 8, 1):
        if name == b"desc":
            described = file.read(28)
            channels = int.from_bytes(described[24:28], "big")
            is_deep_alac = described[8:12] == b"alac" and described[12:16] != _ALAC_16
            packet_frames = described[20:24]
        if name == b"pakt" and is_deep_alac and file.read(24)[20:] == packet_frames:
            repairs[start + 20] = bytes(4)  # libsndfile says of a last packet without gaps that it lacks all frames
        tells_order |= name == b"chan"
        if name == b"data":
            if size < 0 or (size == 0 and not _are_chunks(file, ">4sq", start, 1, file_bytes)):
                repairs[start - 8] = struct.pack(">q", file_bytes - start)  # up to the end of the file
                break
            end_bytes = start + size
    return Header(end_bytes, repairs, is_for_ffmpeg=is_deep_alac or (tells_order and channels > 2))


def flac_mask(file: BinaryIO, start: int) -> int:
    """The WAVE channel mask that a FLAC stream states in a comment; 0 where it states none."""
    position, is_last = start + 4, False
    while not is_last:
        file.seek(position)
        kind, *size = file.read(4).ljust(4, b"\xff")
        if kind & 0x7F == 4:
            stated = re.search(
                rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9a-f]+)", file.read(int.from_bytes(size)), re.I
            )
            return int(stated[1], 16) if stated else 0
        position, is_last = position + 4 + int.from_bytes(size), bool(kind & 0x80)
    return 0
