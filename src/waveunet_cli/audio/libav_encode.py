"""Codecs encoded by FFmpeg's libraries, through PyAV: AAC and ALAC in MP4, Opus in Ogg.

A decoder gives back as many frames as went in: Ogg Opus and ALAC count them. AAC comes in packets of 1024 frames. The
first is the encoder's delay; the second is silence, since FFmpeg's encoder has hardly a bit for a song that begins at
once. An edit list in the file says which frames are meant, and so does the tag iTunSMPB, since readers differ in what
they heed.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.encode import EncoderFailedError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet

COUNT_TAG = "----:com.apple.iTunes:iTunSMPB"
AAC_FRAMES = 1024  # of a packet
_CHUNK_FRAMES = 1 << 14


class Codec(NamedTuple):
    """How FFmpeg calls a codec, its muxer, and the samples it takes; the bits a channel gets unless others are asked
    for, and the bits of an integer sample."""

    name: str
    muxer: str
    samples: str
    kbits_per_channel: int = 0
    bits: int = 0


CODECS: Mapping[str, Codec] = {
    "AAC": Codec("aac", "ipod", "fltp", kbits_per_channel=96),
    "ALAC_16": Codec("alac", "ipod", "s16p", bits=16),
    "ALAC_24": Codec("alac", "ipod", "s32p", bits=24),
    "OPUS": Codec("libopus", "ogg", "flt", kbits_per_channel=64),
}


def stored_frames(frames: int, rate_hz: int, stored_hz: int) -> int:
    """How many frames these become at the rate that is stored: enough to cover the last of them."""
    return -(-frames * stored_hz // rate_hz)


class LibavEncoder:
    """Encodes blocks of (frames, channels), at most two channels, into a new file, at another rate if need be.

    kbits: kilobits a second; None: what the codec has by default. Raises OSError and EncoderFailedError.
    """

    def __init__(
        self, path: Path, subtype: str, rate_hz: int, channels: int, stored_hz: int, kbits: int | None = None
    ) -> None:
        import av

        self._path = path
        self._codec = CODECS[subtype]
        self._rates_hz = rate_hz, stored_hz
        self._frames = self._stored = 0
        self._priming: int | None = None
        layout = "mono" if channels == 1 else "stereo"
        with self._explained():
            # a timescale of the sample rate: an edit list counts in it
            options = {"movie_timescale": str(stored_hz)} if self._codec.muxer == "ipod" else {}
            self._file = av.open(str(path), "w", format=self._codec.muxer, options=options)
            stream = self._file.add_stream(self._codec.name, rate=stored_hz, layout=layout)
            assert isinstance(stream, av.AudioStream)
            self._stream = stream
            self._stream.codec_context.format = av.AudioFormat(self._codec.samples)
            self._stream.time_base = Fraction(1, stored_hz)
            if self._codec.kbits_per_channel:
                self._stream.bit_rate = 1000 * (kbits or self._codec.kbits_per_channel * channels)
            self._resampler = av.AudioResampler("fltp", layout, stored_hz) if rate_hz != stored_hz else None
            self._layout = layout
            if self._codec.name == "aac":
                silence = np.zeros((channels, AAC_FRAMES), np.float32)
                self._mux(stream.encode(self._frame(silence, "fltp", stored_hz, -AAC_FRAMES)))

    def write(self, block: NDArray[np.float32]) -> None:
        for start in range(0, len(block), _CHUNK_FRAMES):
            part = block[start : start + _CHUNK_FRAMES]  # (frames, channels)
            self._frames += len(part)
            with self._explained():
                if self._resampler is None:
                    self._encode(part)
                else:
                    frame = self._frame(part.T, "fltp", self._rates_hz[0], self._frames - len(part))
                    for made in self._resampler.resample(frame):
                        self._encode(made.to_ndarray().T)

    def finish(self) -> None:
        with self._explained():
            if self._resampler is not None:
                for made in self._resampler.resample(None):
                    self._encode(made.to_ndarray().T)
                missing = stored_frames(self._frames, *self._rates_hz) - self._stored
                self._encode(np.zeros((max(0, missing), 1 if self._layout == "mono" else 2), np.float32))
            self._mux(self._stream.encode(None))
            self._file.close()
            if self._codec.name == "aac":
                self._put_count()

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            self._file.close()

    def _encode(self, part: NDArray[Any]) -> None:
        """Samples (frames, channels) at the stored rate; what is more than the song has is left out."""
        room = None if self._resampler is None else stored_frames(self._frames, *self._rates_hz) - self._stored
        part = part[:room]
        if not len(part):
            return
        samples = self._integers(part) if self._codec.bits else part
        planes = samples.T if self._codec.samples.endswith("p") else samples.reshape(1, -1)
        frame = self._frame(planes, self._codec.samples, self._rates_hz[1], self._stored)
        self._stored += len(part)
        self._mux(self._stream.encode(frame))

    def _integers(self, part: NDArray[Any]) -> NDArray[Any]:
        """Samples as integers of 16 bits, or of 32 bits whose highest are meant."""
        top = 2.0 ** (self._codec.bits - 1)
        scaled = np.clip(np.rint(part.astype(np.float64) * top), -top, top - 1)
        return scaled.astype(np.int16) if self._codec.bits == 16 else scaled.astype(np.int32) << (32 - self._codec.bits)

    def _frame(self, planes: NDArray[Any], samples: str, rate_hz: int, at: int) -> "AudioFrame":
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format=samples, layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, at, Fraction(1, rate_hz)
        return frame

    def _mux(self, packets: "Iterable[Packet[AudioStream]]") -> None:
        for packet in packets:
            if self._priming is None:
                self._priming = max(0, -(packet.pts or 0))
            self._file.mux(packet)

    def _put_count(self) -> None:
        """In the tag that iTunes reads: the delay, what is beyond the end, and the frames between."""
        from mutagen.mp4 import MP4, MP4FreeForm

        padding = -(self._stored + (self._priming or 0)) % AAC_FRAMES
        counts = f" 00000000 {self._priming or 0:08X} {padding:08X} {self._stored:016X}" + " 00000000" * 8
        file = MP4(self._path)
        file[COUNT_TAG] = [MP4FreeForm(counts.encode())]
        file.save()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
                raise
            raise EncoderFailedError(str(error)) from error
