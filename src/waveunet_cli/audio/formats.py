"""What a file holds, and which format a stem gets.

Each format of stems is one Container of CONTAINERS: the choices of --format, the defaults of --subtype, the limits and
the README's table all come from there, so a new format is one entry.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from waveunet_cli.audio.layout import same_speakers, speakers, vorbis_mask
from waveunet_cli.errors import ConfigError

AUDIO_EXTENSIONS = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".aiff", ".aif", ".aifc", ".caf", ".au", ".snd", ".voc"}
    | {".flac", ".fla", ".ogg", ".oga", ".ogx", ".mogg", ".opus", ".spx", ".mp3", ".mp2", ".mp1", ".mpa", ".mpga"}
    | {".m4a", ".m4b", ".m4p", ".m4r", ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".aac", ".adts", ".loas"}
    | {".wma", ".asf", ".wmv", ".webm", ".weba", ".mka", ".mkv", ".avi", ".flv", ".f4v", ".ogv", ".ts", ".m2ts"}
    | {".mts", ".mpg", ".mpeg", ".vob", ".ac3", ".eac3", ".ec3", ".dts", ".dtshd", ".thd", ".mlp", ".amr", ".awb"}
    | {".ape", ".wv", ".tta", ".tak", ".mpc", ".mp+", ".shn", ".ofr", ".dsf", ".dff", ".ra", ".rm", ".oma", ".at3"}
    | {".qoa", ".alac", ".nut", ".mxf"}
)
"""Extensions that make a file in a folder a song, lower case. A file named itself may have any name."""


@dataclass(frozen=True)
class AudioInfo:
    """What is known about a file before its samples are read.

    `frames` is None where no header counts them. `format` and `subtype` are libsndfile's names; for a file
    that FFmpeg decodes they are the demuxer's name and the codec's name in capitals, or PCM_16, PCM_24 …
    (the depth) if the codec is lossless. `channel_mask` says as in WAV what the channels are; 0 if that is not known.
    """

    path: Path
    sample_rate_hz: int
    channels: int
    frames: int | None
    format: str
    subtype: str
    lossy: bool
    channel_mask: int = 0


MAX_QUALITY = 10
FLOAT_DEPTH = 33  # one step above 32 bit integers
DEPTHS = MappingProxyType(
    {
        8: "8 bit",
        16: "12 or 16 bit, anything lossy",
        24: "20 or 24 bit",
        32: "32 bit",
        FLOAT_DEPTH: "float, double",
    }
)
"""The depths of inputs that choose a default, in bits, with their names."""

SUBTYPE_BITS = MappingProxyType(
    {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "ALAC_16": 16, "ALAC_24": 24}
)
"""Bits a sample, of the subtypes that are not compressed by an ear's measure."""

_DEPTH = MappingProxyType(
    {
        "PCM_S8": 8,
        "PCM_U8": 8,
        "DPCM_8": 8,
        "PCM_24": 24,
        "DWVW_24": 24,
        "ALAC_20": 24,
        "ALAC_24": 24,
        "PCM_32": 32,
        "ALAC_32": 32,
        "FLOAT": FLOAT_DEPTH,
        "DOUBLE": FLOAT_DEPTH,
    }
)  # anything else: 16


@dataclass(frozen=True)
class Container:
    """A format of stems.

    extension: what it is called on the command line, by libsndfile and at the end of a file's name
    subtypes: libsndfile's names of what can be inside, the plainest first
    defaults: depth of the input (a key of DEPTHS) → subtype; the first of `subtypes` for a depth that is missing
    max_channels: how many channels it can hold; None: any number
    rates_hz: the sample rates it can hold, one by one or as ranges
    encoder: settings for soundfile.SoundFile
    may_end_the_process: whether its encoder is known to abort on samples it does not like
    has_vorbis_order: whether channels stand in it as in Vorbis
    may_be_empty: whether it can hold 0 frames
    max_peak: the largest |sample| that its encoder is good for
    stored_hz: the rate at which it holds sound of every rate; None: that of the sound
    kbits: the bit rates that can be asked for, in kilobits a second; None: it has none
    has_quality: whether a quality can be asked for
    ending: the end of a file's name, if that is not `extension`; one_file: whether one file holds all stems
    """

    extension: str
    subtypes: tuple[str, ...]
    defaults: Mapping[int, str] = field(default_factory=dict)
    max_channels: int | None = None
    rates_hz: tuple[int | range, ...] = (range(1, 1 << 31),)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    may_end_the_process: bool = False
    has_vorbis_order: bool = False
    may_be_empty: bool = True
    max_peak: float = math.inf
    stored_hz: int | None = None
    kbits: range | None = None
    has_quality: bool = False
    ending: str = ""
    one_file: bool = False

    def takes_rate(self, rate_hz: int) -> bool:
        return any(rate_hz in rates if isinstance(rates, range) else rate_hz == rates for rates in self.rates_hz)

    def default_subtype(self, depth: int) -> str:
        return self.defaults.get(depth, self.subtypes[0])


_FORMATS = (
    Container(
        "wav",
        ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"),
        {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_32", FLOAT_DEPTH: "FLOAT"},
    ),
    Container(
        "flac",
        ("PCM_S8", "PCM_16", "PCM_24"),
        {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_24", FLOAT_DEPTH: "PCM_24"},
        max_channels=8,
        rates_hz=(range(1, 65_536), range(65_540, 655_351, 10)),  # what fits its frames' headers
        may_be_empty=False,
    ),
    # libsndfile's level is 1 − quality: about 200 kbit/s of Vorbis (q6) and 180 of MP3 (V2) for stereo
    Container(
        "ogg",
        ("VORBIS",),
        max_channels=255,
        rates_hz=(range(1, 200_001),),
        encoder={"compression_level": 0.4},
        may_end_the_process=True,
        max_peak=1000.0,
        has_vorbis_order=True,
        has_quality=True,
    ),
    Container(
        "mp3",
        ("MPEG_LAYER_III",),
        max_channels=2,
        rates_hz=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        encoder={"compression_level": 0.2, "bitrate_mode": "VARIABLE"},
        may_end_the_process=True,
        max_peak=1000.0,
        may_be_empty=False,
        kbits=range(32, 321),
        has_quality=True,
    ),
    Container(
        "m4a",
        ("AAC", "ALAC_16", "ALAC_24"),
        max_channels=2,
        rates_hz=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
        max_peak=1000.0,
        may_be_empty=False,
        kbits=range(16, 513),
    ),
    Container(
        "opus",
        ("OPUS",),
        max_channels=2,
        rates_hz=(range(1, 1 << 20),),
        max_peak=1000.0,
        may_be_empty=False,
        stored_hz=48_000,
        kbits=range(12, 511),
    ),
    Container(
        "stem",
        ("AAC", "ALAC_16", "ALAC_24"),
        max_channels=2,
        rates_hz=(44_100, 48_000),
        may_be_empty=False,
        kbits=range(16, 513),
        ending="stem.mp4",
        one_file=True,
    ),
)
CONTAINERS: Mapping[str, Container] = MappingProxyType({container.extension: container for container in _FORMATS})
"""Extension → Container, the default format first."""


@dataclass(frozen=True)
class OutputFormat:
    """A key of CONTAINERS, one of its subtypes, and what the channels are, as in WAV; 0 if that is not known.

    kbits, quality: as they were asked for; one of them at most
    """

    container: str
    subtype: str
    channel_mask: int = 0
    kbits: int | None = None
    quality: float | None = None


def choose_output(
    info: AudioInfo,
    container: str,
    subtype: str | None = None,
    kbits: int | None = None,
    quality: float | None = None,
) -> OutputFormat:
    """The format of the stems of a song; without `subtype` the nearest legal one to the input's depth.

    kbits: kilobits a second; quality: from 0, the smallest file, to 10, the best sound

    `container` and `subtype` may be in any case. Raises ConfigError, naming what is legal, where the
    container cannot hold the subtype, the number of channels or the sample rate.
    """
    found = _container(container)
    if subtype is None:
        subtype = found.default_subtype(16 if info.lossy else _DEPTH.get(info.subtype, 16))
    chosen = require_legal(container, subtype, kbits, quality)
    if found.max_channels is not None and info.channels > found.max_channels:
        raise ConfigError(
            f"{info.path}: {found.extension} holds at most {found.max_channels} channels,"
            f" this file has {info.channels}; choose wav"
        )
    if not found.takes_rate(info.sample_rate_hz):
        raise ConfigError(
            f"{info.path}: {found.extension} cannot hold {info.sample_rate_hz} Hz,"
            f" only {', '.join(map(_rates, found.rates_hz))}; choose wav"
        )
    mask = info.channel_mask if info.channel_mask.bit_count() == info.channels else 0
    told = vorbis_mask(info.channels) if found.has_vorbis_order else 0
    if mask and told and not same_speakers(mask, told):
        raise ConfigError(
            f"{info.path}: {found.extension} cannot say that its channels are {' '.join(speakers(mask))};"
            " choose wav or flac"
        )
    return OutputFormat(found.extension, chosen, mask, kbits, quality)


def _rates(rates: int | range) -> str:
    if isinstance(rates, int):
        return str(rates)
    steps = f" in steps of {rates.step}" if rates.step > 1 else ""
    return f"{rates.start} to {rates[-1]}{steps}"


def require_legal(container: str, subtype: str | None, kbits: int | None = None, quality: float | None = None) -> str:
    """The subtype, in capitals, if the container can hold it (its first if None) in this quality; else ConfigError."""
    found = _container(container)
    legal = found.subtypes
    chosen = legal[0] if subtype is None else subtype.upper()
    if chosen not in legal:
        raise ConfigError(f"{container.lower()} cannot hold the subtype {chosen}; choose one of {', '.join(legal)}")
    if kbits is not None and quality is not None:
        raise ConfigError("--bitrate and --quality exclude each other; give one of them")
    if kbits is not None and (found.kbits is None or chosen in SUBTYPE_BITS):
        others = ", ".join(name for name, each in CONTAINERS.items() if each.kbits)
        what = found.extension if found.kbits is None else f"{found.extension} as {chosen}"
        raise ConfigError(f"{what} has no bit rate to choose; leave it out, or choose {others}")
    if kbits is not None and found.kbits is not None and kbits not in found.kbits:
        raise ConfigError(
            f"{found.extension}: a bit rate of {kbits}k; choose one from {found.kbits[0]}k to {found.kbits[-1]}k"
        )
    if quality is not None and not found.has_quality:
        others = ", ".join(name for name, each in CONTAINERS.items() if each.has_quality)
        raise ConfigError(f"{found.extension} has no quality to choose; leave it out, or choose {others}")
    if quality is not None and not 0 <= quality <= MAX_QUALITY:
        raise ConfigError(f"a quality of {quality:g}; choose one from 0 to {MAX_QUALITY}")
    return chosen


def _container(name: str) -> Container:
    if name.lower() not in CONTAINERS:
        raise ConfigError(f"unknown output format {name!r}; choose one of {', '.join(CONTAINERS)}")
    return CONTAINERS[name.lower()]


def subtype_table() -> str:
    """The default subtypes as the README's table, in Markdown."""
    lines = [f"| input | {' | '.join(CONTAINERS)} |", "|---" * (1 + len(CONTAINERS)) + "|"]
    for depth, name in DEPTHS.items():
        is_first = depth == next(iter(DEPTHS))
        cells = [
            f" {each.default_subtype(depth)} |" if is_first or len(each.subtypes) > 1 else " |"
            for each in CONTAINERS.values()
        ]
        lines.append(f"| {name} |{''.join(cells)}")
    return "\n".join(lines) + "\n"
