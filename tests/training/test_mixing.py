from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from training_songs import RATE_HZ, write_songs, write_stem
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Data, find_tracks
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.wave_u_net.config import M5_HIGHSR, WaveUNetConfig
from waveunet_cli.training import augment
from waveunet_cli.training.mixing import Mixer, Pool, windows
from waveunet_cli.training.recipe import Augmentation

CONFIG: WaveUNetConfig = replace(M5_HIGHSR, sample_rate=RATE_HZ)
PLAIN = Augmentation(gain=(1.0, 1.0))
FRAMES, CONTEXT = 1000, 300


def mixer_of(*folders: Data, settings: Augmentation = PLAIN, seed: int = 0, frames: int = FRAMES) -> Mixer:
    pools = [Pool(find_tracks(d, CONFIG.sources, sums=True)[0], d.weight, d.weights, d.reverb) for d in folders]
    return Mixer(CONFIG, pools, Reader(RATE_HZ, 2), settings, frames, CONTEXT, seed)


def draw(mixer: Mixer, number: int) -> torch.Tensor:
    """The sources (S, C, t) of a window of songs that know all of them."""
    drawn = mixer.draw(number)
    assert drawn.sums is None
    return drawn.sources


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return write_songs(tmp_path / "songs")


def everything(songs: Path) -> dict[str, np.ndarray]:
    """Every song's sources with the context's zeros around: (S, C, frames)."""
    reader = Reader(RATE_HZ, 2)
    tracks, _ = find_tracks(Data(songs), CONFIG.sources)
    return {t.name: reader.read(t, CONFIG.sources, -CONTEXT, t.frames + 2 * CONTEXT).numpy() for t in tracks}


def where(part: np.ndarray, whole: np.ndarray) -> int | None:
    """The frame at which `part` (C, n) stands in `whole` (C, N)."""
    probe = len(part[0]) // 2
    for candidate in np.flatnonzero(whole[0] == part[0, probe]) - probe:
        if candidate >= 0 and np.array_equal(whole[:, candidate : candidate + part.shape[1]], part):
            return int(candidate)
    return None


def test_a_window_is_an_aligned_stretch_of_one_song(songs: Path) -> None:
    wholes, mixer, met = everything(songs), mixer_of(Data(songs)), set()
    for number in range(12):
        x = draw(mixer, number).numpy()
        assert x.shape == (2, 2, FRAMES)
        found = {
            (name, where(x[0], whole[0])) for name, whole in wholes.items() if where(x[0], whole[0]) is not None
        } & {(name, where(x[1], whole[1])) for name, whole in wholes.items()}
        assert len(found) == 1
        met |= {name for name, _ in found}
    assert len(met) == 3


def test_a_remix_takes_the_sources_from_anywhere(songs: Path) -> None:
    wholes, mixer = everything(songs), mixer_of(Data(songs), settings=replace(PLAIN, remix=1.0))
    pairs = set()
    for number in range(12):
        x = draw(mixer, number).numpy()
        pairs.add(tuple(next(name for name, w in wholes.items() if where(x[s], w[s]) is not None) for s in range(2)))
    assert any(a != b for a, b in pairs)


def test_a_patchwork_is_a_sum_of_files_of_different_songs(tmp_path: Path) -> None:
    levels: dict[str, list[float]] = {"vocals": [], "drums": [], "other": []}
    for i, song in enumerate("abc"):
        for j, stem in enumerate(levels):
            levels[stem].append(5 ** (3 * i + j) / 2**20)  # sums of up to four are all different
            (tmp_path / song).mkdir(exist_ok=True)
            soundfile.write(tmp_path / song / f"{stem}.wav", np.full((4000, 2), levels[stem][-1]), RATE_HZ, "FLOAT")
    files = levels["drums"] + levels["other"]
    sums = {sum(parts): parts for n in (2, 3, 4) for parts in combinations_with_replacement(files, n)}
    mixer = mixer_of(Data(tmp_path), settings=replace(PLAIN, remix=1.0, patchwork=1.0))
    met = []
    for number in range(20):
        accompaniment, vocals = draw(mixer, number)[:, 0, FRAMES // 2].tolist()
        assert vocals in levels["vocals"]  # of one file: nothing to patch
        met.append(sums[accompaniment])
    assert {len(parts) for parts in met} == {2, 3, 4}


def test_window_n_depends_on_seed_and_n_only(songs: Path) -> None:
    settings = Augmentation(
        remix=0.5, patchwork=0.5, swap=0.5, polarity=0.5, silence=0.2, speed=0.5, stretch=0.5, equalise=0.5, reverb=0.5,
        echo=0.5, stutter=0.5, heard=0.5, levels_db={"vocals": -20.0}, doubled=0.5, limit=0.5, files_spread_db=2.0,
        full_scale=True, song_gains_db={"vocals": 3.0},
    )  # fmt: skip
    one, two = mixer_of(Data(songs), settings=settings), mixer_of(Data(songs), settings=settings)
    expected = torch.stack([draw(one, number) for number in range(8)])
    assert torch.equal(torch.cat([x.sources for x in windows(two, range(8), size=2, workers=3)]), expected)
    assert torch.equal(draw(two, 3), expected[3])
    assert not torch.equal(draw(mixer_of(Data(songs), settings=settings, seed=1), 3), expected[3])
    assert len({float(x.sum()) for x in expected}) == 8


def test_the_last_windows_may_be_fewer(songs: Path) -> None:
    assert [len(x.sources) for x in windows(mixer_of(Data(songs)), range(5), size=2, workers=1)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gain": (0.5, 0.5)}, lambda x: x * 0.5),
        ({"swap": 1.0}, lambda x: x.flip(1)),
        ({"polarity": 1.0}, lambda x: -x),
    ],
)
def test_simple_augmentations(songs: Path, changes: dict[str, Any], expected: Any) -> None:
    plain = draw(mixer_of(Data(songs)), 5)
    torch.testing.assert_close(draw(mixer_of(Data(songs), settings=replace(PLAIN, **changes)), 5), expected(plain))


def test_silence_takes_one_source_away(songs: Path) -> None:
    mixer = mixer_of(Data(songs), settings=replace(PLAIN, silence=1.0))
    silent = [tuple(bool((source == 0).all()) for source in draw(mixer, number)) for number in range(10)]
    assert set(silent) == {(True, False), (False, True)}


def test_silence_may_be_for_some_sources_only(songs: Path) -> None:
    mixer = mixer_of(Data(songs), settings=replace(PLAIN, silence=1.0, silence_sources=("vocals",)))
    assert all(not draw(mixer, number)[1].any() for number in range(8))


def test_gains_within_a_song(songs: Path) -> None:
    settings = replace(PLAIN, song_gains_db={"vocals": 6.0}, spread_db=0.0)
    plain, x = draw(mixer_of(Data(songs)), 3), draw(mixer_of(Data(songs), settings=settings), 3)
    torch.testing.assert_close(x, plain * torch.tensor([1.0, 10**0.3])[:, None, None])


def test_files_of_a_source_get_gains_of_their_own(songs: Path) -> None:
    plain = draw(mixer_of(Data(songs)), 3)
    x = draw(mixer_of(Data(songs), settings=replace(PLAIN, files_spread_db=6.0)), 3)
    torch.testing.assert_close(x[1], plain[1])  # vocals are one file
    ratios = x[0][plain[0] != 0] / plain[0][plain[0] != 0]
    assert float(ratios.std()) > 0.05


def test_looks_for_where_a_source_sounds(tmp_path: Path) -> None:
    folder = write_songs(tmp_path / "songs", ["s"], frames=40_000)
    vocals = np.zeros((40_000, 2))
    vocals[10_000:20_000] = 0.1
    soundfile.write(folder / "s" / "vocals.wav", vocals, RATE_HZ, subtype="PCM_16")
    for remix in (0.0, 1.0):
        for heard, low, high in ((0.0, 3, 14), (1.0, 22, 30)):
            mixer = mixer_of(Data(folder), settings=replace(PLAIN, remix=remix, heard=heard))
            assert low <= sum(bool(draw(mixer, number)[1].any()) for number in range(30)) <= high


def test_a_second_voice_is_no_louder_than_the_first(songs: Path) -> None:
    settings = replace(PLAIN, doubled=1.0)
    for number in range(5):
        x, plain = draw(mixer_of(Data(songs), settings=settings), number), draw(mixer_of(Data(songs)), number)
        torch.testing.assert_close(x[0], plain[0])
        assert 0.0 < augment.loudness(x[1] - plain[1]) <= 1.2 * augment.loudness(plain[1])


def test_a_limiter_bounds_the_mixture_by_one_gain_for_all(songs: Path) -> None:
    loud = replace(PLAIN, gain=(20.0, 20.0))
    plain = draw(mixer_of(Data(songs), settings=loud), 2)
    x = draw(mixer_of(Data(songs), settings=replace(loud, limit=1.0)), 2)
    assert float(plain.sum(0).abs().max()) > 2
    assert float(x.sum(0).abs().max()) <= 1
    gains = x / plain
    torch.testing.assert_close(gains[0][plain.abs().min(0).values > 0.1], gains[1][plain.abs().min(0).values > 0.1])
    turned_down = draw(mixer_of(Data(songs), settings=replace(loud, full_scale=True)), 2)
    torch.testing.assert_close(turned_down, plain / float(plain.sum(0).abs().max()))
    quiet = draw(mixer_of(Data(songs), settings=replace(PLAIN, full_scale=True)), 2)
    torch.testing.assert_close(quiet, draw(mixer_of(Data(songs)), 2))


def test_weights_for_one_use_go_before_the_others(tmp_path: Path) -> None:
    real, rendered = write_songs(tmp_path / "real", ["a"]), write_songs(tmp_path / "rendered", ["b"])
    folders = (Data(real, weights={"accompaniment": 0.0}), Data(rendered, weights={"song": 0.0, "vocals": 0.0}))
    wholes = {**everything(real), **everything(rendered)}
    for remix, sources in ((0.0, {0: "a", 1: "a"}), (1.0, {0: "b", 1: "a"})):
        mixer = mixer_of(*folders, settings=replace(PLAIN, remix=remix))
        for number in range(5):
            x = draw(mixer, number).numpy()
            for s, song in sources.items():
                (whole,) = (w for name, w in wholes.items() if Path(name).name == song)
                assert where(x[s], whole[s]) is not None


def test_a_folder_may_have_reverberation_of_its_own(songs: Path) -> None:
    settings = replace(PLAIN, reverb=1.0, effect_sources=CONFIG.sources)
    plain = draw(mixer_of(Data(songs)), 4)
    torch.testing.assert_close(draw(mixer_of(Data(songs, reverb=0.0), settings=settings), 4), plain)
    assert not torch.allclose(draw(mixer_of(Data(songs), settings=settings), 4), plain)


@pytest.mark.parametrize(
    "changes", [{"levels_db": {"kazoo": -20.0}}, {"song_gains_db": {"kazoo": 0.0}}, {"silence_sources": ("kazoo",)}]
)
def test_refuses_settings_for_sources_that_are_not_there(songs: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'kazoo' is none of the model's sources"):
        mixer_of(Data(songs), settings=replace(PLAIN, **changes))
    with pytest.raises(ConfigError, match="'kazoo' is none of the model's sources"):
        mixer_of(Data(songs, weights={"kazoo": 1.0}))


def test_levels_of_a_remix(songs: Path) -> None:
    settings = replace(PLAIN, remix=1.0, levels_db={"vocals": -30.0, "accompaniment": -10.0}, spread_db=0.0)
    x = draw(mixer_of(Data(songs), settings=settings, frames=4096), 0)
    levels = [20 * np.log10(augment.loudness(source)) for source in x]
    assert levels == pytest.approx([-10, -30], abs=1e-3)


def test_folders_are_drawn_by_weight_and_tracks_by_length(tmp_path: Path) -> None:
    for name, frames in (("long", 6000), ("short", 2000)):
        write_stem(tmp_path / "a" / f"{name}.wav", frames)
    write_stem(tmp_path / "b" / "other.wav")
    backing = write_songs(tmp_path / "songs", ["s"])
    folders = (Data(tmp_path / "a", 3, stem="vocals"), Data(tmp_path / "b", 1, stem="vocals"), Data(backing, 1e-9))
    read = []
    mixer = mixer_of(*folders, settings=replace(PLAIN, remix=1.0))
    reader = mixer._reader.read
    mixer._reader.read = lambda track, sources, *a: (  # type: ignore[method-assign]
        read.append(Path(track.name).name) if sources == ("vocals",) else None,
        reader(track, sources, *a),
    )[1]
    for number in range(400):
        draw(mixer, number)
    share = {name: read.count(name) / len(read) for name in ("long", "short", "other")}
    assert share == pytest.approx({"long": 0.75 * 0.75, "short": 0.75 * 0.25, "other": 0.25}, abs=0.07)


def test_refuses_what_cannot_make_a_mixture(tmp_path: Path, songs: Path) -> None:
    write_stem(tmp_path / "a" / "x.wav")
    with pytest.raises(ConfigError, match="no folder of a weight above 0 has the source accompaniment"):
        mixer_of(Data(tmp_path / "a", stem="vocals"))
    with pytest.raises(ConfigError, match=r"augmentation\.remix = 1"):
        mixer_of(Data(tmp_path / "a", stem="vocals"), Data(tmp_path / "a", stem="accompaniment"))


def tone(hz: float, frames: int) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hz * torch.arange(frames) / RATE_HZ).repeat(2, 1)


def test_speed_moves_a_tone(songs: Path) -> None:
    rng = np.random.default_rng(0)
    y = augment.shape(tone(500, 8192), 6144, rng, PLAIN, RATE_HZ, effects=False)
    spectrum = torch.fft.rfft(y[0]).abs()
    assert float(spectrum.argmax()) * RATE_HZ / 6144 == pytest.approx(500 * 8192 / 6144, abs=2)
    torch.testing.assert_close(y[:, 100:-100], tone(500 * 8192 / 6144, 6144)[:, 100:-100], rtol=0, atol=0.02)


def test_speeds_stay_within_the_semitones() -> None:
    rng = np.random.default_rng(0)
    factors = [augment.speed(rng, replace(PLAIN, speed=0.5, speed_semitones=2.0)) for _ in range(500)]
    assert 0.4 < factors.count(1.0) / 500 < 0.6
    assert 2 ** (-2 / 12) <= min(factors) < 0.95
    assert 1.05 < max(factors) <= 2 ** (2 / 12)


def test_an_equaliser_of_no_deviation_and_a_room_of_no_tail_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, x = np.random.default_rng(0), tone(440, 4096)
    flat = replace(PLAIN, equalise=1.0, equaliser_db=0.0)
    torch.testing.assert_close(augment.shape(x, 4096, rng, flat, RATE_HZ, False), x, rtol=0, atol=1e-5)
    coloured = augment.shape(x, 4096, rng, replace(flat, equaliser_db=6.0), RATE_HZ, False)
    assert not torch.allclose(coloured, x, atol=1e-2)


def test_reverberation_comes_after_the_sound() -> None:
    click = torch.zeros(2, 8192)
    click[:, 100] = 1.0
    rng = np.random.default_rng(3)
    y = augment.shape(click, 8192, rng, replace(PLAIN, reverb=1.0), RATE_HZ, effects=True)
    assert float(y[0, 100]) == pytest.approx(1.0, abs=0.2)
    assert float(y[:, 110:].square().sum()) > 1e-4
    assert float(y[:, :95].square().sum()) < 0.02 * float(y[:, 110:].square().sum())
    dry = augment.shape(click, 8192, rng, replace(PLAIN, reverb=1.0), RATE_HZ, effects=False)
    assert torch.equal(dry, click)


def test_reverberation_decays_by_60_db_in_its_time() -> None:
    """Levels of the tail's first and last tenth, of rooms whose tail fits: 54 dB apart, since each is a mean."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        seconds = float(np.random.default_rng(seed).uniform(0.2, 2.0))
        frames = 3 * RATE_HZ
        response = torch.fft.irfft(augment.reverberation(rng, 1, frames, RATE_HZ) - 1, frames)[0]
        start = int(torch.nonzero(response.abs() > 1e-3 * response.abs().max())[0])
        tail = response[start : start + round(seconds * RATE_HZ)].square()
        tenth = len(tail) // 10
        decay_db = 10 * float(torch.log10(tail[:tenth].mean() / tail[-tenth:].mean()))
        assert decay_db == pytest.approx(54, abs=4)


def test_an_echo_returns_at_equal_times_and_decays() -> None:
    click = torch.zeros(1, 65_536)
    click[:, 100] = 1.0
    y = augment.shape(click, 65_536, np.random.default_rng(3), replace(PLAIN, echo=1.0), RATE_HZ, effects=True)[0]
    assert float(y[100]) == pytest.approx(1.0, abs=0.05)
    delay = int(y[110:].abs().argmax()) + 10
    assert augment.ECHO_SECONDS[0] <= delay / RATE_HZ <= augment.ECHO_SECONDS[1]
    returns = [float(y[100 + n * delay - 30 : 100 + n * delay + 30].square().sum()) for n in range(4)]
    assert returns == sorted(returns, reverse=True)
    between = torch.cat([y[100 + n * delay + 200 : 100 + (n + 1) * delay - 200] for n in range(3)])
    assert float(between.square().sum()) < 0.01 * returns[1]
    assert torch.equal(
        augment.shape(click, 65_536, np.random.default_rng(3), replace(PLAIN, echo=1.0), RATE_HZ, False), click
    )


def test_a_stutter_repeats_a_slice_and_leaves_the_rest() -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 40_000)))
    y = augment.stutter(np.random.default_rng(5), x, RATE_HZ)
    changed = torch.nonzero((x != y).any(0))[:, 0]
    start, stop = int(changed[0]), int(changed[-1]) + 1
    # The period of what changed, short of the faded ends of the slices
    periods = [
        p
        for p in range(2 * augment.FADE_FRAMES, (stop - start) // 2 + 1)
        if torch.equal(y[:, start : stop - p], y[:, start + p : stop])
    ]
    assert periods
    assert 0.05 * RATE_HZ - 1 <= periods[0] <= 0.5 * RATE_HZ
    inside = slice(start + augment.FADE_FRAMES, start + periods[0] - augment.FADE_FRAMES)
    assert torch.equal(y[:, inside], x[:, inside])  # the first is where it was


@pytest.mark.parametrize("out_frames", [24_000, 40_000])
def test_a_stretch_keeps_the_pitch_and_moves_events(out_frames: int) -> None:
    x = tone(500, 32_000)
    x[:, :16_000] = 0
    y = augment.stretch(x, out_frames)
    assert y.shape == (2, out_frames)
    spectrum = torch.fft.rfft(y[0] * torch.hann_window(out_frames)).abs()
    assert float(spectrum.argmax()) * RATE_HZ / out_frames == pytest.approx(500, abs=2)
    middle, edge = out_frames // 2, augment.STRETCH_FFT_FRAMES
    assert float(y[:, : middle - edge].abs().max()) < 0.02
    loudness = y[:, middle + edge : -edge].square().mean().sqrt()
    assert float(loudness) == pytest.approx(0.5**0.5, rel=0.15)  # a phase vocoder smears an onset


def test_a_stretch_by_nothing_changes_nothing() -> None:
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 20_000))).float()
    torch.testing.assert_close(augment.stretch(x, 20_000)[:, :19_000], x[:, :19_000], rtol=0, atol=1e-3)


def test_stretches_stay_within_the_factor(songs: Path) -> None:
    rng = np.random.default_rng(0)
    factors = [augment.stretch_factor(rng, replace(PLAIN, stretch=0.5, stretch_factor=2.0)) for _ in range(500)]
    assert 0.4 < factors.count(1.0) / 500 < 0.6
    assert 0.5 <= min(factors) < 0.6
    assert 1.7 < max(factors) <= 2.0
    settings = replace(PLAIN, stretch=1.0, stretch_factor=1.2)
    assert draw(mixer_of(Data(songs), settings=settings), 1).shape == draw(mixer_of(Data(songs)), 1).shape


def test_mono_puts_all_sources_in_the_middle(songs: Path) -> None:
    plain = draw(mixer_of(Data(songs)), 5)
    x = draw(mixer_of(Data(songs), settings=replace(PLAIN, mono=1.0)), 5)
    torch.testing.assert_close(x, plain.mean(1, keepdim=True).repeat(1, 2, 1))


def test_windows_are_those_of_earlier_versions(songs: Path) -> None:
    """Sums of magnitudes of the sources of eight windows, as the version before the augmentation `mono` drew them."""
    settings = Augmentation(
        remix=0.5, patchwork=0.5, swap=0.5, polarity=0.5, silence=0.3, heard=0.5, doubled=0.3, limit=0.5,
        files_spread_db=2.0, levels_db={"vocals": -20.0}, full_scale=True,
    )  # fmt: skip
    mixer = mixer_of(Data(songs), settings=settings, seed=7)
    expected = [
        [246.5411, 133.6324], [192.1911, 146.4439], [0.0, 123.5822], [178.9275, 181.9244],
        [262.6934, 0.0], [303.932, 135.6309], [222.0757, 143.0039], [231.7325, 182.4992],
    ]  # fmt: skip
    found = [draw(mixer, number).abs().sum((1, 2)).tolist() for number in range(8)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_augmentation_of_its_own_stream_neither_shifts_the_others_nor_follows_them(songs: Path) -> None:
    settings = Augmentation(remix=0.5, swap=0.5, silence=0.3, limit=0.5)
    old, new = mixer_of(Data(songs), settings=settings), mixer_of(Data(songs), settings=replace(settings, mono=0.3))
    for number in range(20):
        x, y = draw(old, number), draw(new, number)
        assert torch.equal(x, y) != torch.equal(y[:, 0], y[:, 1])
    streams = [np.random.default_rng((5, 3)), *(augment.own_stream(5, 3, name) for name in ("mono", "other"))]
    assert len({rng.random() for rng in streams}) == 3
    assert augment.own_stream(5, 3, "mono").random() == augment.own_stream(5, 3, "mono").random()


FOUR: WaveUNetConfig = replace(CONFIG, sources=("vocals", "drums", "bass", "other"), residual="other")


def split_songs(root: Path) -> Path:
    """Songs that know vocals and accompaniment only, as a teacher splits them."""
    for i, name in enumerate("ab"):
        for j, stem in enumerate(("vocals", "accompaniment")):
            write_stem(root / name / f"{stem}.wav", seed=50 + 10 * i + j)
    return root


def four_stems(root: Path) -> Path:
    for j, stem in enumerate(FOUR.sources):
        write_stem(root / "whole" / f"{stem}.wav", seed=90 + j)
    return root


def mixer_of_four(*folders: Data, settings: Augmentation = PLAIN) -> Mixer:
    pools = [Pool(find_tracks(d, FOUR.sources, sums=True)[0], d.weight, d.weights) for d in folders]
    return Mixer(FOUR, pools, Reader(RATE_HZ, 2), settings, FRAMES, CONTEXT, 0)


def test_a_song_that_knows_a_sum_puts_it_in_the_place_of_its_first_source(tmp_path: Path) -> None:
    split, whole = split_songs(tmp_path / "split"), four_stems(tmp_path / "whole")
    mixer = mixer_of_four(Data(split), Data(whole, weights={"song": 0.0}))
    track = find_tracks(Data(split), ("vocals", "accompaniment"))[0][0]
    known = Reader(RATE_HZ, 2).read(track, ("vocals", "accompaniment"), -CONTEXT, 4000 + 2 * CONTEXT).numpy()
    met = 0
    for number in range(10):
        x, sums = mixer.draw(number)
        assert sums is not None
        assert sums.tolist() == [[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
        assert not x[2:].any()
        starts = [where(x[i].numpy(), known[i]) for i in range(2)]
        assert starts[0] == starts[1]
        met += starts[0] is not None
    assert 0 < met < 10  # the other song, too


def test_a_remix_of_songs_that_know_sums_takes_their_vocals_only(tmp_path: Path) -> None:
    split, whole = split_songs(tmp_path / "split"), four_stems(tmp_path / "whole")
    settings = replace(PLAIN, remix=1.0, silence=0.3, doubled=0.3, levels_db={"drums": -20.0})
    mixer = mixer_of_four(Data(split), Data(whole, weights={"vocals": 0.0}), settings=settings)
    for number in range(10):
        x, sums = mixer.draw(number)
        assert sums is None
        assert sum(bool(source.any()) for source in x) >= 3
    with pytest.raises(ConfigError, match="no folder of a weight above 0 has the source drums"):
        mixer_of_four(Data(split))


def test_windows_of_both_kinds_of_songs_share_a_batch(tmp_path: Path) -> None:
    split, whole = split_songs(tmp_path / "split"), four_stems(tmp_path / "whole")
    settings = replace(PLAIN, silence=0.5, silence_sources=("drums",), song_gains_db={"vocals": 2.0})
    mixer = mixer_of_four(Data(split), Data(whole), settings=settings)
    (x, sums), (y, none) = (
        next(windows(mixer, range(8), 8, 1)),
        next(windows(mixer_of_four(Data(whole)), range(2), 2, 1)),
    )
    assert (x.shape, y.shape, none) == ((8, 4, 2, FRAMES), (2, 4, 2, FRAMES), None)
    assert sums is not None
    assert {int(a.diagonal().sum()) for a in sums} == {2, 4}  # 4 for a song that knows all
    for number in range(8):
        drawn = mixer.draw(number)
        assert torch.equal(x[number], drawn.sources)
        assert torch.equal(sums[number], torch.eye(4) if drawn.sums is None else drawn.sums)


def test_windows_are_drawn_while_the_caller_works(songs: Path) -> None:
    """When a batch is handed out, another one and more have been asked for."""
    asked = []

    class Asked(Mixer):
        def __getattribute__(self, name: str) -> Any:
            if name == "draw":
                asked.append(name)
            return super().__getattribute__(name)

    mixer = mixer_of(Data(songs))
    mixer.__class__ = Asked
    batches = windows(mixer, range(100), 6, 2)
    next(batches)
    assert len(asked) == 6 + 6 + 2
    batches.close()  # type: ignore[attr-defined]


def test_windows_do_not_depend_on_how_many_threads_compute(songs: Path) -> None:
    threads = []
    mixer = mixer_of(Data(songs))
    plain = mixer.draw
    mixer.draw = lambda number: (threads.append(torch.get_num_threads()), plain(number))[1]  # type: ignore[method-assign]
    torch.set_num_threads(2)
    try:
        list(windows(mixer, range(3), 1, 1))
        assert (set(threads), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(1)
