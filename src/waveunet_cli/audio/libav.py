"""Files decoded by FFmpeg's libraries, through PyAV: whatever libsndfile does not read, or not rightly."""

import ctypes
import re
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.formats import AudioInfo
from waveunet_cli.audio.layout import mask_of, wave_order
from waveunet_cli.audio.links import counts_frames, is_frame
from waveunet_cli.audio.span import Span
from waveunet_cli.errors import AudioReadError
from waveunet_cli.events import Note

if TYPE_CHECKING:
    from av import AudioFrame, AudioLayout, AudioResampler, AudioStream, Packet
    from av.container import InputContainer

T = TypeVar("T")

_LOSSLESS_CODECS = frozenset(
    {"alac", "ape", "flac", "mlp", "shorten", "tak", "truehd", "tta", "wavpack", "wmalossless"}
)
_CHECKED_CODECS = frozenset({"flac", "wavpack"})
# Recordings of broadcasts start and end anywhere: what cannot be decoded there is silence, not an error.
_BROADCAST_CODECS = frozenset({"mp1", "mp2", "mp3"})
_BROADCAST_FORMATS = frozenset({"aac", "ac3", "dts", "eac3", "loas", "mpeg", "mpegts"})
# Elsewhere FFmpeg tells a length that is rounded or guessed.
_EXACT_FORMATS = frozenset({"aiff", "ape", "au", "caf", "flac", "mov", "ogg", "tak", "tta", "w64", "wav", "wv"})
_MOV_TOLERANCE_SECONDS = 0.5  # encoder delay and edit lists move the end by some frames of the codec
_MP3_TOLERANCE = 2  # of its own frames: some encoders count the header frame, or the decoder's delay, as music
_MPEG_1_HZ, _MPEG_FRAMES, _MPEG_2_FRAMES = 32_000, 1152, 576  # the lowest rate of MPEG-1; samples of a frame; below it
_MOST_GAP_FRAMES = 1 << 13  # of one packet, however long a container says that it lasts
_W64_UNIT_BYTES = 8
_OPUS_FRAMES_A_BYTE = 500  # at most, at 6 kbit/s with pauses: a broadcast of one page looks longer
_AAC_FRAMES = 2048  # the longest packet
_UNNAMED = "NONE"  # a channel of which nothing is known
_PLANES = 8
_FULL_SCALES = {np.dtype(np.int16): 15, np.dtype(np.int32): 31, np.dtype(np.int64): 63}  # as powers of two


class LibavSource:
    """The first audio stream of a span; `why` says in errors why libsndfile does not read it.

    Opening decodes the first frame, which alone tells the rate and the channels for certain. Raises AudioReadError
    for a packet that cannot be decoded and for a file that is shorter than it says, except for broadcasts.
    """

    def __init__(self, span: Span, why: str, on_event: Callable[[Note], None], track: int | None = None) -> None:
        import av  # a tenth of a second, which only those wait who need it

        self._span = span
        # of FFmpeg, and of PyAV about what it does not know
        self._failures = (av.FFmpegError, ValueError, RuntimeError, ArithmeticError, LookupError)
        self._on_event = on_event
        self._decoded_frames = self._silent_frames = 0
        self._gap_frames = 0  # of packets that could not be decoded
        self._waiting: list[NDArray[np.float32]] = []  # decoded, not yet read
        self._counts_frames = counts_frames(span)
        span.seek(0)
        span.name = str(span.path)  # whose extension FFmpeg looks at where the content tells nothing
        try:
            self._container: InputContainer = av.open(
                span, "r", options={"protocol_whitelist": "none"}, io_open=_refuse, metadata_errors="replace"
            )
        except self._failures as error:
            raise self._no_audio(why, _reason(error)) from error
        try:
            stream = self._stream = self._find_stream(why, track)
            context = stream.codec_context
            self._codec: str = context.codec.canonical_name
            self._formats = self._container.format.name.split(",")
            self._is_lossless = self._codec in _LOSSLESS_CODECS or self._codec.startswith(("pcm_", "dsd_"))
            self._is_broadcast = self._codec in _BROADCAST_CODECS or not _BROADCAST_FORMATS.isdisjoint(self._formats)
            if self._codec in _CHECKED_CODECS:
                context.options = {"err_detect": "crccheck+explode"}  # FFmpeg looks at check sums only if told to
            if self._codec == "alac" and "caf" in self._formats:
                # FFmpeg cuts off once more what the last packet already lacks
                context.flags2 |= av.codec.context.Flags2.skip_manual
            self._decimator = _Decimator(self._span, on_event) if self._codec.startswith("dsd_") else None
            self._packer: AudioResampler | None = None
            self._rate_hz, self._speakers = context.sample_rate, _speakers_of(context.layout)[0]
            self._trimmed_frames = self._count_of_itunes()
            self._layout: AudioLayout | None = None
            self._layout_is_frail = False
            self._order: list[int] | None = None
            self._subtype = self._codec.upper()
            self._blocks = self._decoded()
            self._waiting += [block for block in [next(self._blocks, None)] if block is not None]
            if self._gap_frames and not self._waiting:
                raise self._no_audio(why, "not one packet could be decoded")
        except BaseException as error:
            self.close()
            if isinstance(error, self._failures):
                raise self._no_audio(why, _reason(error)) from error
            raise
        self.info = AudioInfo(
            path=span.path,
            sample_rate_hz=self._rate_hz,
            channels=len(self._speakers),
            frames=self._count_stated(),
            format=self._formats[0].upper(),
            subtype=self._subtype,
            lossy=not self._is_lossless,
            channel_mask=mask_of(self._speakers),
        )

    def _no_audio(self, *reasons: str) -> AudioReadError:
        self._span.raise_error()
        return AudioReadError(
            f"{self._span.path}: no audio that libsndfile or ffmpeg can read ({'; '.join(reasons)});"
            " name an audio file, or convert it to WAV or FLAC"
        )

    def _find_stream(self, why: str, track: int | None) -> "AudioStream":
        # a format guessed from the name alone shows as a stream without channels
        known = [
            stream
            for stream in self._container.streams.audio
            if stream.codec_context is not None and _speakers_of(stream.codec_context.layout)[0]
        ]
        if not known:
            raise self._no_audio(why, "no stream of a codec that FFmpeg knows")
        if track is not None and not 1 <= track <= len(known):
            raise AudioReadError(
                f"{self._span.path}: holds {len(known)} audio tracks, not {track}; choose another --track"
            )
        if track is None and len(known) > 1:
            titles = [stream.metadata.get("title") or stream.metadata.get("handler_name") for stream in known]
            named = ", ".join(f"{number} {title or 'unnamed'}" for number, title in enumerate(titles, 1))
            self._on_event(
                Note(f"{self._span.path}: holds {len(known)} audio tracks ({named}); the first is read, see --track")
            )
        return known[0 if track is None else track - 1]

    def _count_stated(self) -> int | None:
        """How many frames the file says it holds; None where it only lets guess."""
        duration, unit = self._stream.duration, self._stream.time_base
        if not duration or unit is None or self._decimator:
            return None
        if self._codec == "mp3":
            is_counted = self._formats == ["mp3"] and self._counts_frames
            return round(duration * unit * self._rate_hz) if is_counted else None
        if self._trimmed_frames is not None:
            return self._trimmed_frames
        if self._codec == "opus" and self._formats == ["ogg"]:
            (skipped,) = struct.unpack("<10xH", (self._stream.codec_context.extradata or b"")[:12].ljust(12, b"\0"))
            stated = duration - (self._stream.start_time or 0) - int(skipped)
            return stated if 0 <= stated <= self._span.bytes * _OPUS_FRAMES_A_BYTE else None
        is_exact = self._is_lossless and not _EXACT_FORMATS.isdisjoint(self._formats)
        return duration if is_exact and unit == Fraction(1, self._rate_hz) else None

    def read(self, frames: int) -> NDArray[np.float32]:
        found = sum(map(len, self._waiting))
        while found < frames and (block := next(self._blocks, None)) is not None:
            self._waiting.append(block)
            found += len(block)
        whole = np.concatenate([np.empty((0, self.info.channels), np.float32), *self._waiting])
        self._waiting = [whole[frames:]] if found > frames else []
        return whole[:frames]

    def _decoded(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of (frames, channels)."""
        for packet in self._each(self._container.demux(self._stream)):
            try:
                frames = packet.decode() or self._behind_junk(packet)
            except self._failures as error:
                if packet.size < _W64_UNIT_BYTES and "w64" in self._formats:
                    continue  # what fills the chunk
                if not self._is_broadcast:
                    self._fail(_reason(error))
                frames = self._behind_junk(packet)
                if not frames:
                    lasting = round((packet.duration or 0) * packet.time_base * self._rate_hz)
                    self._gap_frames += min(max(0, lasting), _MOST_GAP_FRAMES)
            for frame in frames:
                for block in self._each(self._converted(frame)):
                    yield self._trimmed(block)
        if self._decimator:
            yield from self._each(map(_as_float, self._decimator.push(None)))
        self._check_end()

    def _each(self, found: Iterator[T]) -> Iterator[T]:
        """What an iterator gives, or AudioReadError."""
        while True:
            try:
                one = next(found)
            except StopIteration:
                return
            except self._failures as error:
                self._fail(_reason(error))
            yield one

    def _count_of_itunes(self) -> int | None:
        """How many frames the tag iTunSMPB counts; what comes after them in the last packet is no music."""
        told = self._container.metadata.get("iTunSMPB", "").split()
        if self._codec != "aac" or len(told) < 4:
            return None
        try:
            count = int(told[3], 16)
        except ValueError:
            return None
        duration = float((self._stream.duration or 0) * (self._stream.time_base or 0)) * self._rate_hz
        return count if abs(count - duration) <= _AAC_FRAMES else None

    def _trimmed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """A block that was just decoded, without what lies behind the end."""
        if self._trimmed_frames is None:
            return block
        beyond = self._decoded_frames - self._trimmed_frames
        if beyond > 0:
            self._decoded_frames = self._trimmed_frames
        return block[: len(block) - max(0, beyond)]

    def _behind_junk(self, packet: "Packet[AudioStream]") -> "list[AudioFrame]":
        """The frame of MPEG audio in a packet that does not begin with it: FFmpeg puts tags and the like before it."""
        if self._codec not in _BROADCAST_CODECS or not packet.size:
            return []
        from av import Packet

        data = bytes(packet)
        if data.startswith(b"\xff"):  # the frame itself
            return []
        for match in re.finditer(rb"\xff", data[1:]):
            if is_frame(data[match.end() : match.end() + 4]):
                try:
                    return self._stream.codec_context.decode(Packet(data[match.end() :]))
                except self._failures:
                    continue
        return []

    def _converted(self, frame: "AudioFrame") -> Iterator[NDArray[np.float32]]:
        if frame.is_corrupt and not self._is_broadcast:
            self._fail("a damaged packet")
        rate_hz = self._decimator.rate_hz(frame) if self._decimator else frame.sample_rate
        if frame.layout != self._layout or rate_hz != self._rate_hz or self._decoded_frames == 0:
            self._take_layout(frame, rate_hz)
        if self._layout_is_frail:
            _keep(frame.layout)
        for part in self._decimator.push(frame) if self._decimator else self._packed(frame):
            block = _as_float(part)  # (frames, channels)
            if self._gap_frames and self._decoded_frames:  # between what could be decoded
                self._silent_frames += self._gap_frames
                self._decoded_frames += self._gap_frames
                for start in range(0, self._gap_frames, _MOST_GAP_FRAMES):
                    frames = min(_MOST_GAP_FRAMES, self._gap_frames - start)
                    yield np.zeros((frames, len(self._speakers)), np.float32)
            self._gap_frames = 0
            self._decoded_frames += len(block)
            yield block if self._order is None else block[:, self._order]

    def _take_layout(self, frame: "AudioFrame", rate_hz: int) -> None:
        """Of the first frame; a later one may only be of the same rate and number of channels."""
        speakers, is_frail = _speakers_of(frame.layout)
        if self._decoded_frames == 0:
            if self._is_lossless:
                self._speakers = speakers
                self._subtype = "PCM_24" if self._decimator else _depth(self._packed(frame)[0], self._codec)
        elif (rate_hz, len(speakers)) != (self._rate_hz, len(self._speakers)):
            raise AudioReadError(
                f"{self._span.path}: changes after {self._decoded_frames / self._rate_hz:.3f} s from"
                f" {self._rate_hz} Hz and {len(self._speakers)} channels to {rate_hz} Hz and {len(speakers)} channels;"
                " split it there"
            )
        order = wave_order(speakers)
        self._order = None if order == sorted(order) else order
        self._rate_hz, self._speakers = rate_hz, speakers
        self._layout, self._layout_is_frail = frame.layout, is_frail

    def _packed(self, frame: "AudioFrame") -> "list[AudioFrame]":
        """The frame with its channels interleaved, where it has more planes than PyAV 18 can give out."""
        if not frame.format.is_planar or len(self._speakers) < _PLANES:
            return [frame]
        if self._packer is None:
            from av import AudioResampler

            self._packer = AudioResampler(frame.format.packed)
        return self._packer.resample(frame)

    def _fail(self, reason: str) -> NoReturn:
        self._span.raise_error()
        raise AudioReadError(
            f"{self._span.path}: damaged or truncated after {self._decoded_frames / self._rate_hz:.3f} s"
            f" ({reason}); copy the file again"
        )

    def _check_end(self) -> None:
        self._span.raise_error()
        if self._silent_frames:
            seconds = self._silent_frames / self._rate_hz
            self._on_event(Note(f"{self._span.path}: {seconds:.3f} s could not be decoded and are silent"))
        stated, tolerance = float(self._count_stated() or 0), 0.0
        if "mp4" in self._formats and self._stream.duration and self._stream.time_base:
            stated = float(self._stream.duration * self._stream.time_base) * self._rate_hz
            tolerance = _MOV_TOLERANCE_SECONDS * self._rate_hz
        elif "matroska" in self._formats and len(self._container.streams) == 1 and self._container.duration:
            stated = self._container.duration / 1e6 * self._rate_hz
            tolerance = _MOV_TOLERANCE_SECONDS * self._rate_hz
        elif self._codec == "mp3":
            tolerance = _MP3_TOLERANCE * (_MPEG_FRAMES if self._rate_hz >= _MPEG_1_HZ else _MPEG_2_FRAMES)
        elif self._codec == "opus":
            return  # what is missing was lost on the way, not cut off
        if self._decoded_frames < stated - tolerance:
            raise AudioReadError(
                f"{self._span.path}: truncated: its header says {stated / self._rate_hz:.3f} s,"
                f" {self._decoded_frames / self._rate_hz:.3f} s found; copy the file again"
            )

    def close(self) -> None:
        if hasattr(self, "_blocks"):
            self._blocks.close()  # type: ignore[attr-defined] # it is a generator
        self._container.close()


class _Decimator:
    """DSD, which FFmpeg decodes to samples at an eighth of its rate, at a rate that people use."""

    def __init__(self, span: Span, on_event: Callable[[Note], None]) -> None:
        self._span = span
        self._on_event = on_event
        self._graph: Any = None

    def rate_hz(self, frame: "AudioFrame") -> int:
        return 88_200 if frame.sample_rate % 44_100 == 0 else 96_000

    def push(self, frame: "AudioFrame | None") -> Iterator["AudioFrame"]:
        from av import FFmpegError
        from av.filter import Graph

        if frame is not None and self._graph is None:
            rate_hz = self.rate_hz(frame)
            self._on_event(Note(f"{self._span.path}: DSD is read as 24 bit at {rate_hz} Hz"))
            self._graph = Graph()
            source = self._graph.add_abuffer(
                sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout, time_base=frame.time_base
            )
            # the noise of DSD above hearing is loud: a long, steep filter
            resampler = self._graph.add("aresample", f"{rate_hz}:filter_size=256:filter_type=kaiser:kaiser_beta=12")
            sink = self._graph.add("abuffersink")
            source.link_to(resampler)
            resampler.link_to(sink)
            self._graph.configure()
        if self._graph is None:
            return
        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull()
            except (BlockingIOError, EOFError, FFmpegError):  # nothing more for now
                return


def _as_float(frame: "AudioFrame") -> NDArray[np.float32]:
    """(frames, channels), full scale 1."""
    samples = _samples(frame)
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32, order="C") - 128) / np.float32(128)
    found = samples.astype(np.float32, order="C")
    scale = _FULL_SCALES.get(samples.dtype)
    return found if scale is None else found * np.float32(2.0**-scale)


def _samples(frame: "AudioFrame") -> NDArray[Any]:
    """As they are decoded, planar: (channels, frames); else (1, frames · channels)."""
    if not frame.format.name.startswith("s64"):
        return frame.to_ndarray()
    # PyAV 18 makes no array of them
    count = frame.samples * (1 if frame.format.is_planar else len(frame.layout.channels))
    return np.vstack([np.frombuffer(bytes(plane), np.int64, count) for plane in frame.planes])


def _depth(frame: "AudioFrame", codec: str) -> str:
    """PCM_8 … of a lossless stream, from the samples it is decoded to."""
    samples = _samples(frame)
    if samples.dtype.kind == "f":
        return "FLOAT"
    if samples.dtype.itemsize < 4:
        return {1: "PCM_S8", 2: "PCM_16"}[samples.dtype.itemsize]
    if codec.startswith("pcm_"):
        return "PCM_24" if "24" in codec else "PCM_32"
    return "PCM_32" if np.any(samples & 0xFF) else "PCM_24"


def _speakers_of(layout: "AudioLayout") -> tuple[list[str], bool]:
    """The names of the channels, as they are stored, and whether the layout must be kept."""
    names = [channel.name for channel in layout.channels]
    is_native = mask_of(names) != 0 and wave_order(names) == list(range(len(names)))
    is_frail = not is_native and names != [_UNNAMED] * len(names)
    if is_frail:
        _keep(layout)
    return names, is_frail


def _keep(layout: "AudioLayout") -> None:
    """For ever: with a layout that has an order of its own, PyAV 17 and 18 free what is FFmpeg's."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))


def _refuse(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """Playlists name other files: only the file that the user named is opened."""
    raise ValueError("it is a list of other files; name the audio files themselves")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).strip().rstrip(".") or "FFmpeg gave no reason"
