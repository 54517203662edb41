"""Writing: exact integers, one gain for a song, and complete files or none."""

import contextlib
import errno
import os
import subprocess
import sys

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waveunet_cli.audio import (
    CONTAINERS,
    AudioInfo,
    OutputFormat,
    StemWriter,
    choose_output,
    layout,
    probe,
    read_blocks,
    sinks,
    wav,
)
from waveunet_cli.audio.formats import SUBTYPE_BITS
from waveunet_cli.audio.read import frames_of
from waveunet_cli.errors import AudioWriteError, ConfigError

RATE = 44100
ALL = [  # that libsndfile writes and reads; the others are in test_libav_encode.py
    (container, subtype)
    for container, kind in CONTAINERS.items()
    for subtype in kind.subtypes
    if container not in ("m4a", "opus", "stem")
]
_FIRST = {"wav/PCM_U8", "flac/PCM_S8", "ogg/VORBIS"}
EACH_ENCODER = [pytest.param(p, marks=[] if "/".join(p) in _FIRST else pytest.mark.slow, id="/".join(p)) for p in ALL]
INTEGERS = [pair for pair in ALL if pair[1].startswith("PCM")]


def save(folder, stems, output, block_frames=1000, **options):
    first = next(iter(stems.values()))
    paths = {stem: folder / f"{stem}.{output.container}" for stem in stems}
    with StemWriter(paths, RATE, first.shape[1], output, **options) as writer:
        for start in range(0, len(first), block_frames):
            writer.write({stem: x[start : start + block_frames] for stem, x in stems.items()})
        report = writer.commit()
    return report, {stem: soundfile.read(path, dtype="float32", always_2d=True)[0] for stem, path in paths.items()}


def noise(frames, channels=2, gain=0.1, seed=0):
    return (np.random.default_rng(seed).standard_normal((frames, channels)) * gain).astype(np.float32)


def info(subtype="PCM_16", channels=2, rate=RATE, lossy=False):
    return AudioInfo("song", rate, channels, 100, "WAV", subtype, lossy)


def error_of(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the choice of a format


@pytest.mark.parametrize(
    ("given", "container", "expected"),
    [
        ("PCM_U8", "wav", "PCM_U8"),
        ("PCM_S8", "wav", "PCM_U8"),
        ("PCM_16", "wav", "PCM_16"),
        ("ALAC_24", "wav", "PCM_24"),
        ("PCM_32", "wav", "PCM_32"),
        ("DOUBLE", "wav", "FLOAT"),
        ("PCM_U8", "flac", "PCM_S8"),
        ("PCM_32", "flac", "PCM_24"),
        ("FLOAT", "flac", "PCM_24"),
        ("FLOAT", "ogg", "VORBIS"),
        ("FLOAT", "mp3", "MPEG_LAYER_III"),
    ],
)
def test_the_depth_of_the_input_is_kept(given, container, expected):
    assert choose_output(info(given), container) == OutputFormat(container, expected)


def test_lossy_inputs_give_16_bit():
    assert choose_output(info("VORBIS", lossy=True), "wav").subtype == "PCM_16"


def test_any_case_is_understood():
    assert choose_output(info(), "WAV", "pcm_24") == OutputFormat("wav", "PCM_24")


@pytest.mark.parametrize(
    ("container", "subtype", "changes", "words"),
    [
        ("flac", "FLOAT", {}, "PCM_24"),
        ("aac", None, {}, "wav, flac"),
        ("wav", "pcm_12", {}, "PCM_16"),
        ("mp3", None, {"rate": 96000}, "48000"),
        ("mp3", None, {"channels": 6}, "2 channels"),
        ("flac", None, {"channels": 9}, "8 channels"),
        ("flac", None, {"rate": 1_000_000}, "1000000 Hz"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_at_once(container, subtype, changes, words):
    with pytest.raises(ConfigError) as caught:
        choose_output(info(**changes), container, subtype)
    assert words in error_of(caught)


@pytest.mark.parametrize(
    ("container", "changes", "words"),
    [
        ("ogg", {"channels": 256}, "at most 255 channels"),
        ("ogg", {"rate": 200_001}, "1 to 200000"),
        ("flac", {"rate": 65_536}, "in steps of 10"),
    ],
)
def test_limits_that_encoders_do_not_survive_are_known(container, changes, words):
    """libvorbis ends the process there, libFLAC writes what nobody reads."""
    with pytest.raises(ConfigError) as caught:
        choose_output(info(**changes), container)
    assert words in error_of(caught)


@pytest.mark.parametrize(
    ("container", "channels", "rate"),
    [
        *[("ogg", channels, 44100) for channels in (1, 2, 3, 5, 6, 7, 8, 9, 16, 255)],
        *[("ogg", 2, rate) for rate in (1, 100, 8000, 11025, 50_001, 96_000, 192_000, 200_000)],
        *[("flac", 8, 44100), *(("flac", 1, rate) for rate in (1, 65_535, 65_540, 192_000, 655_350))],
        *[("mp3", channels, rate) for channels in (1, 2) for rate in CONTAINERS["mp3"].rates_hz],
        *[("wav", 1, 1), ("wav", 300, 8000), ("wav", 2, 1_000_000)],
    ],
)
def test_what_is_within_the_limits_is_written(tmp_path, container, channels, rate):
    samples = noise(3000, channels)
    output = choose_output(info(channels=channels, rate=rate), container)
    with StemWriter({"a": tmp_path / f"a.{container}"}, rate, channels, output) as writer:
        writer.write({"a": samples})
        assert writer.commit().frames == 3000
    found = soundfile.info(tmp_path / f"a.{container}")  # also where no song has such channels or such a rate
    assert (found.channels, found.samplerate) == (channels, rate)
    assert frames_of(tmp_path / f"a.{container}") == 3000


@pytest.mark.parametrize("channels", [3, 5, 6, 7, 8])
def test_ogg_has_the_order_of_vorbis(tmp_path, channels):
    """Each channel a tone of its own; FFmpeg reads them in the order of WAVE."""
    tones = 0.2 * np.sin(np.outer(np.arange(RATE), 0.05 * (1 + np.arange(channels)))).astype(np.float32)
    save(tmp_path, {"a": tones}, choose_output(info(channels=channels), "ogg"))
    with av.open(str(tmp_path / "a.ogg")) as file:
        packer = av.AudioResampler("flt")  # PyAV 18 cannot give out more than seven planes
        packed = [part.to_ndarray() for frame in file.decode(audio=0) for part in packer.resample(frame)]
    found = np.concatenate(packed, axis=1).reshape(-1, channels).T
    closeness = np.corrcoef(np.concatenate([tones.T, found[:, : len(tones)]]))[:channels, channels:]
    assert closeness.argmax(axis=1).tolist() == list(range(channels))


def test_ogg_cannot_say_where_every_loudspeaker_stands():
    with pytest.raises(ConfigError, match="FL FR LFE; choose wav or flac"):
        choose_output(AudioInfo("song", RATE, 3, 1, "WAV", "PCM_16", False, 0xB), "ogg")


def test_an_encoder_that_dies_is_the_error_of_one_song(tmp_path):
    """LAME aborts its process on this."""
    output = OutputFormat("mp3", "MPEG_LAYER_III")
    encoder = sinks.Encoder(tmp_path / "a.mp3", tmp_path / "a.part", output, None, RATE, 2)

    def encode():
        encoder.write(noise(20_000) * np.float32(1e7))
        encoder.finish()

    with pytest.raises(AudioWriteError) as caught:
        encode()
    assert "the mp3 encoder failed (its process was ended by signal 6); choose wav" in error_of(caught)
    encoder.discard()
    assert not list(tmp_path.iterdir())
    _, found = save(tmp_path, {"a": noise(5000)}, output)  # the next song has another process
    assert len(found["a"]) == 5000


def test_one_process_encodes_one_song_after_the_other(tmp_path, monkeypatch):
    started = []
    original = subprocess.Popen

    def start(*arguments, **options):
        started.append(original(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    for name in ("a", "b", "c"):
        save(tmp_path, {name: noise(3000), f"{name}2": noise(3000)}, OutputFormat("ogg", "VORBIS"))
    assert len(started) <= 1


@pytest.mark.parametrize("container", ["ogg", "mp3"])
def test_levels_that_encoders_turn_into_anything_are_refused(tmp_path, container):
    output = OutputFormat(container, CONTAINERS[container].subtypes[0])
    with pytest.raises(AudioWriteError) as caught:
        save(tmp_path, {"a": noise(2000) * np.float32(1e6)}, output, clip="none")
    assert "beyond the 1000 that" in error_of(caught)
    assert not list(tmp_path.iterdir())


# --- samples


@pytest.mark.parametrize("pair", ALL)
@pytest.mark.parametrize("clip", ["rescale", "clamp", "none"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_holds_every_frame(tmp_path, pair, clip, channels):
    stems = {"vocals": noise(5003, channels), "other": noise(5003, channels, seed=1)}
    report, found = save(tmp_path, stems, OutputFormat(*pair), clip=clip)
    assert (report.frames, report.gain, report.clipped_samples) == (5003, 1.0, 0)
    bits = SUBTYPE_BITS.get(pair[1])
    for stem, samples in stems.items():
        assert found[stem].shape == samples.shape
        if pair[1] == "FLOAT":
            np.testing.assert_array_equal(found[stem], samples)
        elif bits:
            assert np.abs(found[stem].astype(float) - samples).max() <= 0.5 / 2 ** (bits - 1) * (1 + 1e-6)
        else:
            assert np.abs(found[stem]).max() > 0.1


@pytest.mark.parametrize("pair", INTEGERS)
@pytest.mark.parametrize("clip", ["rescale", "clamp", "none"])
def test_integers_read_and_written_are_bit_exact(tmp_path, pair, clip):
    full_scale = 2 ** (SUBTYPE_BITS[pair[1]] - 1)
    ends = [-full_scale, -full_scale + 1, -1, 0, 1, full_scale - 2, full_scale - 1]
    levels = np.unique([*np.linspace(-full_scale, full_scale - 1, 70_000).astype(np.int64), *ends])
    samples = (levels / full_scale).astype(np.float32)[:, None]
    report, found = save(tmp_path, {"a": samples}, OutputFormat(*pair), block_frames=30_000, clip=clip)
    assert (report.gain, report.clipped_samples) == (1.0, 0)
    np.testing.assert_array_equal(found["a"], samples)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 400), st.integers(1, 130), st.sampled_from([("wav", "PCM_16"), ("wav", "FLOAT")]))
def test_blocks_do_not_matter(tmp_path, frames, block_frames, pair):
    stems = {"a": noise(frames, gain=1.0)}
    _, once = save(tmp_path, stems, OutputFormat(*pair), max(frames, 1))
    _, found = save(tmp_path, stems, OutputFormat(*pair), block_frames)
    np.testing.assert_array_equal(found["a"], once["a"])


@pytest.mark.parametrize("pair", [("wav", "PCM_16"), ("wav", "PCM_32"), ("flac", "PCM_24"), ("wav", "PCM_U8")])
@pytest.mark.parametrize("sign", [1, -1])
def test_rescale_is_one_gain_for_all_stems(tmp_path, pair, sign):
    stems = {"loud": noise(3000, gain=0.2), "quiet": noise(3000, gain=0.01, seed=1)}
    stems["loud"][1700, 1] = 2.5 * sign
    report, found = save(tmp_path, stems, OutputFormat(*pair))
    step = 1 / 2 ** (SUBTYPE_BITS[pair[1]] - 1)
    assert report.peak == 2.5
    assert report.gain == pytest.approx((1 - step if sign > 0 else 1) / 2.5, rel=1e-6)
    assert report.clipped_samples == 0
    for stem, samples in stems.items():
        assert np.abs(found[stem] - report.gain * samples).max() <= max(0.5 * step, 1e-7) * 1.001


@pytest.mark.parametrize("container", ["ogg", "mp3"])
def test_codecs_are_rescaled_too(tmp_path, container):
    tone = (2.5 * np.sin(np.arange(40_000) * 0.05)).astype(np.float32)[:, None]
    subtype = CONTAINERS[container].subtypes[0]
    report, found = save(tmp_path, {"a": tone}, OutputFormat(container, subtype))
    assert report.clipped_samples == 0
    assert np.abs(found["a"]).max() == pytest.approx(1, abs=0.1)
    report, found = save(tmp_path, {"a": tone}, OutputFormat(container, subtype), clip="none")
    assert (report.gain, report.clipped_samples) == (1, 0)
    assert np.abs(found["a"]).max() == pytest.approx(2.5, abs=0.2)
    report, found = save(tmp_path, {"a": tone}, OutputFormat(container, subtype), clip="clamp")
    assert report.clipped_samples == np.count_nonzero(np.abs(tone) > 1)
    assert np.abs(found["a"]).max() < 1.5


@pytest.mark.parametrize("clip", ["clamp", "none"])
@pytest.mark.parametrize("pair", INTEGERS)
def test_integers_saturate_and_never_wrap(tmp_path, pair, clip):
    samples = np.array([[-300.0], [-1.5], [-1.0], [0.5], [1.0], [1.5], [300.0]], np.float32)
    report, found = save(tmp_path, {"a": samples}, OutputFormat(*pair), clip=clip)
    top = np.float32(1 - 2.0 ** (1 - SUBTYPE_BITS[pair[1]]))
    np.testing.assert_array_equal(found["a"][:, 0], np.array([-1, -1, -1, 0.5, top, top, top], np.float32))
    assert report.clipped_samples == (4 if pair[1] == "PCM_32" else 5)


@pytest.mark.parametrize("clip", ["rescale", "clamp", "none"])
def test_float_is_never_touched(tmp_path, clip):
    stems = {"a": noise(3000, gain=3)}
    report, found = save(tmp_path, stems, OutputFormat("wav", "FLOAT"), clip=clip)
    assert (report.gain, report.clipped_samples) == (1, 0)
    np.testing.assert_array_equal(found["a"], stems["a"])


@pytest.mark.parametrize("bits", [16, 24])
def test_stems_still_sum_after_quantisation(tmp_path, bits):
    full_scale = 2 ** (bits - 1)
    mixture = np.rint(noise(4000) * full_scale) / full_scale
    vocals = noise(4000, gain=0.05, seed=1)
    stems = {"vocals": vocals, "accompaniment": (mixture - vocals).astype(np.float32)}
    _, found = save(tmp_path, stems, OutputFormat("wav", f"PCM_{bits}"))
    assert np.abs(sum(x.astype(float) for x in found.values()) - mixture).max() * full_scale <= 1.01


# --- containers


@pytest.mark.parametrize("clip", ["rescale", "none"])
@pytest.mark.parametrize("expected", [None, "as many"])
@pytest.mark.parametrize(("frames", "magic"), [(1000, b"RIFF"), (1001, b"RF64")])
def test_rf64_only_where_wav_would_overflow(tmp_path, monkeypatch, clip, expected, frames, magic):
    """Decided by what was written: most readers refuse RF64."""
    monkeypatch.setattr(wav, "LIMIT_BYTES", 1000 * 4)
    output, samples = OutputFormat("wav", "PCM_16"), {"a": noise(frames)}
    _, found = save(tmp_path, samples, output, clip=clip, expected_frames=expected and frames)
    assert (tmp_path / "a.wav").read_bytes()[:4] == magic
    assert found["a"].shape == (frames, 2)
    assert probe(tmp_path / "a.wav").frames == frames


@pytest.mark.parametrize("pair", [pair for pair in ALL if pair[0] == "wav"])
@pytest.mark.parametrize("frames", [0, 1, 10])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_headers_of_wav_are_those_of_another_writer(tmp_path, pair, frames, channels):
    save(tmp_path, {"a": noise(frames, channels)}, OutputFormat(*pair), clip="clamp", expected_frames=frames)
    soundfile.write(tmp_path / "b.wav", noise(frames, channels), RATE, pair[1])
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("a.wav", "b.wav"))
    assert len(ours) == 8 + int.from_bytes(ours[4:8], "little")
    if pair[1] == "FLOAT":  # theirs has a chunk with the peak and the time
        np.testing.assert_array_equal(
            soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)[0], noise(frames, channels)
        )
    else:
        assert ours[:44] == theirs[:44]
        assert len(ours) == len(theirs)


@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize("mask", [0x60F, 0x3F, 0x10B | 0x30, 0x33, 0x603, 0xB, 0x63F])
def test_the_channel_mask_is_kept(tmp_path, container, mask):
    channels = mask.bit_count()
    samples = noise(3000, channels)
    given = AudioInfo(tmp_path, RATE, channels, 3000, "WAV", "PCM_16", False, mask)
    save(tmp_path, {"a": samples}, choose_output(given, container))
    path = tmp_path / f"a.{container}"
    assert probe(path).channel_mask == mask
    with av.open(str(path)) as file:  # and others see it
        seen = [channel.name for channel in file.streams.audio[0].layout.channels]
    assert layout.mask_of(seen) == mask
    whole = np.concatenate([*read_blocks(path)])
    np.testing.assert_allclose(whole, samples, atol=1e-4)


def test_a_mask_of_another_number_of_channels_is_not_kept(tmp_path):
    given = AudioInfo(tmp_path, RATE, 2, 3000, "WAV", "PCM_16", False, 0x4)
    assert choose_output(given, "wav").channel_mask == 0


def test_more_than_was_announced_never_overflows(tmp_path, monkeypatch):
    monkeypatch.setattr(wav, "LIMIT_BYTES", 1000 * 4)
    with pytest.raises(AudioWriteError) as caught:
        save(tmp_path, {"a": noise(2000)}, OutputFormat("wav", "PCM_16"), clip="none", expected_frames=10)
    assert "4 GiB" in error_of(caught)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pair", ALL)
@pytest.mark.parametrize("clip", ["rescale", "none"])
def test_a_song_of_no_frames(tmp_path, pair, clip):
    stems = {"a": noise(0)}
    if pair[0] in ("flac", "mp3"):
        with pytest.raises(AudioWriteError, match="0 frames; choose wav"):
            save(tmp_path, stems, OutputFormat(*pair), clip=clip)
        assert not list(tmp_path.iterdir())
    else:
        report, found = save(tmp_path, stems, OutputFormat(*pair), clip=clip)
        assert report.frames == len(found["a"]) == 0


# --- complete or not at all


@pytest.mark.parametrize("clip", ["rescale", "none"])
@pytest.mark.parametrize("pair", EACH_ENCODER)
@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, None])
def test_nothing_remains_without_a_commit(tmp_path, pair, clip, failure):
    kept = tmp_path / "old" / "vocals.x"
    kept.parent.mkdir()
    kept.write_text("older")
    paths = {"vocals": kept, "other": tmp_path / "new" / "deep" / "other.x"}
    expected = pytest.raises(failure) if failure else contextlib.nullcontext()
    with expected, StemWriter(paths, RATE, 2, OutputFormat(*pair), clip=clip) as writer:
        writer.write({stem: noise(3000) for stem in paths})
        waiting = [path for path in tmp_path.rglob("*") if path.is_file() and path != kept]
        assert all(path.name.startswith(".") and path.suffix == ".part" for path in waiting)
        assert {path.parent for path in waiting} == {path.parent for path in paths.values()}
        if failure is not None:
            raise failure
    assert sorted(tmp_path.rglob("*")) == [kept.parent, kept]
    assert kept.read_text() == "older"


def test_a_disk_that_fails_late_leaves_no_stem(tmp_path, monkeypatch):
    synced = []

    def fsync(_):
        synced.append(None)
        if len(synced) == 2:  # of the second stem; the first must not have its name by then
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(AudioWriteError, match=r"b\.wav: cannot be written: the disk is full"):
        save(tmp_path, {"a": noise(10), "b": noise(10)}, OutputFormat("wav", "PCM_16"))
    assert not list(tmp_path.iterdir())


def test_commit_replaces_and_leaves_only_the_stems(tmp_path):
    (tmp_path / "a.wav").write_text("older")
    save(tmp_path, {"a": noise(10), "b": noise(10)}, OutputFormat("wav", "PCM_16"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "b.wav").stat().st_mode


@pytest.mark.parametrize("name", ["ü 日本", "dot.", "space ", "x" * 240, "a:b%d"])
def test_any_name_can_be_written(tmp_path, name):
    save(tmp_path / name, {name: noise(10)}, OutputFormat("flac", "PCM_16"))
    assert [path.name for path in (tmp_path / name).iterdir()] == [f"{name}.flac"]


def test_a_folder_or_a_file_in_the_way(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioWriteError, match="is a folder"):
        save(tmp_path, {"b": noise(10), "a": noise(10)}, OutputFormat("wav", "PCM_16"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(AudioWriteError) as caught:
            save(folder, {"a": noise(10)}, OutputFormat("wav", "PCM_16"))
        assert "is a file" in error_of(caught)


def test_a_name_too_long(tmp_path):
    with pytest.raises(AudioWriteError, match="too long"):
        save(tmp_path / "new", {"x" * 300: noise(10)}, OutputFormat("wav", "PCM_16"))
    assert not list(tmp_path.iterdir())


def test_nan_is_not_written(tmp_path):
    samples = noise(10)
    samples[3] = np.nan
    with pytest.raises(AudioWriteError, match="NaN"):
        save(tmp_path, {"a": samples}, OutputFormat("wav", "PCM_16"))
    assert not list(tmp_path.iterdir())


def test_wrong_blocks_are_the_callers_error(tmp_path):
    with StemWriter({"a": tmp_path / "a", "b": tmp_path / "b"}, RATE, 2, OutputFormat("wav", "FLOAT")) as writer:
        with pytest.raises(ValueError, match="expected"):
            writer.write({"a": noise(10)})
        with pytest.raises(ValueError, match="shape"):
            writer.write({"a": noise(10), "b": noise(11)})
        with pytest.raises(ValueError, match="shape"):
            writer.write({"a": noise(10, 1), "b": noise(10, 1)})


FULL_DISK = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from waveunet_cli.audio import OutputFormat, StemWriter
from waveunet_cli.errors import AudioWriteError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, clip, frames = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for container, subtype in (pair.split("/") for pair in sys.argv[4:]):
    noise = (np.random.default_rng(0).standard_normal((frames, 2)) * 0.1).astype(np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
        with StemWriter({"a": folder / "new" / "a.x"}, 44100, 2, OutputFormat(container, subtype), clip) as writer:
            for start in range(0, frames, 1000):
                writer.write({"a": noise[start : start + 1000]})
            writer.commit()
        print("written", container)
    except AudioWriteError as error:
        print("refused" if "larger than is allowed" in str(error) else error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    print(*folder.iterdir())
"""


@pytest.mark.thorough
@pytest.mark.parametrize(("clip", "frames"), [("none", 50_000), ("rescale", 50_000)])
def test_a_full_disk_leaves_nothing(tmp_path, clip, frames):
    pairs = [f"{container}/{subtype}" for container, subtype in ALL]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path, clip, str(frames), *pairs], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["refused", ""] * len(pairs)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_encoder_that_refuses_leaves_nothing(tmp_path):
    paths = {"a": tmp_path / "new" / "a.mp3"}
    output = OutputFormat("mp3", "MPEG_LAYER_III")
    with pytest.raises(AudioWriteError, match="encoder failed"), StemWriter(paths, 96000, 2, output, "none"):
        pass
    assert not list(tmp_path.iterdir())
