"""Every file that is tried: how it is made, who has to decode it, and by what its length and its time are judged.

test_formats.py reads them; run as a script, that writes docs/formats.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import soundfile

from audio_files import by, encode

TAGS = {"title": "Ünïcode ♫", "artist": "A"}


@dataclass(frozen=True)
class Case:
    """make(folder, samples) gives the file's path.

    decoder: "libsndfile" or "ffmpeg"
    judge: "source" (as many frames as went in, at the same time; to the bit if `exact`), "ffmpeg" (what FFmpeg alone
        gives, sample for sample) or a number of frames, which comes from the format's own numbers
    late: by how many frames the sound comes later than in the source, where the format does not say by how many
    repeats: how often the source stands in the file
    error: words of the one line that there is instead
    """

    name: str
    by: str
    make: Callable[[Path, np.ndarray], Path]
    decoder: str = "ffmpeg"
    judge: "str | int" = "source"
    exact: bool = False
    late: int = 0
    layout: str = "stereo"
    rate: int = 44100
    frames: int = 22_063
    repeats: int = 1
    within: int = 2
    tags: str = ""
    needs: str = ""
    error: str = ""
    slow: bool = False

    @property
    def channels(self) -> int:
        return av.AudioLayout(self.layout).nb_channels


SECTIONS: dict[str, list[Case]] = {}


def section(title: str) -> list[Case]:
    return SECTIONS.setdefault(title, [])


def saved(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --- PCM and what is near it, by libsndfile

EXACT = {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}
BY_LIBSNDFILE = {
    "WAV": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32 NMS_ADPCM_32",
    "WAVEX": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "RF64": "PCM_16 PCM_24 FLOAT",
    "W64": "PCM_U8 PCM_16 PCM_24 FLOAT ULAW IMA_ADPCM",
    "AIFF": "PCM_S8 PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM GSM610",
    "AU": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW G721_32 G723_24 G723_40",
    "CAF": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW ALAC_16 ALAC_20 ALAC_24 ALAC_32",
    "FLAC": "PCM_S8 PCM_16 PCM_24",
    "OGG": "VORBIS",
    "SVX": "PCM_16",
    "VOC": "PCM_16",
    "NIST": "PCM_16 PCM_32 ULAW",
    "IRCAM": "PCM_16 PCM_32 FLOAT ULAW",
    "PAF": "PCM_16 PCM_24",
    "PVF": "PCM_16 PCM_32",
    "MAT4": "PCM_16 FLOAT DOUBLE",
    "MAT5": "PCM_16 FLOAT DOUBLE",
    "AVR": "PCM_16",
    "MPC2K": "PCM_16",
}
BLOCKED = {
    "IMA_ADPCM",
    "MS_ADPCM",
    "GSM610",
    "G721_32",
    "G723_24",
    "G723_40",
    "NMS_ADPCM_32",
    "PAF PCM_24",
}  # whole blocks only
DEEP_ALAC = {"ALAC_20", "ALAC_24", "ALAC_32"}  # which libsndfile reads wrongly where the music is noisy
MONO = {"GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_32", "SVX"}


def by_libsndfile(kind: str, subtype: str) -> Case:
    def write(folder: Path, samples: np.ndarray) -> Path:
        path = folder / f"a.{kind.lower()}"
        rate = 8000 if subtype in ("GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_32") else 44100
        soundfile.write(path, samples, rate, subtype, format=kind)
        return path

    is_mono = subtype in MONO or kind in MONO
    return Case(
        f"{kind} × {subtype}",
        "libsndfile",
        write,
        "ffmpeg" if subtype in DEEP_ALAC else "libsndfile",
        judge="libsndfile" if subtype in BLOCKED or f"{kind} {subtype}" in BLOCKED else "source",
        exact=subtype in EXACT and f"{kind} {subtype}" not in BLOCKED,
        layout="mono" if is_mono else "stereo",
        rate=8000 if subtype in ("GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_32") else 44100,
        within=20,
        slow=kind not in ("WAV", "FLAC", "OGG") and (kind, subtype) != ("AIFF", "PCM_16"),
    )


section("PCM and its neighbours").extend(
    by_libsndfile(kind, subtype) for kind, subtypes in BY_LIBSNDFILE.items() for subtype in subtypes.split()
)

# --- what PyAV writes

EXTENSIONS = {"matroska": "mkv", "ipod": "m4a", "asf": "wma", "mpegts": "ts", "adts": "aac"}
RATES = {"libopus": 48000, "g722": 16000, "g726": 8000, "real_144": 8000, "libopencore_amrnb": 8000, "aptx": 48000}
LOSSLESS = {"flac", "alac", "tta", "wavpack"}
BITS = {"tta": "s16", "wavpack": "s16p"}
BY_PYAV = {
    "wav": "flac libmp3lame mp2 ac3 g722 g726 adpcm_yamaha",
    "w64": "flac libmp3lame mp2 ac3 g722 adpcm_ms",
    "aiff": "pcm_s24be adpcm_ima_qt",
    "caf": "flac alac libmp3lame ac3 adpcm_ima_qt",
    "mov": "pcm_s16be pcm_s24le pcm_f32le pcm_alaw alac aac libmp3lame ac3",
    "mp4": "flac alac aac libmp3lame libopus ac3 eac3 pcm_s16le",
    "ipod": "alac aac",
    "3gp": "aac libopencore_amrnb",
    "matroska": "pcm_s16le pcm_f32le flac alac aac libmp3lame libopus mp2 ac3 eac3 wavpack vorbis",
    "webm": "libopus vorbis",
    "ogg": "flac libopus vorbis",
    "asf": "wmav1 wmav2 libmp3lame pcm_s16le",
    "avi": "pcm_s16le libmp3lame ac3",
    "mpegts": "aac libmp3lame mp2 ac3 libopus",
    "mpeg": "mp2 ac3",
    "nut": "pcm_s16le libmp3lame",
    "flv": "aac libmp3lame pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "mp2": "mp2",
    "adts": "aac",
    "latm": "aac",
    "ac3": "ac3",
    "eac3": "eac3",
    "tta": "tta",
    "wv": "wavpack",
    "au": "g722",
    "rm": "ac3",
    "amr": "libopencore_amrnb",
}
FFMPEG_JUDGES = {  # what does not say how long it is, or says it to the packet
    "aac", "ac3", "eac3", "mp2", "wmav1", "wmav2", "g722", "libopencore_amrnb", "vorbis", "adpcm_ima_qt", "adpcm_ms",
    "adpcm_yamaha", "g726",
}  # fmt: skip
SAYS_MP3_LENGTH = {"mp3", "matroska", "caf"}
SAYS_OPUS_LENGTH = {"ogg", "matroska", "webm"}
LATE = {
    "aac": 1024,
    "libmp3lame": 1105,
    "mp2": 481,
    "wmav1": -2048,
    "wmav2": -2048,
    "ac3": 256,
    "eac3": 256,
    "g722": 22,
    "libopus": 312,
}
SAYS_START = {"mov", "mp4", "ipod", "3gp", "matroska", "webm", "ogg", "caf", "mp3"}
OFTEN = {"wav", "mp4", "ipod", "matroska", "ogg", "mp3", "adts", "wv"}  # the rest is slow


def by_pyav(kind: str, codec: str) -> Case:
    rate = RATES.get(codec, 44100)
    is_mono = codec in ("g722", "g726", "real_144", "libopencore_amrnb")
    options = {"strict": "experimental"} if codec == "vorbis" else {}
    is_pcm = codec.startswith("pcm")

    def write(folder: Path, samples: np.ndarray) -> Path:
        path = folder / f"a.{EXTENSIONS.get(kind, kind)}"
        return encode(path, samples, codec, kind, rate, None, TAGS, options, bits=BITS.get(codec))

    judged_by_ffmpeg = codec in FFMPEG_JUDGES
    judged_by_ffmpeg |= codec == "libmp3lame" and kind not in SAYS_MP3_LENGTH
    judged_by_ffmpeg |= codec == "libopus" and kind not in SAYS_OPUS_LENGTH
    if (kind, codec) in (("aiff", "adpcm_ima_qt"), ("ogg", "vorbis")):
        judged = "libsndfile"
    else:
        judged = "ffmpeg" if judged_by_ffmpeg else "source"
    says_start = kind in SAYS_START and not (codec == "aac" and kind == "caf")
    by_sndfile = kind == "flac" or (kind, codec) in (("aiff", "pcm_s24be"), ("aiff", "adpcm_ima_qt"), ("ogg", "vorbis"))
    by_sndfile |= (kind, codec) == ("w64", "adpcm_ms")
    return Case(
        f"{kind} × {codec.removeprefix('lib')}",
        "PyAV",
        write,
        "libsndfile" if by_sndfile else "ffmpeg",
        judge=judged,
        exact=codec in LOSSLESS or (is_pcm and "law" not in codec),
        late=0 if says_start else LATE.get(codec, 0),
        layout="mono" if is_mono else "stereo",
        rate=rate,
        within=60 if codec in ("libopencore_amrnb", "real_144") else 2,
        tags="title, artist",
        slow=kind not in OFTEN,
    )


section("Everything else, by container").extend(
    by_pyav(kind, codec) for kind, codecs in BY_PYAV.items() for codec in codecs.split()
)

# --- channels

ORDER = {
    ("wav", "pcm_s16le"): "3.0 quad 5.0 5.1 5.1(side) 6.1 7.1",
    ("flac", "flac"): "3.0 quad 5.0 5.1 6.1 7.1",
    ("ogg", "libopus"): "3.0 quad 5.0 5.1 6.1 7.1",
    ("ogg", "flac"): "5.1",
    ("matroska", "libopus"): "5.1 7.1",
    ("matroska", "flac"): "5.1 7.1",
    ("mp4", "aac"): "3.0 5.0 5.1",
    ("mp4", "alac"): "3.0 5.1",
    ("mov", "pcm_s16le"): "5.1 7.1",
    ("caf", "pcm_s16le"): "3.0 5.0 5.1",
    ("aiff", "pcm_s16be"): "5.1",
    ("ac3", "ac3"): "3.0 5.1(side)",
    ("eac3", "eac3"): "5.1(side)",
    ("wv", "wavpack"): "5.1 7.1",
    ("tta", "tta"): "5.1",
    ("w64", "pcm_s16le"): "5.1",
}


def in_order(kind: str, codec: str, layout: str) -> Case:
    case = by_pyav(kind, codec)
    rate = 48000 if codec == "libopus" else 44100
    options = {"mapping_family": "1"} if codec == "libopus" else {}

    def write(folder: Path, samples: np.ndarray) -> Path:
        path = folder / f"a.{EXTENSIONS.get(kind, kind)}"
        return encode(path, samples, codec, kind, rate, layout, TAGS, options, bits=BITS.get(codec))

    is_pcm = kind in ("wav", "w64", "flac")
    return replace(
        case, make=write, layout=layout, rate=rate, decoder="libsndfile" if is_pcm else "ffmpeg", slow=layout != "5.1"
    )


section("Channels").extend(
    in_order(kind, codec, layout) for (kind, codec), layouts in ORDER.items() for layout in layouts.split()
)


def vorbis_in_order(layout: str) -> Case:
    """libsndfile writes channels as they come, so they are given in the order of Vorbis."""

    def write(folder: Path, samples: np.ndarray) -> Path:
        path = folder / "a.ogg"
        vorbis = {
            3: [0, 2, 1],
            5: [0, 2, 1, 3, 4],
            6: [0, 2, 1, 4, 5, 3],
            7: [0, 2, 1, 5, 6, 4, 3],
            8: [0, 2, 1, 6, 7, 4, 5, 3],
        }
        order = vorbis.get(samples.shape[1], list(range(samples.shape[1])))
        soundfile.write(path, samples[:, order], 44100, "VORBIS", format="OGG")
        return path

    return Case("ogg × vorbis", "libsndfile", write, "libsndfile", layout=layout, slow=layout not in ("3.0", "5.1"))


def with_oggenc(layout: str) -> Case:
    def write(folder: Path, samples: np.ndarray) -> Path:
        encode(folder / "a.wav", samples, "pcm_s16le", layout=layout)
        by("oggenc", "-Q", folder / "a.wav", "-o", folder / "a.ogg")
        return folder / "a.ogg"

    return Case("ogg × vorbis", "oggenc", write, "libsndfile", layout=layout, needs="oggenc", slow=True)


def with_opusenc(layout: str) -> Case:
    def write(folder: Path, samples: np.ndarray) -> Path:
        encode(folder / "a.wav", samples, "pcm_s16le", rate=48000, layout=layout)
        by("opusenc", "--quiet", folder / "a.wav", folder / "a.opus")
        return folder / "a.opus"

    return Case("ogg × opus", "opusenc", write, rate=48000, layout=layout, needs="opusenc", slow=True)


def caf_7_1(folder: Path, samples: np.ndarray) -> Path:
    """FFmpeg states an order in which it does not write: sides before backs."""
    samples = samples[:, [0, 1, 2, 3, 6, 7, 4, 5]]
    return encode(folder / "a.caf", samples, "pcm_s16le", "caf", layout="7.1", tags=TAGS)


section("Channels").append(
    Case("caf × pcm_s16le, in an order of its own", "PyAV", caf_7_1, exact=True, layout="7.1", tags="title, artist")
)
section("Channels").extend(vorbis_in_order(layout) for layout in ("3.0", "quad", "5.0", "5.1", "6.1", "7.1"))
section("Channels").extend(with_oggenc(layout) for layout in ("3.0", "5.0", "5.1"))
section("Channels").extend(with_opusenc(layout) for layout in ("3.0", "5.0", "5.1", "7.1"))
