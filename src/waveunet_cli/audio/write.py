"""The stems of a song written together: complete files, or none.

Everything goes to temporary files beside the targets, named ".waveunet-TAG-*.part", and is renamed at the end.
Integers are rounded here: libsndfile cuts towards minus infinity in WAV, where ±0.5 LSB is possible.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.formats import CONTAINERS, SUBTYPE_BITS, OutputFormat
from waveunet_cli.audio.sinks import Encoder, Spool, explained
from waveunet_cli.audio.tags import Tags
from waveunet_cli.errors import AudioWriteError, ConfigError

Clip = Literal["rescale", "clamp", "none"]


@dataclass(frozen=True)
class WriteReport:
    """What was written: frames per stem, the gain applied to all stems, the peak |sample| before it, and the samples
    clipped; and what the stems say of themselves is without, in words, because their format has no place for it.
    """

    frames: int
    gain: float
    peak: float
    clipped_samples: int
    lost: Sequence[str] = ()


@dataclass(frozen=True)
class _Range:
    """The samples a format can hold: [−1, top], in steps of 1 / full_scale; full_scale None: no steps."""

    top: float
    full_scale: float | None

    @property
    def half_step(self) -> float:
        return 0.5 / self.full_scale if self.full_scale else 0.0

    def fitting_gain(self, lowest: float, highest: float) -> float:
        """1 where the extremes round to representable samples, else what brings the worse one inside."""
        over = max(highest / self.top, -lowest)
        fits = highest <= self.top + self.half_step and -lowest <= 1 + self.half_step
        # a float32 rounded down, so that no product rounds up beyond the range
        return 1.0 if fits else float(np.nextafter(np.float32(1 / over), np.float32(0)))

    def fit(self, block: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """The nearest representable samples, and how many were further than rounding away."""
        fitted = block
        if self.full_scale:
            # exact in float32: full_scale is a power of two, and up to 24 bits an integer has no rounding
            fitted = np.rint(block * np.float32(self.full_scale)) / np.float32(self.full_scale)
        beyond = (block > self.top + self.half_step) | (block < -1 - self.half_step)
        return np.clip(fitted, np.float32(-1), np.float32(self.top)), int(np.count_nonzero(beyond))


def _range_of(output: OutputFormat) -> _Range | None:
    """None for float, which holds everything."""
    if output.subtype == "FLOAT":
        return None
    bits = SUBTYPE_BITS.get(output.subtype)
    if bits is None:  # the lossy codecs
        return _Range(top=1.0, full_scale=None)
    full_scale = 2.0 ** (bits - 1)
    # float32 has no sample between the top of 32 bits and 1.0; libsndfile saturates 1.0 to that top
    return _Range(top=1.0 if bits == 32 else 1 - 1 / full_scale, full_scale=full_scale)


class StemWriter:
    """Writes the stems of one song; a context manager, usable from one thread at a time.

    paths: stem → file; missing folders are created. write() as often as there are blocks, then commit(): only
    then do the files appear, replacing older ones. Left without a commit, nothing remains.

    clip, for integer formats and lossy codecs (float is never touched):
      rescale  one gain for all stems, found when the song is complete: the samples wait as float32 in
               temporary files beside the targets
      clamp    each sample beyond the range becomes the nearest in it
      none     samples go to the encoder as they are; integers still saturate (never wrap), codecs keep them

    tag: goes into the names of the temporary files, to know them by.

    tags: stem → what its file says of itself: title, cover …

    expected_frames: the song's length where known. WAV beyond 4 GiB becomes RF64 (same extension).
    Raises AudioWriteError.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        sample_rate_hz: int,
        channels: int,
        output: OutputFormat,
        clip: Clip = "rescale",
        expected_frames: int | None = None,
        tag: str = "0",
        tags: Mapping[str, Tags] | None = None,
    ) -> None:
        if clip not in ("rescale", "clamp", "none"):
            raise ConfigError(f"unknown clip mode {clip!r}; choose rescale, clamp or none")
        self._paths = dict(paths)
        self._sample_rate_hz = sample_rate_hz
        self._channels = channels
        self._output = output
        self._range = _range_of(output)
        self._clip = clip
        self._expected_frames = expected_frames
        self._tag = tag
        self._tags = tags or {}
        self._spools = clip == "rescale" and self._range is not None
        self._frames = 0
        self._lowest = 0.0
        self._highest = 0.0
        self._clipped_samples = 0
        self._sinks: dict[str, Spool | Encoder] = {}
        self._temporary: list[Path] = []
        self._created_folders: list[Path] = []

    def __enter__(self) -> Self:
        try:
            for stem, path in self._paths.items():
                self._prepare(path)
                self._sinks[stem] = self._open_sink(stem)
        except BaseException:
            self._abort()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abort()

    def _prepare(self, path: Path) -> None:
        with explained(path):
            missing = [folder for folder in path.parents if not folder.exists()]
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                self._created_folders.append(folder)
            if not path.parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if path.is_dir():  # an OSError where the name is too long
                raise AudioWriteError(f"{path}: is a folder; choose another name or remove it")

    def _open_sink(self, stem: str) -> Spool | Encoder:
        if self._spools:
            path = self._paths[stem]
            return Spool(path, self._new_temporary(path), self._channels)
        return self._open_encoder(stem, self._expected_frames)

    def _open_encoder(self, stem: str, frames: int | None) -> Encoder:
        path = self._paths[stem]
        temporary = self._new_temporary(path)
        return Encoder(
            path, temporary, self._output, frames, self._sample_rate_hz, self._channels, self._tags.get(stem)
        )

    def _new_temporary(self, path: Path) -> Path:
        # short, whatever the target is called: names have a longest length
        temporary = path.parent / f".waveunet-{self._tag}-{uuid.uuid4().hex[:12]}.part"
        self._temporary.append(temporary)
        return temporary

    def write(self, stems: Mapping[str, NDArray[np.float32]]) -> None:
        """Append one block of every stem: float32 (frames, channels), equally long."""
        if stems.keys() != self._paths.keys():
            raise ValueError(f"stems {sorted(stems)} given, {sorted(self._paths)} expected")
        lengths = {block.shape for block in stems.values()}
        if len(lengths) != 1 or next(iter(lengths))[1:] != (self._channels,):
            raise ValueError(f"blocks of shape {lengths}, expected (frames, {self._channels}) for all stems")
        frames = next(iter(lengths))[0]
        if frames == 0:
            return
        for stem, block in stems.items():
            lowest, highest = float(block.min()), float(block.max())
            if not (np.isfinite(lowest) and np.isfinite(highest)):
                raise AudioWriteError(
                    f"{self._paths[stem]}: the stem would hold NaN or infinite samples, as it does where a song is"
                    " beyond all measure loud; lower the song, or try --precision float32"
                )
            max_peak = CONTAINERS[self._output.container].max_peak
            if self._clip == "none" and max(highest, -lowest) > max_peak:
                raise AudioWriteError(
                    f"{self._paths[stem]}: a sample of {max(highest, -lowest):.3g} is beyond the {max_peak:.0f} that"
                    f" {self._output.container} encodes; use --clip rescale or choose wav"
                )
            self._lowest, self._highest = min(self._lowest, lowest), max(self._highest, highest)
            sink = self._sinks[stem]
            if isinstance(sink, Spool):
                sink.write(block)
            else:
                self._encode(sink, block)
        self._frames += frames

    def _encode(self, encoder: Encoder, block: NDArray[np.float32]) -> None:
        if self._range is not None and not (self._clip == "none" and self._range.full_scale is None):
            block, clipped_samples = self._range.fit(block)
            self._clipped_samples += clipped_samples
        encoder.write(block)

    def commit(self) -> WriteReport:
        """Finish, verify and rename the files; they appear with this call."""
        if self._frames == 0 and not CONTAINERS[self._output.container].may_be_empty:
            path = next(iter(self._paths.values()))
            raise AudioWriteError(f"{path}: {self._output.container} cannot hold 0 frames; choose wav or ogg")
        gain = 1.0
        if self._spools and self._range is not None:
            gain = self._range.fitting_gain(self._lowest, self._highest)
        lost: dict[str, None] = {}
        for stem, sink in self._sinks.items():
            encoder = self._encode_spool(stem, sink, gain) if isinstance(sink, Spool) else sink
            lost |= dict.fromkeys(encoder.finish())
        for stem, path in self._paths.items():
            with explained(path):
                self._sinks[stem].temporary.replace(path)
        self._created_folders.clear()  # they stay
        peak = max(self._highest, -self._lowest)
        return WriteReport(self._frames, gain, peak, self._clipped_samples, tuple(lost))

    def _encode_spool(self, stem: str, spool: Spool, gain: float) -> Encoder:
        encoder = self._sinks[stem] = self._open_encoder(stem, self._frames)
        try:
            for block in spool.blocks():
                self._encode(encoder, block if gain == 1 else block * np.float32(gain))
        finally:
            spool.discard()  # its space may be needed for the next stem
        return encoder

    def _abort(self) -> None:
        for sink in self._sinks.values():
            sink.discard()
        for temporary in self._temporary:  # of a sink that failed to open, or was interrupted
            temporary.unlink(missing_ok=True)
        for folder in reversed(self._created_folders):
            with contextlib.suppress(OSError):  # somebody else's file is in it
                folder.rmdir()
        self._created_folders.clear()
