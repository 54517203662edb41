"""Voices as a sampler plays them, for training."""

import json

import numpy as np
import pytest
import soundfile

RATE_HZ = 44_100


@pytest.fixture
def sampler(recipe):
    return recipe("sampler")


def tone(hz, frames=RATE_HZ):
    return np.sin(2 * np.pi * hz * np.arange(frames) / RATE_HZ).astype(np.float32)


@pytest.mark.parametrize(
    ("key", "played_hz"), [(57, 220), (69, 220), (60, 261.63), (65, 349.23), (67, 196), (40, 164.81)]
)
def test_a_sample_sounds_at_its_key_in_an_octave_near_the_singer(sampler, key, played_hz):
    x = sampler["Sample"](tone(220, 3 * RATE_HZ), 220.0).at(key)
    spectrum = np.abs(np.fft.rfft(x[:RATE_HZ] * np.hanning(RATE_HZ)))  # a bin a Hz
    assert np.argmax(spectrum) == pytest.approx(played_hz, abs=1)


def test_what_is_frozen_goes_on_as_loud_as_it_began(sampler):
    x = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    y = sampler["frozen"](x, 60_000)
    blocks = (y[9000:54_000].reshape(-1, 3000) ** 2).mean(1)
    assert len(y) == 60_000
    assert blocks == pytest.approx(0.01, rel=0.15)


def test_the_vocoder_gives_the_carrier_the_voices_strength_at_each_frequency(sampler):
    noise = np.random.default_rng(0).normal(0, 0.1, (2, RATE_HZ)).astype(np.float32)
    voice = np.concatenate([0 * noise[0], tone(500), tone(3000)])
    y = sampler["vocoder"](voice, np.tile(noise[1], 4), 32)
    assert len(y) == 3 * RATE_HZ
    power = [np.abs(np.fft.rfft(y[n * RATE_HZ + 2000 : (n + 1) * RATE_HZ - 2000])) ** 2 for n in range(3)]
    hz = np.fft.rfftfreq(RATE_HZ - 4000, 1 / RATE_HZ)
    low, high = (hz > 350) & (hz < 700), (hz > 2200) & (hz < 4000)
    assert power[0].sum() < 1e-3 * power[1].sum()
    assert power[1][low].sum() > 0.9 * power[1].sum()
    assert power[2][high].sum() > 0.9 * power[2].sum()


def test_a_melody_keeps_to_steady_pitches_of_the_scale(sampler, tmp_path):
    soundfile.write(tmp_path / "anna.wav", tone(220, 12 * RATE_HZ), RATE_HZ)
    (tmp_path / "anna.json").write_text(json.dumps([[0, 12 * RATE_HZ, 220.0]]))
    rng = np.random.default_rng(1)
    piece = sampler["Piece"](rng, 8.0)
    y = sampler["_melody"](rng, piece, sampler["Singer"](tmp_path / "anna.wav"))
    scale = {piece.pitch(degree) % 12 for degree in range(7)}
    blocks = y[: len(y) // 4096 * 4096].reshape(-1, 4096)
    loud = blocks[(blocks**2).mean(1) > 0.2]
    hz = np.abs(np.fft.rfft(loud * np.hanning(4096), 65_536)).argmax(1) * RATE_HZ / 65_536
    semitones = 69 + 12 * np.log2(hz / 440)
    on_scale = [min(abs((s - note + 6) % 12 - 6) for note in scale) < 0.2 for s in semitones]
    assert len(loud) > 20
    assert np.mean(on_scale) > 0.8  # the others hold the end of one note and the start of the next


def test_a_file_depends_on_seed_and_number_only(recipe, tmp_path):
    voices = tmp_path / "voices"
    voices.mkdir()
    soundfile.write(voices / "anna.wav", tone(220, 4 * RATE_HZ), RATE_HZ)
    (voices / "anna.json").write_text(json.dumps([[0, 2 * RATE_HZ, 220.0], [2 * RATE_HZ, 2 * RATE_HZ, 220.0]]))
    soundfile.write(voices / "no cues.wav", tone(220), RATE_HZ)

    def files(name, count):
        options = ["--count", str(count), "--seconds", "9"]
        recipe("sampler", str(tmp_path / name), str(voices), *options)
        return [soundfile.read(path)[0] for path in sorted((tmp_path / name).iterdir())]

    two, again = files("a", 2), files("b", 1)
    assert np.array_equal(two[0], again[0])
    assert not np.array_equal(*two)
    for audio in two:
        assert audio.shape == (9 * RATE_HZ, 2)
        assert np.abs(audio).max() == pytest.approx(0.9, abs=1e-3)
