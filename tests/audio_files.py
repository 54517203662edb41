"""Audio files to read in tests, made on the fly: by PyAV, by programs, and by hand from the specifications."""

import shutil
import struct
import subprocess
from fractions import Fraction
from functools import cache

import av
import numpy as np
import soundfile

from waveunet_cli.audio.layout import SPEAKERS

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@cache
def music(frames, channels=2, rate=44100):
    """(frames, channels), read only, in steps of 16 bit: noise below 3 kHz, its own in every channel, the fourth a hum.

    It swells and fades, so that a shift in time shows; the fourth of six channels is for bass alone.
    """
    if frames == 0:
        return np.zeros((0, channels), np.float32)
    rng = np.random.default_rng(channels)
    spectra = np.fft.rfft(rng.standard_normal((frames, channels)), axis=0)
    spectra[np.fft.rfftfreq(frames, 1 / rate) > 3000] = 0
    samples = np.fft.irfft(spectra, frames, axis=0)
    time = np.arange(frames)[:, None] / rate
    samples *= 1 + 0.9 * np.sin(2 * np.pi * time * (3 + np.arange(channels)))
    samples *= 0.3 / max(np.abs(samples).max(), 1e-9)
    if channels >= 4:
        samples[:, 3:4] = 0.3 * np.sin(2 * np.pi * 60 * time) * np.sin(2 * np.pi * 1.5 * time)
    samples = (np.rint(samples * 32768) / 32768).astype(np.float32)
    samples.flags.writeable = False  # it is made once for all tests
    return samples


def encode(path, samples, codec, kind=None, rate=44100, layout=None, tags=None, options=None, muxing=None, bits=None):
    """By PyAV: `kind` is FFmpeg's name of the container, `options` and `muxing` go to encoder and container."""
    with av.open(str(path), "w", format=kind, options=muxing or {}) as file:
        file.metadata.update(tags or {})
        add_stream(file, samples, codec, rate, layout, options, bits)
    return path


def add_stream(file, samples, codec, rate=44100, layout=None, options=None, bits=None):
    layout = layout or LAYOUTS[samples.shape[1]]
    stream = file.add_stream(codec, rate=rate, layout=layout, options=options or {})
    if bits is not None:
        stream.format = bits
    if codec.startswith("wma"):
        stream.bit_rate = 128_000
    encode_stream(file, stream, samples, rate)


def encode_stream(file, stream, samples, rate):
    if not stream.codec_context.is_open:
        stream.codec_context.open()
    layout = stream.codec_context.layout.name
    block = stream.codec_context.frame_size or 1024
    to_format = av.AudioResampler(stream.codec_context.format.name, layout, rate)
    for start in range(0, len(samples), block):
        planar = np.ascontiguousarray(samples[start : start + block].T.reshape(1, -1, order="F"), np.float32)
        frame = av.AudioFrame.from_ndarray(planar, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for part in to_format.resample(frame):
            file.mux(stream.encode(part))
    file.mux(stream.encode(None))


def by(*command, stdin=None):
    """Run a program of the system; who tests asks `has` first."""
    return subprocess.run([str(word) for word in command], input=stdin, check=True, capture_output=True).stdout


def has(tool):
    return shutil.which(tool) is not None


def speakers(layout):
    return [channel.name for channel in av.AudioLayout(layout).channels]


def mask(layout):
    return sum(1 << SPEAKERS.index(name) for name in speakers(layout))


# --- Ogg, by hand (RFC 3533)

_CRC = [0] * 256
for _byte in range(256):
    _rest = _byte << 24
    for _ in range(8):
        _rest = (_rest << 1) ^ 0x04C11DB7 if _rest & 0x8000_0000 else _rest << 1
    _CRC[_byte] = _rest & 0xFFFF_FFFF


def ogg_pages(data):
    pages = []
    while data:
        segments = data[26]
        size = 27 + segments + sum(data[27 : 27 + segments])
        pages.append(bytearray(data[:size]))
        data = data[size:]
    return pages


def granule(page):
    return struct.unpack("<q", page[6:14])[0]


def ogg(pages):
    """The bytes of these pages, with their check sums renewed."""
    for page in pages:
        page[22:26] = bytes(4)
        rest = 0
        for byte in page:
            rest = ((rest << 8) & 0xFFFF_FFFF) ^ _CRC[(rest >> 24) ^ byte]
        page[22:26] = struct.pack("<I", rest)
    return b"".join(pages)


def shifted(data, granules):
    """An Ogg file whose positions in time are moved, as of a broadcast that has gone on for a while."""
    pages = ogg_pages(data)
    for page in pages:
        if granule(page) > 0:
            page[6:14] = struct.pack("<q", granule(page) + granules)
    return ogg(pages)


def other_serial(data, serial=77):
    pages = ogg_pages(data)
    for page in pages:
        page[14:18] = struct.pack("<I", serial)
    return ogg(pages)


def mogg_header(version=10, entries=3):
    """What stands before the Ogg of a .mogg: its version, where the Ogg begins, and a table to seek by."""
    table = struct.pack("<III", 16, 20_000, entries) + bytes(8 * entries)
    return struct.pack("<II", version, 8 + len(table)) + table


def opus_header(data, rate=None, gain=None):
    """An Ogg Opus file that states another rate of its source, or a gain in 1/256 dB."""
    pages = ogg_pages(data)
    at = pages[0].index(b"OpusHead")
    if rate is not None:
        pages[0][at + 12 : at + 16] = struct.pack("<I", rate)
    if gain is not None:
        pages[0][at + 16 : at + 18] = struct.pack("<h", gain)
    return ogg(pages)


# --- DSD, by hand (Sony's DSF and Philips's DSDIFF)


def dsd_bits(samples, ratio):
    """(frames · ratio, channels) of 0 and 1: a modulator of second order."""
    up = np.repeat(samples, ratio, axis=0)
    bits = np.zeros(up.shape, np.uint8)
    first = second = np.zeros(up.shape[1])
    for index, value in enumerate(up):
        bit = second >= 0
        bits[index] = bit
        step = value - np.where(bit, 1.0, -1.0)
        first = first + step
        second = second + first + step
    return bits


def dsf(bits, rate=2_822_400):
    channels = bits.shape[1]
    block = 4096
    packed = [np.packbits(bits[:, channel], bitorder="little") for channel in range(channels)]
    blocks = -(-len(packed[0]) // block)
    data = b"".join(
        packed[channel][index * block : (index + 1) * block].tobytes().ljust(block, b"\x69")
        for index in range(blocks)
        for channel in range(channels)
    )
    fmt = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, channels, channels, rate, 1, len(bits), block, 0)
    return (
        struct.pack("<4sQQQ", b"DSD ", 28, 28 + 52 + 12 + len(data), 0)
        + fmt
        + b"data"
        + struct.pack("<Q", 12 + len(data))
        + data
    )


def dff(bits, rate=2_822_400):
    def chunk(name, content):
        return name + struct.pack(">Q", len(content)) + content + bytes(len(content) % 2)

    names = b"".join([b"SLFT", b"SRGT"][: bits.shape[1]])
    properties = b"SND " + chunk(b"FS  ", struct.pack(">I", rate))
    properties += chunk(b"CHNL", struct.pack(">H", bits.shape[1]) + names)
    properties += chunk(b"CMPR", b"DSD \x0enot compressed\0")
    data = np.packbits(bits, axis=0).tobytes()
    content = b"DSD " + chunk(b"FVER", b"\1\5\0\0") + chunk(b"PROP", properties) + chunk(b"DSD ", data)
    return b"FRM8" + struct.pack(">Q", len(content)) + content


# --- PCM headers, by hand


def wav_bytes(samples, rate=44100, subtype="PCM_16", kind="WAV", folder=None):
    path = folder / f"source.{kind.lower()}"
    soundfile.write(path, samples, rate, subtype, format=kind)
    return path.read_bytes()


def patched(data, *changes):
    """Bytes with others in their place: (position, bytes) or (what is there, bytes, how far behind its start)."""
    data = bytearray(data)
    for at, new, *behind in changes:
        position = at if isinstance(at, int) else data.index(at) + behind[0]
        data[position : position + len(new)] = new
    return bytes(data)
