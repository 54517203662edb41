"""Files decoded by libsndfile: PCM in any container, FLAC, and Vorbis in Ogg."""

import numpy as np
import soundfile
from numpy.typing import NDArray

from waveunet_cli.audio.formats import AudioInfo
from waveunet_cli.audio.layout import flac_mask_of, from_vorbis, vorbis_mask
from waveunet_cli.audio.span import Span
from waveunet_cli.errors import AudioReadError

_LOSSY_SUBTYPES = frozenset(
    {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "GSM610", "ULAW", "ALAW"}
    | {"IMA_ADPCM", "MS_ADPCM", "VOX_ADPCM", "G721_32", "G723_24", "G723_40"}
    | {"NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"}
)
_UNCOUNTED_FRAMES = 1 << 62  # libsndfile says 2^63 − 1 for a FLAC whose header counts nothing


class NotReadError(Exception):
    """libsndfile cannot open this; the text says why."""


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """python-soundfile seeks after every read where it can, which disturbs some decoders and slows others."""

    def seekable(self) -> bool:
        return False


class SndfileSource:
    """A span decoded by libsndfile. Raises NotReadError when it is opened, then AudioReadError.

    channel_mask: what its header says that the channels are; has_speakers: whether they are loudspeakers' at all
    """

    def __init__(self, span: Span, channel_mask: int, has_speakers: bool = True) -> None:
        self._span = span
        self._position_frames = 0
        try:
            self._sound = _ForwardFile(span)
        except soundfile.LibsndfileError as error:
            span.raise_error()
            raise NotReadError(_reason(error)) from error
        self._frames: int | None = None if self._sound.frames >= _UNCOUNTED_FRAMES else self._sound.frames
        channels, kind, subtype = self._sound.channels, self._sound.format, self._sound.subtype
        self._order = list(range(channels))
        if subtype == "VORBIS" and has_speakers:
            self._order, channel_mask = from_vorbis(channels), vorbis_mask(channels)
        elif kind == "FLAC":
            channel_mask = channel_mask or flac_mask_of(channels)
        self.info = AudioInfo(
            path=span.path,
            sample_rate_hz=self._sound.samplerate,
            channels=channels,
            frames=self._frames,
            format=kind,
            subtype=subtype,
            lossy=subtype in _LOSSY_SUBTYPES,
            channel_mask=channel_mask,
        )

    def read(self, frames: int) -> NDArray[np.float32]:
        wanted_frames = frames if self._frames is None else min(frames, self._frames - self._position_frames)
        try:
            block: NDArray[np.float32] = self._sound.read(wanted_frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            self._span.raise_error()
            raise AudioReadError(
                f"{self._span.path}: damaged or truncated after frame {self._position_frames}{self._of_all}"
                f" ({_reason(error)}); copy the file again"
            ) from error
        self._span.raise_error()
        self._position_frames += len(block)
        if self._frames is not None and len(block) < wanted_frames:
            raise AudioReadError(
                f"{self._span.path}: truncated: its header says {self._frames} frames,"
                f" {self._position_frames} found; copy the file again"
            )
        return block if self._order == sorted(self._order) else block[:, self._order]

    @property
    def _of_all(self) -> str:
        return "" if self._frames is None else f" of {self._frames}"

    def close(self) -> None:
        self._sound.close()


def _reason(error: soundfile.LibsndfileError) -> str:
    # libsndfile has no words for some FLAC errors
    return error.error_string.strip().rstrip(".") or "the decoder gave no reason"
