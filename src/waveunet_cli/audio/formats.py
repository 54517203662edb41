"""What a file holds, and which format a stem gets.

The default subtype is the nearest legal one to the input's depth:

    input                            wav      flac     ogg      mp3
    8 bit                            PCM_U8   PCM_S8   VORBIS   MPEG_LAYER_III
    12 or 16 bit, anything lossy     PCM_16   PCM_16
    20 or 24 bit                     PCM_24   PCM_24
    32 bit                           PCM_32   PCM_24
    float, double                    FLOAT    PCM_24
"""

import io
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import soundfile

from waveunet_cli.errors import ConfigError

AUDIO_EXTENSIONS = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".aiff", ".aif", ".aifc", ".caf", ".au", ".snd"}
    | {".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"}
)
"""Extensions of what libsndfile reads, lower case."""

FFMPEG_EXTENSIONS = frozenset(
    {".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".mka", ".ac3", ".ape", ".wv", ".tta", ".mpc"}
)
"""Extensions of what is streamed through ffmpeg, lower case."""


@dataclass(frozen=True)
class AudioInfo:
    """What is known about a file before its samples are read.

    `frames` is None where no header counts them. `format` and `subtype` are libsndfile's names; for a file
    that goes through ffmpeg they are the demuxer's name and the codec's name in capitals, or PCM_16, PCM_24 …
    (the depth) if the codec is lossless.
    """

    path: Path
    sample_rate_hz: int
    channels: int
    frames: int | None
    format: str
    subtype: str
    lossy: bool


@dataclass(frozen=True)
class OutputFormat:
    """A container ("wav", "flac", "ogg" or "mp3") and libsndfile's name of what is inside."""

    container: str
    subtype: str


LEGAL_SUBTYPES = MappingProxyType(
    {
        "wav": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"),
        "flac": ("PCM_S8", "PCM_16", "PCM_24"),
        "ogg": ("VORBIS",),
        "mp3": ("MPEG_LAYER_III",),
    }
)
SUBTYPE_BITS = MappingProxyType({"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32})

_FLOAT_DEPTH = 33  # one step above 32 bit integers
_DEPTH = {
    "PCM_S8": 8,
    "PCM_U8": 8,
    "DPCM_8": 8,
    "PCM_24": 24,
    "DWVW_24": 24,
    "ALAC_20": 24,
    "ALAC_24": 24,
    "PCM_32": 32,
    "ALAC_32": 32,
    "FLOAT": _FLOAT_DEPTH,
    "DOUBLE": _FLOAT_DEPTH,
}  # anything else: 16
_DEFAULTS = {
    "wav": {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_32", _FLOAT_DEPTH: "FLOAT"},
    "flac": {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_24", _FLOAT_DEPTH: "PCM_24"},
}

_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MAX_CHANNELS = {"mp3": 2, "flac": 8}


def choose_output(info: AudioInfo, container: str, subtype: str | None = None) -> OutputFormat:
    """The format of the stems of a song; without `subtype` by the table above.

    `container` and `subtype` may be in any case. Raises ConfigError, naming what is legal, where the
    container cannot hold the subtype, the number of channels or the sample rate.
    """
    container = container.lower()
    if subtype is None:
        depth = 16 if info.lossy else _DEPTH.get(info.subtype, 16)
        subtype = _DEFAULTS[container][depth] if container in _DEFAULTS else None
    chosen = require_legal(container, subtype)

    max_channels = _MAX_CHANNELS.get(container)
    if max_channels is not None and info.channels > max_channels:
        raise ConfigError(
            f"{info.path}: {container} holds at most {max_channels} channels, this file has {info.channels}; choose wav"
        )
    if container == "mp3" and info.sample_rate_hz not in _MP3_RATES_HZ:
        rates = ", ".join(map(str, _MP3_RATES_HZ))
        raise ConfigError(
            f"{info.path}: mp3 cannot hold {info.sample_rate_hz} Hz, only {rates}; choose wav, flac or ogg"
        )
    _try_header(info, container, chosen)
    return OutputFormat(container, chosen)


def require_legal(container: str, subtype: str | None) -> str:
    """The subtype, in capitals, if the container can hold it (its first if None); else ConfigError."""
    if container not in LEGAL_SUBTYPES:
        raise ConfigError(f"unknown output format {container!r}; choose one of {', '.join(LEGAL_SUBTYPES)}")
    legal = LEGAL_SUBTYPES[container]
    chosen = legal[0] if subtype is None else subtype.upper()
    if chosen not in legal:
        raise ConfigError(f"{container} cannot hold the subtype {chosen}; choose one of {', '.join(legal)}")
    return chosen


def _try_header(info: AudioInfo, container: str, subtype: str) -> None:
    """Let libsndfile refuse in memory what its encoders cannot do, such as rates no table here knows."""
    try:
        with soundfile.SoundFile(io.BytesIO(), "w", info.sample_rate_hz, info.channels, subtype, format=container):
            pass
    except soundfile.LibsndfileError as error:
        raise ConfigError(
            f"{info.path}: {container} cannot hold {info.channels} channels at {info.sample_rate_hz} Hz; choose wav"
        ) from error
