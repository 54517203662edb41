"""Above the band of a masked model: the treble of a stem follows the top of the stem's band."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_models import TINY, model_of
from stream_checks import EXAMPLES
from waveunet_cli import Separator
from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.networks.wave_u_net.config import M5
from waveunet_cli.streaming.channels import ChannelLayout
from waveunet_cli.streaming.song import open_stream
from waveunet_cli.streaming.stems import StemSelection
from waveunet_cli.streaming.treble import Treble

MODEL_HZ = 22_050
CONFIG = replace(M5, output="masked")  # 22 050 Hz, accompaniment and vocals
CPU = torch.device("cpu")


class Shares:
    """An engine whose vocals are a share of the mixture that is given for each second."""

    def __init__(self, by_second):
        self._by_second = torch.tensor(by_second)

    def stream(self, size=1):
        self._at = -HOP  # masks begin a hop before the song
        return self

    def push(self, x):
        seconds = ((self._at + torch.arange(x.shape[-1])) // MODEL_HZ).clamp(0, len(self._by_second) - 1)
        self._at += x.shape[-1]
        share = self._by_second[seconds]
        return torch.stack([(1 - share) * x, share * x], 1)

    def flush(self):
        return torch.zeros(1, 2, 2, 0)


def separated(engine, song, file_hz, cut=10_000, **stems):
    layout = ChannelLayout(song.shape[1], 2, False)
    stream = open_stream(engine, CONFIG, StemSelection.of(CONFIG, **stems), layout, file_hz, CPU)
    parts = [stream.push(song[start : start + cut]) for start in range(0, len(song), cut)] + [stream.flush()]
    return {stem: np.concatenate([part[stem] for part in parts]) for stem in parts[0]}


def noise(frames, seed=0):
    return np.random.default_rng(seed).standard_normal((frames, 2)).astype(np.float32) * 0.1


def above(x, file_hz, limit_hz=11_500):
    """What lies above a frequency."""
    spectrum = np.fft.rfft(x, axis=0)
    spectrum[: int(limit_hz / file_hz * len(x))] = 0
    return np.fft.irfft(spectrum, len(x), axis=0)


def decibel(x):
    return 10 * np.log10(np.square(x, dtype=np.float64).mean() + 1e-30)


@pytest.mark.parametrize("file_hz", [44_100, 48_000, 96_000])
def test_treble_follows_the_voice_in_time(file_hz):
    song = noise(6 * file_hz)
    stems = separated(Shares([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]), song, file_hz)
    hiss = above(song, file_hz)
    singing, alone = slice(int(2.3 * file_hz), int(3.7 * file_hz)), slice(int(4.3 * file_hz), int(5.7 * file_hz))
    voice, rest = (above(stems[stem], file_hz) for stem in ("vocals", "accompaniment"))
    assert decibel(voice[singing] - hiss[singing]) < decibel(hiss) - 40
    assert decibel(rest[singing]) < decibel(hiss) - 40
    assert decibel(voice[alone]) < decibel(hiss) - 40  # cymbals alone stay where they are
    assert decibel(rest[alone] - hiss[alone]) < decibel(hiss) - 40


def test_a_constant_share_is_the_same_above_the_band_and_in_it():
    song = noise(4 * 44_100)
    vocals = separated(Shares([0.25]), song, 44_100)["vocals"]
    np.testing.assert_allclose(vocals[20_000:-20_000], 0.25 * song[20_000:-20_000], atol=3e-4)


@EXAMPLES
@given(
    st.sampled_from([16_000, 22_050, 44_100, 48_000, 96_000]),
    st.integers(0, 30_000),
    st.integers(500, 20_000),
    st.sampled_from([{}, {"stems": ["vocals"]}, {"two_stems": "vocals"}, {"two_stems": "accompaniment"}]),
)
def test_stems_sum_to_the_song_however_it_is_cut(file_hz, frames, cut, stems):
    song = noise(frames)
    engine = Shares([0.3])
    whole = separated(engine, song, file_hz, max(1, frames), **stems)
    for stem, audio in separated(engine, song, file_hz, cut, **stems).items():
        assert audio.shape == song.shape
        np.testing.assert_allclose(audio, whole[stem], atol=1e-5)
    if len(whole) == 2 and frames:
        assert decibel(sum(whole.values()) - song) < -90
    assert not np.any(separated(engine, 0 * song, file_hz, cut)["vocals"])


def test_gains_fade_as_the_squared_windows_do():
    treble = Treble(44_100, 22_050)
    treble.add(torch.tensor([[[0.0, 1.0, 0.5]]]))
    gains = torch.cat([treble.gains(3000), treble.gains(2 * 2 * HOP - 3000)], -1)[0, 0]
    hann = torch.hann_window(2 * 2 * HOP)  # a hop is 2·HOP frames of the file
    torch.testing.assert_close(gains[: 2 * HOP], hann[: 2 * HOP], atol=1e-5, rtol=0)
    torch.testing.assert_close(gains[2 * HOP :], 0.5 + 0.5 * hann[2 * HOP :], atol=1e-5, rtol=0)


def test_a_model_at_the_rate_of_the_file_needs_no_treble():
    model = model_of(replace(TINY, output="masked", channels=2))
    for file_hz, needs in ((8000, False), (7000, False), (16_000, True)):
        song = Separator(model, "cpu", "float32").song(file_hz, 2)
        assert (song._treble is not None) == needs


def test_each_group_of_channels_has_treble_of_its_own():
    model = model_of(replace(TINY, output="masked", channels=2))
    song = np.concatenate([noise(20_000), noise(20_000, seed=1)], 1)  # a stereo model takes them as two pairs
    together = Separator(model, "cpu", "float32").separate(song, 16_000)
    for pair in (slice(0, 2), slice(2, 4)):
        for stem, audio in Separator(model, "cpu", "float32").separate(song[:, pair], 16_000).items():
            np.testing.assert_allclose(together[stem][:, pair], audio, atol=1e-6)
