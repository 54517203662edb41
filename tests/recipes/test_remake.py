"""New pieces out of the stems of few songs, for training."""

import numpy as np
import pytest
import soundfile

RATE_HZ = 44_100


@pytest.fixture
def remake(recipe):
    return recipe("remake")


@pytest.fixture
def songs(tmp_path):
    t = np.arange(6 * RATE_HZ) / RATE_HZ
    for song, hz in (("one", 440), ("two", 880)):
        (tmp_path / "songs" / song).mkdir(parents=True)
        for stem in ("drums", "vocals"):
            soundfile.write(tmp_path / "songs" / song / f"{stem}.flac", 0.3 * np.sin(2 * np.pi * hz * t), RATE_HZ)
    return tmp_path / "songs"


def loudest_hz(x):
    return np.argmax(np.abs(np.fft.rfft(x[:RATE_HZ] * np.hanning(RATE_HZ))))  # a bin a Hz


@pytest.mark.parametrize(("semitones", "hz"), [(0, 440), (7, 659.3), (-12, 220)])
def test_a_passage_sounds_as_many_semitones_higher(remake, songs, semitones, hz):
    x = remake["passage"](np.random.default_rng(0), [songs / "one" / "drums.flac"], RATE_HZ, semitones)
    assert x.shape == (RATE_HZ, 2)
    assert loudest_hz(x[:, 0]) == pytest.approx(hz, abs=1)


def test_slices_are_played_again(remake):
    x = np.repeat(np.random.default_rng(0).normal(0, 0.1, 10 * RATE_HZ), 2).reshape(-1, 2).astype(np.float32)
    found = [remake["sliced"](np.random.default_rng(seed), x, drums=True) for seed in range(6)]
    for y in found:
        assert y.shape == x.shape
        assert np.abs(y).max() < 2 * np.abs(x).max()  # slices overlap only where they fade
    for y in found:  # white noise is like itself some slices later only if they come again
        power = np.abs(np.fft.rfft(y[:, 0], 2 * len(y))) ** 2
        likeness = np.fft.irfft(power)[RATE_HZ // 10 : len(y)] / power.mean()
        assert likeness.max() > 0.15


def test_a_sweep_takes_away_and_adds_nothing(remake):
    x = np.random.default_rng(0).normal(0, 0.1, (5 * RATE_HZ, 2)).astype(np.float32)
    y = remake["swept"](np.random.default_rng(1), x)
    assert y.shape == x.shape
    assert 0.01 < (y**2).mean() / (x**2).mean() < 0.9


def test_a_file_depends_on_seed_and_number_only(recipe, songs):
    def files(name, count):
        out = songs.parent / name
        options = ["--stems", "drums", "vocals", "--count", str(count), "--seconds", "5"]
        recipe("remake", str(out), str(songs), *options)
        return [soundfile.read(path)[0] for path in sorted(out.iterdir())]

    two, again = files("a", 2), files("b", 1)
    assert np.array_equal(two[0], again[0])
    assert not np.array_equal(*two)
    for audio in two:
        assert audio.shape == (5 * RATE_HZ, 2)
        assert np.abs(audio).max() == pytest.approx(0.9, abs=1e-3)


def test_a_passage_is_one_that_is_heard(remake, songs):
    silence = songs / "one" / "silence.flac"
    soundfile.write(silence, np.zeros(6 * RATE_HZ), RATE_HZ)
    drums = songs / "one" / "drums.flac"
    for seed in range(8):
        assert remake["passage"](np.random.default_rng(seed), [silence, silence, drums], RATE_HZ, 0).any()
        assert not remake["part"](np.random.default_rng(seed), [silence], "drums", RATE_HZ // 2).any()


def test_parts_are_as_loud_as_each_other_give_or_take(remake, songs):
    levels = []
    for seed in range(30):
        x = remake["part"](np.random.default_rng(seed), [songs / "one" / "vocals.flac"], "vocals", RATE_HZ)
        levels.append(10 * np.log10((x**2).mean()))
    assert abs(np.mean(levels)) < 3
    assert 2 < np.std(levels) < 7


def test_a_stem_that_no_song_has(recipe, songs, capsys):
    with pytest.raises(SystemExit, match="2"):
        recipe("remake", str(songs.parent / "a"), str(songs), "--stems", "bass")
    assert "no song has the stem bass" in capsys.readouterr().err


def test_a_file_of_another_rate_is_named(recipe, songs, capsys):
    soundfile.write(songs / "two" / "drums.flac", np.zeros(100), 48_000)
    with pytest.raises(SystemExit, match="2"):
        recipe("remake", str(songs.parent / "a"), str(songs), "--stems", "drums")
    assert "drums.flac: convert it to 44100 Hz" in capsys.readouterr().err
