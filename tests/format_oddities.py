"""Files that are valid and yet unusual: headers that say nothing, chains, broadcasts, other programs' files."""

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

import audio_files as make
from audio_files import by, encode, patched
from format_cases import EXTENSIONS, TAGS, Case, saved, section

# --- headers whose writer could not seek back, or counted wrongly


def header(name: str, kind: str, *changes: tuple, exact: bool = True, subtype: str = "PCM_16", **more: object) -> Case:
    def write(folder: Path, samples: np.ndarray) -> Path:
        data = make.wav_bytes(samples, subtype=subtype, kind=kind, folder=folder)
        return saved(folder, f"a.{kind.lower()}", patched(data, *changes))

    return Case(name, "hand", write, "libsndfile", exact=exact, **more)  # type: ignore[arg-type]


ALL_ONES = b"\xff" * 8
section("Headers that say nothing").extend(
    [
        header("WAV, data size 0", "WAV", (b"data", bytes(4), 4)),
        header("WAV, RIFF and data size 0", "WAV", (4, bytes(4)), (b"data", bytes(4), 4)),
        header("WAV, data size −1", "WAV", (4, ALL_ONES[:4]), (b"data", ALL_ONES[:4], 4)),
        header("WAV, data size 0x7ffff000", "WAV", (b"data", struct.pack("<I", 0x7FFF_F000), 4)),
        header("WAVEX, data size 0", "WAVEX", (b"data", bytes(4), 4)),
        header("RF64, ds64 0", "RF64", (b"ds64", bytes(24), 8)),
        header("RF64, ds64 −1", "RF64", (b"ds64", ALL_ONES * 3, 8)),
        header("AU, size 0", "AU", (8, bytes(4))),
        header("AU, size −1", "AU", (8, ALL_ONES[:4])),
        header("CAF, data size −1", "CAF", (b"data", ALL_ONES, 4)),
        header("CAF, data size 0", "CAF", (b"data", bytes(8), 4)),
        header("AIFF, all sizes 0", "AIFF", (4, bytes(4)), (b"COMM", bytes(4), 10), (b"SSND", bytes(4), 4)),
        header("AIFF, SSND size −1", "AIFF", (b"SSND", ALL_ONES[:4], 4)),
        header("W64, data size 0", "W64", (b"data", bytes(8), 16)),
        header("W64, sizes 2⁶³ − 1", "W64", (b"data", ALL_ONES[:7] + b"\x7f", 16)),
        header("FLAC, 0 frames", "FLAC", (21, b"\xf0"), (22, bytes(4))),
        Case("BW64 × PCM_16", "hand",
             lambda folder, x: saved(folder, "a.wav", b"BW64" + make.wav_bytes(x, kind="RF64", folder=folder)[4:]),
             exact=True),
        Case("WAV without samples, with LIST", "hand",
             lambda folder, x: saved(folder, "a.wav", make.wav_bytes(x[:0], folder=folder) + b"LIST\x04\0\0\0INFO"),
             "libsndfile", frames=0, exact=True),
        Case("WAV, LIST of odd size first", "hand", lambda folder, x: saved(
                folder, "a.wav", (lambda data: data[:12] + b"LIST\x05\0\0\0INFOx\0" + data[12:])(
                    make.wav_bytes(x, folder=folder))), "libsndfile", exact=True, tags="LIST"),
        Case("WAV, INFO in Latin-1, by ffmpeg", "hand", lambda folder, x: saved(
                folder, "a.wav", make.wav_bytes(x, folder=folder) + b"LIST\x10\0\0\0INFOINAM\x03\0\0\0\xfc\xe9\0\0"),
             "libsndfile", exact=True, tags="INFO in Latin-1"),
    ]
)  # fmt: skip


def through_a_pipe(kind: str, codec: str, decoder: str) -> Case:
    def write(folder: Path, samples: np.ndarray) -> Path:
        source = encode(folder / "source.wav", samples, "pcm_s16le")
        data = by("ffmpeg", "-v", "error", "-i", source, "-c:a", codec, "-f", kind, "-")
        return saved(folder, f"a.{kind}", data)

    judge = "ffmpeg" if codec == "libmp3lame" else "source"
    late = 1105 if codec == "libmp3lame" else 0
    return Case(f"{kind} × {codec}, through a pipe", "ffmpeg", write, decoder, judge, codec != "libmp3lame", late,
                needs="ffmpeg", slow=kind not in ("wav", "flac"))  # fmt: skip


section("Headers that say nothing").extend(
    through_a_pipe(*each)
    for each in [
        ("wav", "pcm_s16le", "libsndfile"),
        ("aiff", "pcm_s16be", "libsndfile"),
        ("au", "pcm_s16be", "libsndfile"),
        ("caf", "pcm_s16be", "libsndfile"),
        ("w64", "pcm_s16le", "libsndfile"),
        ("flac", "flac", "libsndfile"),
        ("wv", "wavpack", "ffmpeg"),
        ("mp3", "libmp3lame", "ffmpeg"),
    ]
)

# --- several streams one after the other


def ogg_of(samples: np.ndarray, codec: str, folder: Path, rate: int = 44100) -> bytes:
    path = folder / f"{codec}.ogg"
    if codec == "VORBIS":
        soundfile.write(path, samples, rate, "VORBIS", format="OGG")
    else:
        encode(path, samples, codec, "ogg", rate)
    return path.read_bytes()


def opus_of(samples: np.ndarray, folder: Path) -> bytes:
    return ogg_of(samples, "libopus", folder, 48000)


def mp3_of(samples: np.ndarray, folder: Path, rate: int = 44100, tags: bool = True, **muxing: str) -> bytes:
    path = encode(folder / "part.mp3", samples, "libmp3lame", "mp3", rate, tags=TAGS if tags else None, muxing=muxing)
    return path.read_bytes()


NO_ID3 = {"id3v2_version": "0"}
CHAINS = [
    Case("Ogg Vorbis, two links", "hand", lambda folder, x: saved(
            folder, "a.ogg", ogg_of(x, "VORBIS", folder) + make.other_serial(ogg_of(x, "VORBIS", folder))),
         "libsndfile", repeats=2),
    Case("Ogg Vorbis, the same file thrice", "cat", lambda folder, x: saved(
            folder, "a.ogg", ogg_of(x, "VORBIS", folder) * 3), "libsndfile", repeats=3),
    Case("Ogg Vorbis of a page, two links", "cat", lambda folder, x: saved(
            folder, "a.ogg", ogg_of(x, "VORBIS", folder) * 2), "libsndfile", repeats=2, frames=700),
    Case("Ogg Opus, two links", "hand", lambda folder, x: saved(
            folder, "a.opus", opus_of(x, folder) + make.other_serial(opus_of(x, folder))),
         repeats=2, rate=48000),
    Case("Ogg FLAC, two links", "cat", lambda folder, x: saved(folder, "a.oga", ogg_of(x, "flac", folder) * 2),
         repeats=2, exact=True),
    Case("Ogg, Vorbis and then FLAC", "cat", lambda folder, x: saved(
            folder, "a.ogg", ogg_of(x, "VORBIS", folder) + ogg_of(x, "flac", folder)), "libsndfile", repeats=2),
    Case("Ogg Vorbis, then at another rate", "cat", lambda folder, x: saved(
            folder, "a.ogg", ogg_of(x, "VORBIS", folder) + ogg_of(x, "VORBIS", folder, 48000)),
         error="number 2, after 0.500 s, has 48000 Hz and 2 channels, the first 44100 Hz and 2; split it there"),
    Case("Ogg Opus, then mono", "cat", lambda folder, x: saved(
            folder, "a.opus", opus_of(x, folder) + opus_of(x[:, :1], folder)),
         rate=48000, error="has 48000 Hz and 1 channels, the first 48000 Hz and 2; split it there"),
    Case("MP3, two joined", "cat", lambda folder, x: saved(folder, "a.mp3", mp3_of(x, folder) * 2), repeats=2,
         tags="ID3v2 in both"),
    Case("MP3, two joined, no ID3", "cat", lambda folder, x: saved(
            folder, "a.mp3", mp3_of(x, folder, tags=False, **NO_ID3) * 2), repeats=2),
    Case("MP3, a short one behind a long one", "cat", lambda folder, x: saved(
            folder, "a.mp3", mp3_of(np.tile(x, (8, 1)), folder) + mp3_of(x, folder)), repeats=9),
    Case("MP3, two joined without counts", "cat", lambda folder, x: saved(
            folder, "a.mp3", mp3_of(x, folder, write_xing="0") * 2), judge=2 * 24 * 1152 - 2 * 1152 * 3, late=1105,
         repeats=1),
    Case("MP3, then at another rate", "cat", lambda folder, x: saved(
            folder, "a.mp3", mp3_of(x, folder) + mp3_of(x, folder, 48000)), error="has 48000 Hz and 2 channels"),
    Case("FLAC, two joined", "cat", lambda folder, x: saved(
            folder, "a.flac", make.wav_bytes(x, kind="FLAC", folder=folder) * 2), "libsndfile", exact=True, repeats=2),
    Case("AAC in ADTS, two joined", "cat", lambda folder, x: saved(
            folder, "a.aac", encode(folder / "b.aac", x, "aac", "adts").read_bytes() * 2), judge="ffmpeg", late=1024),
    Case("AC-3, two joined", "cat", lambda folder, x: saved(
            folder, "a.ac3", encode(folder / "b.ac3", x, "ac3", "ac3").read_bytes() * 2), judge="ffmpeg", late=256),
    Case("MP2, two joined", "cat", lambda folder, x: saved(
            folder, "a.mp2", encode(folder / "b.mp2", x, "mp2", "mp2").read_bytes() * 2), judge="ffmpeg", late=481),
]  # fmt: skip
section("Several streams one after the other").extend(CHAINS)

# --- time: where a stream begins


def vorbis_shifted(granules: int, lost: int = 0) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, samples: np.ndarray) -> Path:
        pages = make.ogg_pages(make.shifted(ogg_of(samples, "VORBIS", folder), granules))
        first = next(index for index, page in enumerate(pages) if make.granule(page) != 0)
        return saved(folder, "a.ogg", make.ogg(pages[:first] + pages[first + lost :]))

    return write


def opus_shifted(granules: int) -> Callable[[Path, np.ndarray], Path]:
    return lambda folder, x: saved(folder, "a.opus", make.shifted(opus_of(x, folder), granules))


def opus_rate(rate: int) -> Case:
    return Case(f"Ogg Opus that names {rate} Hz", "hand", lambda folder, x: saved(
        folder, "a.opus", make.opus_header(opus_of(x, folder), rate=rate)), rate=48000)  # fmt: skip


def cut_start(name: str, codec: str, kind: str, at: int, **more: object) -> Case:
    """A recording of a broadcast, which begins anywhere."""

    def write(folder: Path, samples: np.ndarray) -> Path:
        data = encode(
            folder / f"b.{kind}", samples, codec, kind, muxing={"write_xing": "0"} if kind == "mp3" else {}
        ).read_bytes()
        return saved(folder, f"a.{EXTENSIONS.get(kind, kind)}", data[at:-at])

    return Case(name, "hand", write, judge="ffmpeg", frames=60_000, **more)  # type: ignore[arg-type]


def film(folder: Path, samples: np.ndarray, kind: str = "mp4") -> Path:
    """Sound beside a picture, and a second sound that is not to be taken."""
    path = folder / f"a.{EXTENSIONS.get(kind, kind)}"
    with av.open(str(path), "w", format=kind) as file:
        picture = file.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        sound, other = (file.add_stream("flac", rate=44100, layout=layout) for layout in ("stereo", "mono"))
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8))
            frame.pts = number
            file.mux(picture.encode(frame))
        for stream, x in ((sound, samples), (other, samples[:, :1] * 0)):
            make.encode_stream(file, stream, x, 44100)
        file.mux(picture.encode(None))
    return path


def remuxed(source: str, codec: str, kind: str, *options: str) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, samples: np.ndarray) -> Path:
        path = encode(folder / f"source.{source}", samples, codec)
        target = folder / f"a.{EXTENSIONS.get(kind, kind)}"
        by("ffmpeg", "-v", "error", *options, "-i", path, "-c", "copy", "-f", kind, target)
        return target

    return write


section("Where a stream begins and ends").extend(
    [
        Case("Ogg Vorbis of a broadcast", "hand", vorbis_shifted(5_000_000), "libsndfile"),
        Case("Ogg Vorbis, first page lost", "hand", vorbis_shifted(5_000_000, 1), "libsndfile", "ffmpeg",
             frames=60_000, late=-23_232),
        Case("Ogg Vorbis whose start is cut off by 1000", "hand", vorbis_shifted(-1000), "libsndfile", 59_000,
             frames=60_000, late=-1000),
        Case("Ogg Opus of a broadcast", "hand", opus_shifted(5_000_000), rate=48000, frames=60_000),
        Case("Ogg Opus without a pre-skip in its times", "hand", opus_shifted(-312), judge="ffmpeg", rate=48000,
             frames=60_000),
        *(opus_rate(rate) for rate in (0, 8000, 16000, 22050, 44100)),
        Case("Ogg Opus with a gain of 6 dB", "hand", lambda folder, x: saved(
                folder, "a.opus", make.opus_header(opus_of(x / 2, folder), gain=1541)), rate=48000),
        Case("Ogg Vorbis of 100 frames", "libsndfile", lambda folder, x: saved(
                folder, "a.ogg", ogg_of(x, "VORBIS", folder)), "libsndfile", frames=100),
        Case("Ogg Opus of 700 frames", "PyAV", lambda folder, x: saved(
                folder, "a.opus", opus_of(x, folder)), frames=700, rate=48000),
        Case("MP3 without a count", "PyAV", lambda folder, x: saved(folder, "a.mp3", mp3_of(x, folder, write_xing="0")),
             judge="ffmpeg", late=1105, tags="title, artist"),
        Case("MP3, variable rate, no count, quiet start", "PyAV", lambda folder, x: saved(
                folder, "a.mp3", mp3_of(np.concatenate([x * 0, x]), folder, write_xing="0")), judge="ffmpeg",
             late=22_063 + 1105),
        Case("MP3 in WAV, variable rate", "ffmpeg", remuxed("mp3", "libmp3lame", "wav"), judge="ffmpeg", late=1105,
             needs="ffmpeg"),
        Case("MP3 with ID3v2, APE and ID3v1", "hand", lambda folder, x: saved(
                folder, "a.mp3", mp3_of(x, folder) + b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 0)
                + b"TAG" + bytes(125)), tags="ID3v2, APE, ID3v1"),
        Case("MP3 behind zeros", "hand", lambda folder, x: saved(
                folder, "a.mp3", bytes(1000) + mp3_of(x, folder, tags=False, **NO_ID3))),
        cut_start("MP3 cut anywhere", "libmp3lame", "mp3", 1000, late=-2351),
        cut_start("AAC in ADTS cut anywhere", "aac", "adts", 1000, late=-2048),
        cut_start("AC-3 cut anywhere", "ac3", "ac3", 1000, late=-2816),
        cut_start("MP2 in a transport stream cut anywhere", "mp2", "mpegts", 9400, late=-6000, within=9000),
        Case("MP4 × AAC, cut without coding anew", "ffmpeg", remuxed("m4a", "aac", "mp4", "-ss", "0.2"),
             judge="ffmpeg", frames=60_000, late=-8820, within=1100, needs="ffmpeg"),
        Case("MP4 × ALAC, in fragments", "PyAV", lambda folder, x: encode(
                folder / "a.mp4", x, "alac", "mp4", muxing={"movflags": "frag_keyframe+empty_moov"}), exact=True),
        Case("MP4 × ALAC, index first", "PyAV", lambda folder, x: encode(
                folder / "a.m4a", x, "alac", "ipod", muxing={"movflags": "faststart"}), exact=True),
        Case("MP4, a film with two sounds", "PyAV", lambda folder, x: film(folder, x), exact=True),
        Case("Matroska, a film with two sounds", "PyAV", lambda folder, x: film(folder, x, "matroska"), exact=True),
    ]
)  # fmt: skip

# --- the rest


def with_tool(name: str, tool: str, *command: str, result: str, **more: object) -> Case:
    def write(folder: Path, samples: np.ndarray) -> Path:
        rate = int(more.get("rate", 44100))  # type: ignore[call-overload]
        encode(folder / "source.wav", samples, "pcm_s16le", rate=rate)
        by(
            tool,
            *(word.replace("IN", str(folder / "source.wav")).replace("OUT", str(folder / result)) for word in command),
        )
        return folder / result

    return Case(name, tool, write, needs=tool, **more)  # type: ignore[arg-type]


def dsd(folder: Path, samples: np.ndarray, writer: Callable[[np.ndarray], bytes], name: str) -> Path:
    return saved(folder, name, writer(make.dsd_bits(samples, 32)))


def named(name: str, data: Callable[[Path, np.ndarray], Path]) -> Callable[[Path, np.ndarray], Path]:
    return lambda folder, x: data(folder, x).rename(folder / name)


M3U = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.wav\n#EXT-X-ENDLIST\n"
section("The rest").extend(
    [
        Case("FLAC of 32 bit", "PyAV", lambda folder, x: encode(
                folder / "a.flac", x, "flac", "flac", bits="s32",
                options={"strict": "experimental", "bits_per_raw_sample": "32"}),
             exact=True, judge="source"),
        Case("FLAC behind ID3v2", "hand", lambda folder, x: saved(
                folder, "a.flac", b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + make.wav_bytes(x, kind="FLAC", folder=folder)),
             "libsndfile", exact=True, tags="ID3v2"),
        with_tool("FLAC", "flac", "-s", "IN", "-o", "OUT", result="a.flac", decoder="libsndfile", exact=True),
        with_tool("Ogg FLAC", "flac", "-s", "--ogg", "IN", "-o", "OUT", result="a.oga", exact=True),
        with_tool("Ogg Vorbis", "oggenc", "-Q", "-t", "Tïtle", "IN", "-o", "OUT", result="a.ogg", decoder="libsndfile",
                  tags="title"),
        with_tool("Ogg Opus", "opusenc", "--quiet", "IN", "OUT", result="a.opus", rate=48000),
        with_tool("Speex in Ogg", "speexenc", "IN", "OUT", result="a.spx", judge="ffmpeg", late=509, within=200,
                  slow=True, rate=32000),
        with_tool("MP3", "lame", "--quiet", "-V2", "IN", "OUT", result="a.mp3"),
        with_tool("MP3 without an Info tag", "lame", "--quiet", "-t", "IN", "OUT", result="a.mp3", judge="ffmpeg",
                  late=1105),
        with_tool("MP2", "twolame", "--quiet", "IN", "OUT", result="a.mp2", judge="ffmpeg", late=481),
        with_tool("WavPack, lossy", "wavpack", "-q", "-b256", "IN", "-o", "OUT", result="a.wv", slow=True),
        with_tool("WavPack", "wavpack", "-q", "IN", "-o", "OUT", result="a.wv", exact=True, slow=True),
        with_tool("SND of Sun", "sox", "IN", "OUT", result="a.au", decoder="libsndfile", exact=True, slow=True),
        with_tool("8SVX", "sox", "IN", "-c", "1", "OUT", result="a.8svx", layout="mono", slow=True),
        with_tool("Creative Voice", "sox", "IN", "OUT", result="a.voc", decoder="libsndfile", exact=True, slow=True),
        with_tool("SoX's own", "sox", "IN", "OUT", result="a.sox", exact=True, slow=True),
        Case("DSD in DSF", "hand", lambda folder, x: dsd(folder, x, make.dsf, "a.dsf"),
             judge=8400, rate=88_200, frames=8400, within=4, slow=True),
        Case("DSD in DSDIFF", "hand", lambda folder, x: dsd(folder, x, make.dff, "a.dff"),
             judge=8400, rate=88_200, frames=8400, within=4, slow=True),
        Case("multitrack Ogg of games, .mogg", "hand", lambda folder, x: saved(
                folder, "a.mogg", make.mogg_header() + ogg_of(x, "VORBIS", folder)), "libsndfile"),
        Case("multitrack Ogg of games, encrypted", "hand", lambda folder, x: saved(
                folder, "a.mogg", make.mogg_header(version=11) + bytes(5000)), error="only its game can play it"),
        Case("MP3 named .wav", "PyAV", named("b.wav", lambda folder, x: encode(folder / "a.mp3", x, "libmp3lame"))),
        Case("ALAC named .mp3", "PyAV", named("b.mp3", lambda folder, x: encode(folder / "a.m4a", x, "alac")),
             exact=True),
        Case("FLAC named .ogg", "libsndfile", named("b.ogg", lambda folder, x: saved(
                folder, "a.flac", make.wav_bytes(x, kind="FLAC", folder=folder))), "libsndfile", exact=True),
        Case("WAV without an extension", "libsndfile", named("song", lambda folder, x: saved(
                folder, "a.wav", make.wav_bytes(x, folder=folder))), "libsndfile", exact=True),
        Case("a playlist of HLS", "hand", lambda folder, x: saved(folder, "a.m3u8", M3U), error="no audio that"),
        Case("text", "hand", lambda folder, x: saved(folder, "a.mp3", b"no music\n" * 500), error="no audio that"),
        Case("a picture", "hand", lambda folder, x: saved(
                folder, "a.flac", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9), error="no audio that"),
    ]
)  # fmt: skip
