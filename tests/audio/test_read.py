"""Reading: streamed equals whole, and nothing is silently shorter than it claims."""

import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waveunet_cli.audio import AudioReader, probe
from waveunet_cli.errors import AudioReadError

FRAMES = 9001
FORMATS = [
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "PCM_U8"),
    ("wav", "WAV", "FLOAT"),
    ("wav", "WAV", "IMA_ADPCM"),
    ("flac", "FLAC", "PCM_24"),
    ("ogg", "OGG", "VORBIS"),
    ("opus", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
    ("aiff", "AIFF", "PCM_24"),
    ("caf", "CAF", "PCM_16"),
    ("w64", "W64", "PCM_16"),
    ("rf64", "RF64", "PCM_16"),
    ("au", "AU", "PCM_16"),
]
LOSSY = {"IMA_ADPCM", "VORBIS", "OPUS", "MP3"}
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def noise(frames=FRAMES, channels=2, gain=0.2):
    return (np.random.default_rng(frames).standard_normal((frames, channels)) * gain).astype(np.float32)


def write(path, kind=None, subtype="PCM_16", samples=None, rate=48000):
    soundfile.write(path, noise() if samples is None else samples, rate, subtype, format=kind or "WAV")
    return path


def read(path, block_frames=1000):
    with AudioReader(path) as reader:
        blocks = list(reader.blocks(block_frames))
        return np.concatenate([np.zeros((0, reader.info.channels), np.float32), *blocks])


def error_of(path):
    with pytest.raises(AudioReadError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def cut(path, keep):
    data = path.read_bytes()
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    return short


def ffmpeg(*arguments):
    command = ["ffmpeg", "-y", "-v", "error", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    for extension, kind, subtype in FORMATS:
        write(folder / f"{kind}_{subtype}.{extension}", kind, subtype)
    return folder


@pytest.mark.parametrize(("extension", "kind", "subtype"), FORMATS)
def test_blocks_of_any_size_are_the_whole_file(folder, extension, kind, subtype):
    path = folder / f"{kind}_{subtype}.{extension}"
    whole, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if subtype in ("OPUS", "MPEG_LAYER_III"):  # decoded by FFmpeg, not to the last bit as by libsndfile
        by_libsndfile, whole = whole, read(path, 1 << 20)
        np.testing.assert_allclose(whole, by_libsndfile, atol=1e-3)
        subtype = {"OPUS": "OPUS", "MPEG_LAYER_III": "MP3"}[subtype]

    @settings(deadline=None, max_examples=6, suppress_health_check=list(HealthCheck))
    @given(st.integers(500, 2 * FRAMES))
    def check(block_frames):
        np.testing.assert_array_equal(read(path, block_frames), whole)

    check()
    info = probe(path)
    assert (info.sample_rate_hz, info.channels, info.frames) == (rate, 2, len(whole))
    assert (info.format, info.subtype, info.lossy) == (kind, subtype, subtype in LOSSY)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_channel_arrives(tmp_path, channels):
    samples = noise(100, channels)
    np.testing.assert_array_equal(read(write(tmp_path / "a.wav", subtype="FLOAT", samples=samples), 33), samples)


@pytest.mark.parametrize(
    "name", ["-i.wav", "A.WAV", "häß 日本.wav", "dot..wav", "space .wav", "a:b%d[1].wav", "x.raw", "noext", "s. "]
)
def test_names_do_not_matter(tmp_path, name):
    assert len(read(write(tmp_path / name))) == FRAMES


def test_floats_beyond_one_are_kept(tmp_path):
    samples = noise(gain=4)
    np.testing.assert_array_equal(read(write(tmp_path / "a.wav", subtype="FLOAT", samples=samples)), samples)


@pytest.mark.parametrize(("kind", "extension"), [("WAV", "wav"), ("AIFF", "aiff"), ("W64", "w64"), ("RF64", "wav")])
def test_a_header_without_samples_is_no_blocks(tmp_path, kind, extension):
    assert read(write(tmp_path / f"a.{extension}", kind, samples=noise(0))).shape == (0, 2)


@pytest.mark.parametrize("keep", [0.2, 0.9, -1])
@pytest.mark.parametrize(
    ("extension", "kind", "subtype"),
    [f for f in FORMATS if f[1] != "OGG"],
)
def test_a_truncated_file_is_an_error(folder, extension, kind, subtype, keep):
    if kind == "MP3" and keep != 0.2:
        keep = 0.5  # nine MPEG frames, of which two may lack
    message = error_of(cut(folder / f"{kind}_{subtype}.{extension}", keep))
    assert "again" in message or "no audio" in message


@pytest.mark.parametrize("keep", range(4, 60, 8))
def test_a_flac_cut_in_its_header_is_an_error(folder, keep):
    error_of(cut(folder / "FLAC_PCM_24.flac", keep))


def test_damage_in_the_middle_of_a_flac_is_an_error(folder, tmp_path):
    data = bytearray((folder / "FLAC_PCM_24.flac").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 9000] = bytes(9000)
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    error_of(path)


def test_trailing_chunks_and_odd_sizes_are_no_truncation(tmp_path):
    path = write(tmp_path / "a.wav", subtype="PCM_U8", samples=noise(101, 1))
    path.write_bytes(path.read_bytes().removesuffix(b"\0"))  # writers forget the pad byte
    assert len(read(path)) == 101
    path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0INFO")
    assert len(read(path)) == 101


@pytest.mark.parametrize(("magic", "order"), [(b"RIFF", "little"), (b"FORM", "big")])
@pytest.mark.parametrize("chunk_bytes", [4, 5])
def test_chunks_before_the_samples_are_stepped_over_with_their_pad_byte(tmp_path, magic, order, chunk_bytes):
    """Only behind a chunk that was stepped over rightly is the header found that tells what is missing."""
    kind, extension = {b"RIFF": ("WAV", "wav"), b"FORM": ("AIFF", "aiff")}[magic]
    path = write(tmp_path / f"a.{extension}", kind, samples=noise(100, 1))
    data = path.read_bytes()
    chunk = b"note" + chunk_bytes.to_bytes(4, order) + bytes(chunk_bytes + chunk_bytes % 2)
    data = magic + (len(data) - 8 + len(chunk)).to_bytes(4, order) + data[8:12] + chunk + data[12:]
    path.write_bytes(data)
    assert len(read(path)) == 100
    assert "truncated" in error_of(cut(path, len(data) - 20))


@needs_ffmpeg
@pytest.mark.parametrize(
    "kind", ["wav", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("aiff", "au", "w64", "flac", "mp3"))]
)
def test_what_a_streaming_encoder_wrote_is_read_to_its_end(folder, tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(ffmpeg("-i", folder / "WAV_PCM_16.wav", "-f", kind, "-"))
    found = len(read(path))
    assert found == FRAMES or (kind == "mp3" and FRAMES <= found < FRAMES + 3 * 1152)


@needs_ffmpeg
def test_a_variable_rate_mp3_without_a_count_is_not_cut_at_a_guess(tmp_path):
    samples = np.concatenate([noise(20000, gain=0.0), noise(60000)])  # small frames first
    source = write(tmp_path / "a.wav", samples=samples)
    path = tmp_path / "a.mp3"
    ffmpeg("-i", source, "-write_xing", "0", "-q:a", "2", path)
    assert soundfile.info(path).frames != len(samples)
    assert probe(path).frames is None
    assert len(samples) <= len(read(path)) < len(samples) + 4 * 1152


@needs_ffmpeg
def test_joined_mp3s_are_read_to_the_end_of_the_last(tmp_path):
    write(tmp_path / "a.mp3", "MP3", "MPEG_LAYER_III", noise(200_000))
    both = tmp_path / "b.mp3"
    both.write_bytes((tmp_path / "a.mp3").read_bytes() * 2)
    assert len(read(both)) >= 400_000


@needs_ffmpeg
@pytest.mark.parametrize(
    "extension", ["m4a", "wv", *(pytest.param(name, marks=pytest.mark.slow) for name in ("wma", "aac", "webm"))]
)
def test_other_formats_stream_through_ffmpeg(folder, tmp_path, extension):
    path = tmp_path / f"-x:%d ü.{extension}"
    ffmpeg("-i", folder / "WAV_PCM_16.wav", f"file:{path}")
    samples = read(path, 777)
    assert samples.dtype == np.float32
    assert samples.flags.writeable
    assert samples.shape[1] == 2
    assert abs(len(samples) - FRAMES) < 4096
    info = probe(path)
    assert (info.sample_rate_hz, info.frames, info.lossy) == (
        48000,
        FRAMES if extension == "wv" else None,
        extension != "wv",
    )
    if extension == "wv":
        np.testing.assert_array_equal(samples, read(folder / "WAV_PCM_16.wav"))
        assert info.subtype == "PCM_16"


@needs_ffmpeg
@pytest.mark.parametrize("extension", ["m4a", "wv"])
def test_truncated_files_fail_through_ffmpeg_too(tmp_path, extension):
    source = write(tmp_path / "a.wav", samples=noise(100_000))
    path = tmp_path / f"a.{extension}"
    ffmpeg("-i", source, "-movflags", "+faststart", path)
    assert "truncated" in error_of(cut(path, 0.6))


@needs_ffmpeg
def test_closing_early_closes_the_file(tmp_path):
    source = write(tmp_path / "a.wav", samples=noise(400_000))
    path = tmp_path / "a.wv"
    ffmpeg("-i", source, path)
    with AudioReader(path) as reader:
        next(reader.blocks(10))
    if Path("/proc/self/fd").is_dir():
        assert str(path) not in [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]


def test_no_audio_at_all(tmp_path):
    assert "no such file" in error_of(tmp_path / "missing.wav")
    assert "folder" in error_of(tmp_path)
    empty = tmp_path / "empty.wav"
    empty.touch()
    assert "0 bytes" in error_of(empty)
    for name in ("text.wav", "text.m4a", "text.txt"):
        (tmp_path / name).write_text("no music\n" * 50)
        error_of(tmp_path / name)


def test_no_permission(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    original = Path.open

    def refuse(self, *arguments, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop root
    assert "permissions" in error_of(path)


def test_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    original = Path.stat

    def refuse(self, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return original(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert "may not be read; check the permissions" in error_of(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_located(tmp_path, bad):
    samples = noise()
    samples[4800, 1] = bad
    samples[6000, 0] = bad
    message = error_of(write(tmp_path / "a.wav", subtype="FLOAT", samples=samples))
    assert "0.100 s (frame 4800)" in message


def test_a_wav_of_another_writer_is_read_exactly(tmp_path):
    levels = np.arange(-32768, 32768, dtype="<i2")
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(levels.tobytes())
    np.testing.assert_array_equal(read(path)[:, 0] * 32768, levels)
