"""A song through the whole data path: as many frames, the channels it had, and stems that sum to it."""

import pickle
import threading
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from small_models import FOUR, TINY, VALID, Windowed, identity, model_of
from waveunet_cli.devices import Placement, compute_on
from waveunet_cli.errors import AudioReadError, AudioWriteError, ConfigError, DeviceError, WaveUNetError
from waveunet_cli.networks import family
from waveunet_cli.networks.family import Model
from waveunet_cli.separator import Separator
from waveunet_cli.streaming import engine
from waveunet_cli.streaming.channels import ChannelLayout
from waveunet_cli.streaming.resample import Resampler
from waveunet_cli.streaming.song import BLOCK_FRAMES
from waveunet_cli.streaming.stems import StemSelection

EXAMPLES = settings(deadline=None, max_examples=25)
DIFFERENCE = replace(TINY, output="difference")
LOW = replace(DIFFERENCE, sample_rate=22_050, channels=2)


def noise(frames, channels=2, gain=0.1, seed=0):
    return (np.random.default_rng(seed).standard_normal((frames, channels)) * gain).astype(np.float32)


def separator(config=DIFFERENCE, **options):
    model = config if isinstance(config, Model) else model_of(config)
    return Separator(model, "cpu", options.pop("precision", "float32"), **options)


def decibel(x):
    return 10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-30)


def above(x, rate, hz):
    """What lies above a frequency, as samples, faded at both ends: a song that is cut off has all frequencies there."""
    spectrum = np.fft.rfft(x * np.hanning(len(x))[:, None], axis=0)
    spectrum[np.fft.rfftfreq(len(x), 1 / rate) < hz] = 0
    return np.fft.irfft(spectrum, len(x), axis=0)


# --- lengths


CONTEXT = TINY.window().context
RATES = [8000, 44_100, 22_050]


@pytest.mark.parametrize("frames", [0, 1, 2, CONTEXT - 1, CONTEXT, 100, 1001])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("windowed", [False, True], ids=["carried", "windows"])
def test_stems_are_as_long_as_the_song(frames, rate, windowed):
    model = model_of(DIFFERENCE)
    model = replace(model, network=Windowed(model.network)) if windowed else model
    stems = separator(model).separate(noise(frames), rate)
    assert {stem: audio.shape for stem, audio in stems.items()} == {
        "accompaniment": (frames, 2),
        "vocals": (frames, 2),
    }
    assert {audio.dtype for audio in stems.values()} == {np.dtype(np.float32)}


def test_a_padded_model_keeps_every_frame_too():
    for frames in (0, 1, 15, 16, 33):
        assert len(separator(replace(TINY, padding="same")).separate(noise(frames), 8000)["vocals"]) == frames


# --- paths agree


@EXAMPLES
@given(st.integers(0, 400), st.lists(st.integers(0, 90), min_size=1, max_size=4).filter(any), st.sampled_from(RATES))
def test_blocks_do_not_show(frames, cuts, rate):
    song = noise(frames)
    whole = separator().separate(song, rate)
    blocks, start = [song[:0]], 0
    while start < frames:
        for size in cuts:
            blocks.append(song[start : start + size])
            start += size
    parts = list(separator(segment_seconds=0.004).stream(blocks, rate))
    for stem, audio in whole.items():
        np.testing.assert_allclose(np.concatenate([part[stem] for part in parts]), audio, atol=1e-5)


def test_a_stream_without_blocks_yields_nothing():
    assert list(separator().stream([], 8000)) == []


@pytest.mark.parametrize("config", VALID[:4], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_and_carried_layers_agree(config, batch):
    model = model_of(config)
    song = noise(3000, 3)
    carried = separator(model).separate(song, 44_100)
    windowed = separator(replace(model, network=Windowed(model.network)), segment_seconds=0.01)
    windowed._engine = replace(windowed._engine, batch=batch)
    for stem, audio in windowed.separate(song, 44_100).items():
        np.testing.assert_allclose(audio, carried[stem], atol=1e-5)


def test_the_next_song_knows_nothing_of_the_last():
    shared = separator(LOW)
    first = shared.separate(noise(500), 44_100)
    shared.separate(noise(700, 1, seed=1), 48_000)
    for stem, audio in shared.separate(noise(500), 44_100).items():
        np.testing.assert_array_equal(audio, first[stem])


def test_bfloat16_windows_are_close():
    model = model_of(VALID[1])
    song = noise(2000)
    exact = separator(model).separate(song, 8000)["vocals"]
    for network in (model.network, Windowed(model.network)):
        rounded = separator(replace(model, network=network), precision="bfloat16").separate(song, 8000)["vocals"]
        assert -80 < decibel(rounded - exact) - decibel(exact) < -25


# --- nothing is changed on the way


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("model_channels", [1, 2])
@pytest.mark.parametrize("segment", [None, 0.001])
def test_an_identity_returns_the_song_bit_for_bit(channels, model_channels, segment):
    song = noise(2345, channels)
    stems = separator(identity(channels=model_channels), segment_seconds=segment).separate(song, 44_100)
    for audio in stems.values():
        np.testing.assert_array_equal(audio, song)


@pytest.mark.parametrize(("subtype", "container"), [("PCM_16", "wav"), ("PCM_24", "flac"), ("FLOAT", "wav")])
def test_a_file_through_an_identity_is_the_same_file(tmp_path, subtype, container):
    path = tmp_path / f"song.{container}"
    soundfile.write(path, noise(70_000, gain=0.3), 44_100, subtype)
    done = separator(identity()).separate_file(path, tmp_path / "out", container=container)
    expected, _ = soundfile.read(path, dtype="float32")
    for stem in done.stems.values():
        found = soundfile.info(stem)
        assert (found.subtype, found.samplerate, found.frames) == (subtype, 44_100, 70_000)
        np.testing.assert_array_equal(soundfile.read(stem, dtype="float32")[0], expected)
    assert (done.gain, done.skipped) == (1.0, False)
    assert done.seconds == pytest.approx(70_000 / 44_100)
    assert done.peak == np.abs(expected).max()


def test_a_resampled_identity_stays_in_place():
    # Two resamplings cost the top octave's edge, but neither a shift nor a gain.
    t = np.arange(20_000)[:, None] / 48_000
    song = (0.5 * np.sin(2 * np.pi * np.array([440.0, 3000.0]) * t)).astype(np.float32)
    stems = separator(identity()).separate(song, 48_000)
    error = (stems["vocals"] - song)[2000:-2000]
    assert decibel(error) - decibel(song) < -80


# --- what stems were made with


def test_the_hash_of_a_model_is_that_of_older_releases():
    model = model_of(TINY)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    made = Separator(model, "cpu", "float32")
    assert made.model.sha256 == "b518c3295fc68271b40b5fe03ee9cc1f00332c92c193c13a265496a79a470841"


def test_a_separator_gives_up_the_network_for_its_folded_kernels():
    model = model_of(TINY)
    network, known = weakref.ref(model.network), model.known
    separator = Separator(model, "cpu", "float32")
    assert separator.loaded is model
    del model
    separator.separate(noise(500, TINY.channels), TINY.sample_rate)
    assert network() is None
    assert separator.model == known
    with pytest.raises(ConfigError, match="make a new one"):
        separator.loaded  # noqa: B018


def test_a_separator_can_be_pickled_before_and_after_a_song():
    song, first = noise(2000), separator()
    for _ in range(2):
        copy = pickle.loads(pickle.dumps(first))
        for stem, audio in first.separate(song, 8000).items():
            np.testing.assert_array_equal(copy.separate(song, 8000)[stem], audio)


def test_all_separators_compute_in_one_thread(monkeypatch):
    """So that threads of several do not wait for each other, and only one has the buffers of matrix products."""
    threads = []

    def seen(function):
        def spy(*arguments):
            threads.append(threading.current_thread())
            return function(*arguments)

        return spy

    monkeypatch.setattr("waveunet_cli.separator.new_engine", seen(engine.new_engine))
    monkeypatch.setattr("waveunet_cli.networks.family.build_network", seen(family.build_network))
    for _ in range(2):
        song = Separator(DIFFERENCE, "cpu").song(8000, 2)
        song._network.push = seen(song._network.push)
        song.push(noise(10))
    assert len(threads) == 6
    assert len(set(threads)) == 1
    assert threading.current_thread() not in threads


def test_a_function_that_loads_runs_where_it_can_be_interrupted():
    """It may download: in the thread that computes, that would go on after Ctrl-C, and all others would wait."""
    threads = []

    def loads():
        threads.append(threading.current_thread())
        return model_of(DIFFERENCE)

    Separator(loads, "cpu")
    assert threads == [threading.current_thread()]


def test_what_else_computes_has_its_turn_within_a_long_block(monkeypatch):
    """And after Ctrl-C no more than a part of the block is computed."""
    calls = []

    def interrupted(device, function, *arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(arguments[0]))
        return compute_on(device, function, *arguments)

    song = separator().song(8000, 2)
    monkeypatch.setattr("waveunet_cli.streaming.song.compute_on", interrupted)
    with pytest.raises(KeyboardInterrupt):
        song.push(noise(3 * BLOCK_FRAMES))
    assert calls == [BLOCK_FRAMES, BLOCK_FRAMES]


# --- channels


def test_mono_stays_mono_and_a_flat_array_stays_flat():
    song = noise(500, 1)
    for config in (DIFFERENCE, LOW):
        column = separator(config).separate(song, 44_100)["vocals"]
        flat = separator(config).separate(song[:, 0], 44_100)["vocals"]
        assert (column.shape, flat.shape) == ((500, 1), (500,))
        np.testing.assert_array_equal(column[:, 0], flat)


def test_stereo_on_request():
    song = noise(500, 1)
    stems = separator(LOW, stereo=True).separate(song[:, 0], 22_050)
    twice = separator(LOW).separate(np.hstack([song, song]), 22_050)
    for stem, audio in stems.items():
        assert audio.shape == (500, 2)
        np.testing.assert_array_equal(audio, twice[stem])
    np.testing.assert_array_equal(
        separator(LOW).separate(song, 22_050)["vocals"][:, 0], twice["vocals"].mean(1, dtype=np.float32)
    )
    assert separator(stereo=True).separate(song, 8000)["vocals"].shape == (500, 2)
    assert separator(stereo=True).separate(noise(500, 3), 8000)["vocals"].shape == (500, 3)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_a_mono_model_takes_channels_one_by_one(channels):
    song = noise(500, channels)
    together = separator().separate(song, 8000)
    for channel in range(channels):
        for stem, audio in separator().separate(song[:, channel], 8000).items():
            np.testing.assert_allclose(together[stem][:, channel], audio, atol=1e-6)


def test_a_stereo_model_takes_channels_in_pairs():
    song = noise(500, 5)
    together = separator(LOW).separate(song, 22_050)
    for pair in (slice(0, 2), slice(2, 4), slice(4, 5)):
        for stem, audio in separator(LOW).separate(song[:, pair], 22_050).items():
            np.testing.assert_allclose(together[stem][:, pair], audio, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "model", "stereo", "out", "groups"),
    [(1, 2, False, 1, 1), (1, 1, True, 2, 2), (6, 2, True, 6, 3), (3, 2, False, 3, 2)],
)
def test_channel_plans(file, model, stereo, out, groups):
    plan = ChannelLayout(file, model, stereo)
    assert (plan.out, plan.groups) == (out, groups)
    x = torch.randn(file, 7)
    there = plan.to_model(plan.at_the_door(x))
    assert there.shape == (groups, model, 7)
    torch.testing.assert_close(plan.from_model(there[:, None])[0], plan.at_the_door(x))


# --- sums and bands


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000, 16_000])
@pytest.mark.parametrize("sources", [("accompaniment", "vocals"), ("vocals", "accompaniment"), FOUR])
def test_difference_models_sum_to_the_mixture(rate, sources):
    config = replace(LOW, sources=sources, residual="other" if sources == FOUR else "accompaniment")
    song = noise(rate // 5, gain=0.3)
    stems = separator(config).separate(song, rate)
    assert list(stems) == list(sources)
    assert decibel(sum(stems.values()) - song) - decibel(song) < -90
    assert decibel(stems["vocals"]) > -50  # and not because the others are silent


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_only_the_residual_has_what_the_model_cannot_hear(rate):
    song = noise(rate, gain=0.3)
    stems = separator(LOW).separate(song, rate)
    audible = above(song, rate, 12_500)
    assert decibel(audible) > -20
    assert decibel(above(stems["vocals"], rate, 12_500)) < decibel(audible) - 90
    np.testing.assert_allclose(above(stems["accompaniment"], rate, 12_500), audible, atol=1e-4)


def test_integer_stems_sum_within_one_step_each(tmp_path):
    soundfile.write(tmp_path / "song.wav", noise(48_000, gain=0.05), 48_000, "PCM_16")
    done = separator(replace(LOW, sources=FOUR, residual="other")).separate_file(tmp_path / "song.wav", tmp_path)
    assert done.gain == 1
    mixture = soundfile.read(tmp_path / "song.wav", dtype="int16")[0].astype(int)
    total = sum(soundfile.read(stem, dtype="int16")[0].astype(int) for stem in done.stems.values())
    assert np.abs(total - mixture).max() <= 4


def test_direct_models_are_not_forced_to_sum():
    song = noise(4000)
    stems = separator(TINY).separate(song, 8000)
    assert decibel(sum(stems.values()) - song) > -40


@pytest.mark.parametrize("config", [TINY, LOW], ids=["direct", "difference"])
@pytest.mark.parametrize("stem", ["vocals", "accompaniment"])
def test_a_stem_and_its_opposite_sum_to_the_mixture(config, stem):
    song = noise(4000)
    stems = separator(config, two_stems=stem).separate(song, 44_100)
    assert list(stems) == [stem, f"no_{stem}"]
    assert decibel(sum(stems.values()) - song) - decibel(song) < -90
    np.testing.assert_allclose(stems[stem], separator(config).separate(song, 44_100)[stem], atol=1e-6)


@pytest.mark.parametrize("wanted", [("vocals",), ("other", "bass"), ("drums", "vocals", "bass", "other")])
def test_chosen_stems_are_those_of_a_full_run(wanted):
    config = replace(LOW, sources=FOUR, residual="other")
    song = noise(3000)
    every = separator(config).separate(song, 44_100)
    some = separator(config, stems=wanted)
    assert some.stems == wanted
    found = some.separate(song, 44_100)
    assert tuple(found) == wanted
    for stem, audio in found.items():
        np.testing.assert_array_equal(audio, every[stem])


# --- what is refused


@pytest.mark.parametrize(
    "options",
    [
        {"stems": ["drums"]},
        {"stems": []},
        {"stems": ["vocals", "vocals"]},
        {"two_stems": "drums"},
        {"two_stems": "no_vocals"},
        {"stems": ["vocals"], "two_stems": "vocals"},
        *({"segment_seconds": seconds} for seconds in (0, -1, float("nan"), float("inf"), 1e9)),
    ],
    ids=str,
)
def test_settings_that_cannot_be(options):
    with pytest.raises(ConfigError) as caught:
        separator(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(), (10, 0), (10, 2, 2)])
def test_arrays_that_are_no_mixture(shape):
    with pytest.raises(ConfigError, match=r"\(frames, channels\) or \(frames,\), found"):
        separator().separate(np.zeros(shape, np.float32), 8000)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((10, 2), np.int16), "samples are floats within ±1, found int16"),
        (np.zeros(10, np.float32), r"is \(frames, channels\), found \(10,\)"),
        (np.full((10, 2), np.nan, np.float32), "NaN or infinite"),
        (np.zeros((10, 1), np.float32), "has 1 channels, those before 2"),
    ],
    ids=str,
)
def test_a_stream_refuses_what_an_array_may_not_hold(block, message):
    good = np.zeros((10, 2), np.float32)
    with pytest.raises(ConfigError, match=message):
        list(separator().stream([good, block], 8000))


def test_a_song_that_ends_before_it_begins_has_no_frames():
    assert {stem: audio.shape for stem, audio in separator().song(8000, 2).flush().items()} == dict.fromkeys(
        separator().stems, (0, 2)
    )


@pytest.mark.parametrize("channels", [0, -1, 1.5, None, "2"])
def test_a_song_of_no_channels(channels):
    for asked in (separator().channels, lambda channels: separator().song(8000, channels)):
        with pytest.raises(ConfigError, match=r"channels: found .*; give a whole number from 1 on"):
            asked(channels)


@pytest.mark.parametrize("place", ["", "a\0b", "s3://bucket/song.wav"])
def test_a_file_is_on_this_machine(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", noise(100), 8000)
    for path, out in ((place, "out"), ("song.wav", place)):
        with pytest.raises(ConfigError, match=r"is no path; name a file|is an address; give it to separate_songs"):
            separator().separate_file(path, out)
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


def test_a_model_is_loaded_once_all_else_is_checked():
    asked = []

    def load():
        asked.append("load")
        return model_of(DIFFERENCE)

    for options in ({"device": "gpu"}, {"precision": "int8"}, {"segment_seconds": np.nan}, {"stems": "vocals"}):
        with pytest.raises(WaveUNetError):
            Separator(load, **options)
    assert not asked
    assert Separator(load, "cpu").model.config == DIFFERENCE
    assert asked == ["load"]


def test_a_song_that_has_ended_takes_no_more():
    song = separator().song(8000, 2)
    song.push(noise(10))
    song.flush()
    for more in (lambda: song.push(noise(10)), song.flush):
        with pytest.raises(ConfigError, match="has ended with flush; open another stream"):
            more()


@pytest.mark.parametrize("rate", ["44100", 44_100.0, 0, -1, None])
@pytest.mark.parametrize("output", ["difference", "masked"])
def test_rates_that_cannot_be(rate, output):
    with pytest.raises(ConfigError, match="sampling rate: found"):
        separator(replace(TINY, output=output)).separate(noise(10), rate)


def test_a_huge_block_passes_in_parts():
    song, passed = separator(identity()).song(44_100, 2), []
    push = song._network.push
    song._network.push = lambda x: passed.append(x.shape[-1]) or push(x)
    song.push(noise(3 * BLOCK_FRAMES + 1))
    assert passed == [BLOCK_FRAMES] * 3 + [1]


def test_an_array_is_separated_in_little_more_than_its_stems_need():
    song = noise(2_000_000)
    run = separator()
    run.separate(song[:1000], 8000)  # what is made once
    tracemalloc.start()  # numpy tells it; torch's blocks are as short for any song
    run.separate(song, 8000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < (len(run.stems) + 0.2) * song.nbytes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39, -1e300])  # float32 holds 3.4e38
def test_samples_that_are_no_numbers(bad):
    song = noise(100).astype(np.float64)
    song[50, 1] = bad
    with pytest.raises(ConfigError, match="NaN or infinite"):
        separator().separate(song, 8000)


def test_doubles_are_taken_and_integers_refused():
    song = np.array([[0.0], [1.0], [-1.0]] * 20)
    expected = separator().separate(song.astype(np.float32), 8000)["vocals"]
    np.testing.assert_array_equal(separator().separate(song, 8000)["vocals"], expected)
    with pytest.raises(ConfigError, match="int16; divide"):
        separator().separate(song.astype(np.int16), 8000)


def test_channels_in_the_place_of_frames_are_noticed():
    with pytest.raises(ConfigError, match="transpose"):
        separator().separate(np.zeros((2, 88_200)), 8000)


# --- files


@pytest.fixture
def song(tmp_path) -> Path:
    soundfile.write(tmp_path / "song.wav", noise(20_000), 8000, "PCM_16")
    return tmp_path / "song.wav"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_progress_reaches_the_end(song, tmp_path, monkeypatch):
    monkeypatch.setattr("waveunet_cli.library.song.READ_FRAMES", 3000)
    told = []
    done = separator(segment_seconds=0.1).separate_file(song, tmp_path, on_event=told.append)
    assert (told[0].event, told[-1].event) == ("file_start", "file_done")
    said = [event for event in told if event.event == "progress"]
    assert len(said) > 5
    assert [event.done_seconds for event in said] == sorted(event.done_seconds for event in said)
    assert {event.total_seconds for event in said} == {2.5}
    assert said[-1].done_seconds == done.seconds == 2.5


def test_blocks_of_a_file_do_not_show(song, tmp_path, monkeypatch):
    expected = separator().separate(soundfile.read(song, dtype="float32", always_2d=True)[0], 8000)
    monkeypatch.setattr("waveunet_cli.library.song.READ_FRAMES", 777)
    done = separator(segment_seconds=0.01).separate_file(song, tmp_path, subtype="FLOAT")
    for stem, path in done.stems.items():
        np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], expected[stem], atol=1e-5)


def test_skipping_and_overwriting(song, tmp_path):
    run = separator()
    done = run.separate_file(song, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in done.stems.values()] == [
        "tiny/song/accompaniment.wav",
        "tiny/song/vocals.wav",
    ]
    vocals = done.stems["vocals"]
    whole = vocals.read_bytes()
    vocals.write_bytes(b"mine")
    assert run.separate_file(song, tmp_path, overwrite="never").skipped
    assert vocals.read_bytes() == b"mine"
    assert not run.separate_file(song, tmp_path, overwrite="always").skipped
    assert vocals.read_bytes() == whole
    done.stems["accompaniment"].unlink()  # no longer complete
    vocals.write_bytes(b"mine")
    assert not run.separate_file(song, tmp_path, overwrite="never").skipped
    assert vocals.read_bytes() == whole
    assert run.separate_file(song, tmp_path).skipped
    fresh = separator()
    assert fresh.separate_file(song, tmp_path).skipped
    assert "_engine" not in vars(fresh)  # no kernels were folded for nothing


def test_a_song_is_never_overwritten_by_its_stem(song, tmp_path):
    vocals = song.rename(tmp_path / "vocals.wav")
    before = vocals.read_bytes()
    with pytest.raises(ConfigError, match="is a song to be separated"):
        separator().separate_file(vocals, tmp_path, filename="{stem}.{ext}", overwrite="always")
    assert vocals.read_bytes() == before
    assert files(tmp_path) == ["vocals.wav"]


def test_a_failure_inside_the_network_leaves_nothing(song, tmp_path, monkeypatch):
    monkeypatch.setattr("waveunet_cli.library.song.READ_FRAMES", 3000)
    before = files(tmp_path)
    for error, seen in (
        (KeyboardInterrupt, KeyboardInterrupt),
        (ValueError("a bug"), WaveUNetError),
        (RuntimeError("a bug"), WaveUNetError),
        (torch.OutOfMemoryError("CUDA out of memory"), DeviceError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), DeviceError),
        (MemoryError(), DeviceError),
    ):
        model = identity(sample_rate=8000)
        calls = []

        def forward(x, model=model, calls=calls, error=error):
            calls.append(x)
            if len(calls) > 3:
                raise error
            return type(model.network).forward(model.network, x)

        monkeypatch.setattr(model.network, "forward", forward)
        with pytest.raises(seen) as caught:
            separator(model).separate_file(song, tmp_path / "out" / "deeper")
        if seen is DeviceError:
            assert "not enough memory on cpu" in str(caught.value)
            assert "\n" not in str(caught.value)
        assert files(tmp_path) == before


def test_a_full_disk_is_noticed_before_computing(song, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "waveunet_cli.library.song.shutil.disk_usage", lambda path: type("Usage", (), {"free": 100_000, "total": 10**9})
    )
    with pytest.raises(AudioWriteError, match=r"0\.3 MB needed .* free some space or choose another --out"):
        separator().separate_file(song, tmp_path / "out")
    assert files(tmp_path) == ["song.wav"]


def test_a_bad_sample_late_in_a_file_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("waveunet_cli.library.song.READ_FRAMES", 1000)
    samples = noise(5000)
    samples[4000] = np.nan
    soundfile.write(tmp_path / "song.wav", samples, 8000, "FLOAT")
    with pytest.raises(AudioReadError, match="frame 4000"):
        separator().separate_file(tmp_path / "song.wav", tmp_path / "out")
    assert files(tmp_path) == ["song.wav"]


def test_a_name_too_long_is_one_line(song, tmp_path):
    with pytest.raises(AudioWriteError, match="too long"):
        separator().separate_file(song, tmp_path / "out", track="x" * 300)
    assert files(tmp_path) == ["song.wav"]


def test_the_gpu_defaults(monkeypatch):
    monkeypatch.setattr(engine, "FrugalNetwork", lambda network, window, placement, on_event: None)
    on_gpu = Placement(torch.device("cuda"), torch.bfloat16, may_leave=True)
    found = engine.new_engine(model_of(replace(LOW, sample_rate=44_100)), on_gpu, None, print)
    assert found.batch == engine.GPU_BATCH
    assert found.window.hop >= 8 * 44_100
    assert str(on_gpu) == "cuda, bfloat16"


# --- plans


def test_plans_ask_the_network_for_no_more_than_needed():
    config = replace(LOW, sources=FOUR, residual="other")
    assert StemSelection.of(config, ["vocals"]).estimated == (3,)
    assert StemSelection.of(config, ["other"]).estimated == (0, 1, 3)
    assert StemSelection.of(replace(config, output="direct"), ["other"]).estimated == (2,)
    assert StemSelection.of(config, two_stems="drums").stems == ("drums", "no_drums")


@pytest.mark.parametrize(("rate_hz", "channels"), [(1000, 2), (44_100, 31), (768_000, 1)])
def test_extreme_songs_pass_in_blocks_of_bounded_size(rate_hz, channels, monkeypatch):
    """However few frames of the file that are, nothing is lost at their seams."""
    separator = Separator(model_of(TINY), "cpu", "float32")
    samples = (
        np.random.default_rng(0).standard_normal((3000 if rate_hz < 768_000 else 40_000, channels)) * 0.1
    ).astype(np.float32)
    expected = separator.separate(samples, rate_hz)
    pushed = []
    monkeypatch.setattr("waveunet_cli.streaming.song.MOST_BLOCK_SAMPLES", 5000)
    push = Resampler.push
    monkeypatch.setattr(Resampler, "push", lambda self, x: (pushed.append(x.numel()), push(self, x))[1])
    found = separator.separate(samples, rate_hz)
    down = pushed[0:-4:2]  # into the network; every other one goes out of it, and at the end all that is left
    assert len(down) > 5
    assert max(down) <= 5000
    for stem, wanted in expected.items():
        assert np.abs(found[stem] - wanted).max() < 1e-5
