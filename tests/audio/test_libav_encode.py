"""AAC, ALAC and Opus: what was written, as several decoders read it."""

import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from waveunet_cli.audio import AudioInfo, OutputFormat, StemWriter, choose_output, probe, read_blocks
from waveunet_cli.errors import AudioWriteError, ConfigError


def music(frames, rate_hz, channels=2):
    """Tones and a click, so that a shift or a gap shows."""
    times = np.arange(frames) / rate_hz
    tones = [0.2 * np.sin(2 * np.pi * hz * times) + 0.1 * np.sin(2 * np.pi * 3.1 * hz * times) for hz in (220, 331)]
    sound = np.stack(tones[:channels], 1).astype(np.float32)
    sound[frames // 2 : frames // 2 + 20] += 0.4
    return sound


def written(path, sound, rate_hz, subtype, block_frames=3000, **options):
    output = OutputFormat("opus" if subtype == "OPUS" else "m4a", subtype, **options)
    with StemWriter({"a": path}, rate_hz, sound.shape[1], output) as writer:
        for start in range(0, len(sound), block_frames):
            writer.write({"a": sound[start : start + block_frames]})
        writer.commit()
    return path


def read(path):
    return np.concatenate(list(read_blocks(path)))


def close(found, true):
    """Whether the sound is the same at the same place, but for what a codec does."""
    assert found.shape == true.shape
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.98


def edit_list(path):
    """The first edit of an MP4 file: its frames and where it begins, read by hand; both timescales are the rate."""
    data = path.read_bytes()
    (movie_hz,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    (media_hz,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    at = data.index(b"elst") + 4
    version, count, frames, start = struct.unpack_from(">IIIi", data, at)
    assert (version, count, movie_hz) == (0, 1, media_hz)
    return frames, start


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 1000, 1024, 22_063])
@pytest.mark.parametrize("subtype", ["AAC", "ALAC_16", "ALAC_24"])
def test_m4a_has_every_frame(tmp_path, subtype, frames, channels):
    sound = music(frames, 44_100, channels)
    path = written(tmp_path / "a.m4a", sound, 44_100, subtype)
    assert probe(path).frames == frames
    found = read(path)
    if subtype == "AAC":
        assert edit_list(path) == (frames, 2048)
        if frames > 2000:
            close(found, sound)
            assert np.abs(found - sound)[:1024].max() < 0.02, "a song that begins at once is heard from its first frame"
        assert len(found) == frames
        assert b"iTunSMPB" in path.read_bytes()
    else:
        assert np.abs(found - sound).max() <= 2.0 ** -int(subtype[-2:])


@pytest.mark.skipif(shutil.which("faad") is None, reason="needs faad")
def test_another_decoder_of_aac_finds_the_frames_of_the_edit_list(tmp_path):
    sound = music(22_063, 44_100)
    path = written(tmp_path / "a.m4a", sound, 44_100, "AAC")
    frames, _ = edit_list(path)
    subprocess.run(["faad", "-q", "-o", tmp_path / "a.wav", path], check=True)
    decoded = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]  # faad drops the first packet, and cuts no end
    close(decoded[1024 : 1024 + frames], sound)
    assert len(decoded) - frames < 2048


@pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("frames", [1, 700, 50_001])
def test_opus_has_every_frame_at_its_rate(tmp_path, frames, rate_hz):
    sound = music(frames, rate_hz)
    path = written(tmp_path / "a.opus", sound, rate_hz, "OPUS", block_frames=777)
    expected = -(-frames * 48_000 // rate_hz)
    assert (probe(path).frames, probe(path).sample_rate_hz) == (expected, 48_000)
    found = [read(path), soundfile.read(path, dtype="float32")[0]]
    if shutil.which("opusdec"):
        subprocess.run(["opusdec", "--quiet", "--rate", "48000", path, tmp_path / "a.wav"], check=True)
        found.append(soundfile.read(tmp_path / "a.wav", dtype="float32")[0])
    assert {len(each) for each in found} == {expected}
    if frames > 10_000:
        close(found[0], music(expected, 48_000) if rate_hz < 48_000 else found[1])
        for other in found[1:]:
            assert np.abs(other - found[0]).max() < 1e-3


@pytest.mark.parametrize("container", ["mp3", "ogg"])
def test_other_codecs_have_every_frame_in_two_decoders(tmp_path, container):
    sound = music(22_063, 44_100)
    path = tmp_path / f"a.{container}"
    subtype = {"mp3": "MPEG_LAYER_III", "ogg": "VORBIS"}[container]
    with StemWriter({"a": path}, 44_100, 2, OutputFormat(container, subtype)) as writer:
        writer.write({"a": sound})
        writer.commit()
    program = {"mp3": "mpg123", "ogg": "oggdec"}[container]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    options = ["-q", "-w", tmp_path / "a.wav", path] if container == "mp3" else ["-Q", "-o", tmp_path / "a.wav", path]
    subprocess.run([program, *options], check=True)
    for found in (read(path), soundfile.read(path, dtype="float32")[0], soundfile.read(tmp_path / "a.wav")[0]):
        close(found, sound)


def kbits(path, frames, rate_hz=48_000):
    return path.stat().st_size * 8 / 1000 / (frames / rate_hz)


@pytest.mark.parametrize(("subtype", "rates"), [("AAC", (64, 128, 256)), ("OPUS", (48, 96, 192))])
def test_the_bit_rate_is_what_was_asked_for(tmp_path, subtype, rates):
    noise = (np.random.default_rng(0).standard_normal((240_000, 2)) * 0.1).astype(np.float32)
    for rate in rates:
        path = written(tmp_path / "a", noise, 48_000, subtype, kbits=rate)
        assert kbits(path, len(noise)) == pytest.approx(rate, rel=0.2)


def test_bit_rate_and_quality_of_libsndfile(tmp_path):
    noise = (np.random.default_rng(0).standard_normal((240_000, 2)) * 0.1).astype(np.float32)
    sizes = {}
    for container, subtype, options in [
        *(("mp3", "MPEG_LAYER_III", {"kbits": rate}) for rate in (64, 128, 320)),
        *(("mp3", "MPEG_LAYER_III", {"quality": level}) for level in (0.0, 8.0, 10.0)),
        *(("ogg", "VORBIS", {"quality": level}) for level in (0.0, 6.0, 10.0)),
        *((("mp3", "MPEG_LAYER_III", {}), ("ogg", "VORBIS", {}))),
    ]:
        path = tmp_path / f"a.{container}"
        with StemWriter({"a": path}, 48_000, 2, OutputFormat(container, subtype, **options)) as writer:
            writer.write({"a": noise})
            writer.commit()
        sizes[container, *options.items()] = path.stat().st_size
        if "kbits" in options:
            assert kbits(path, len(noise)) == pytest.approx(options["kbits"], rel=0.03)
    assert sizes["mp3", ("quality", 0.0)] < sizes["mp3", ("quality", 8.0)] < sizes["mp3", ("quality", 10.0)]
    assert sizes["ogg", ("quality", 0.0)] < sizes["ogg", ("quality", 6.0)] < sizes["ogg", ("quality", 10.0)]
    assert sizes["ogg",] == pytest.approx(sizes["ogg", ("quality", 6.0)], rel=1e-3)
    assert sizes["mp3",] == pytest.approx(sizes["mp3", ("quality", 8.0)], rel=1e-3)


@pytest.mark.parametrize(
    ("container", "subtype", "options", "words"),
    [
        (
            "wav",
            None,
            {"kbits": 192},
            "wav has no bit rate to choose; leave it out, or choose mp3, m4a, opus",
        ),
        ("m4a", "alac_16", {"kbits": 192}, "m4a as ALAC_16 has no bit rate"),
        ("ogg", None, {"kbits": 192}, "ogg has no bit rate"),
        ("opus", None, {"quality": 5.0}, "opus has no quality to choose; leave it out, or choose ogg, mp3"),
        ("mp3", None, {"quality": 11.0}, "a quality of 11; choose one from 0 to 10"),
        ("mp3", None, {"kbits": 1000}, "mp3: a bit rate of 1000k; choose one from 32k to 320k"),
        ("mp3", None, {"kbits": 192, "quality": 5.0}, "--bitrate and --quality exclude each other"),
    ],
)
def test_what_a_format_has_none_of_is_refused(container, subtype, options, words):
    with pytest.raises(ConfigError) as caught:
        choose_output(AudioInfo("song", 44_100, 2, 100, "WAV", "PCM_U8", False), container, subtype, **options)
    assert words in str(caught.value)


def test_the_command_knows_bit_rates(tmp_path, monkeypatch, waveunet):
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", music(8000, 8000), 8000)
    for options, words in (
        (("--bitrate", "many"), "'many' is no bit rate; write 192k"),
        (("--bitrate", "192k"), "wav has no bit rate to choose"),
        (("--format", "opus", "--quality", "5"), "opus has no quality to choose"),
    ):
        ran = waveunet("separate", "song.wav", *options)
        assert (ran.code, ran.out) == (2, "")
        assert words in ran.err.splitlines()[-1]


def test_a_song_of_no_frames_and_a_folder_that_is_gone(tmp_path):
    with pytest.raises(AudioWriteError, match="m4a cannot hold 0 frames; choose wav"):
        written(tmp_path / "a.m4a", music(1, 8000)[:0], 8000, "AAC")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("container", "rate_hz", "channels", "words"),
    [
        ("m4a", 44_100, 6, "m4a holds at most 2 channels, this file has 6; choose wav"),
        ("opus", 44_100, 6, "opus holds at most 2 channels, this file has 6; choose wav"),
        ("stem", 44_100, 6, "stem holds at most 2 channels, this file has 6; choose wav"),
        ("m4a", 192_000, 2, "m4a cannot hold 192000 Hz, only 8000, 11025,"),
        ("stem", 96_000, 2, "stem cannot hold 96000 Hz, only 44100, 48000; choose wav"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_it_is_computed(
    here, run, monkeypatch, container, rate_hz, channels, words
):
    soundfile.write("song.wav", np.zeros((1000, channels)), rate_hz)
    monkeypatch.setattr("waveunet_cli.library.song._pump", None)
    ran = run("song.wav", "--format", container)
    assert (ran.code, ran.out) == (1, "")
    assert f"song.wav: {words}" in ran.err
    assert not (here / "separated").exists()
