import csv
import json
import os
import shutil
import sys
from collections.abc import Callable
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Ran
from small_models import TINY, model_of
from waveunet_cli import Separator
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.evaluate import evaluate, evaluation, measure, report, statistics, testset
from waveunet_cli.evaluate.measure import REST, StemScore, scenarios
from waveunet_cli.evaluate.testset import find_scored_songs, stems_of, with_estimates
from waveunet_cli.networks.checkpoint import save_checkpoint

if shutil.which("ffmpeg") is None:
    pytest.skip("museval cannot be imported without ffmpeg", allow_module_level=True)
museval = pytest.importorskip("museval")

Command = Callable[..., Ran]
RATE_HZ = 1000
STEMS = ("bass", "drums", "vocals")


def write(path: Path, x: np.ndarray, rate_hz: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, rate_hz, subtype="FLOAT")


def write_song(folder: Path, seed: int = 0, frames: int = 4300, channels: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    stems = {stem: rng.normal(0, 0.1, (frames, channels)).astype(np.float32) for stem in STEMS}
    for stem, x in stems.items():
        write(folder / f"{stem}.wav", x)
    return stems


def write_estimates(folder: Path, stems: dict[str, np.ndarray], seed: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixture = sum(stems.values())
    found = {}
    for stem, x in stems.items():
        found[stem] = (0.8 * x + 0.1 * mixture + rng.normal(0, 0.02, x.shape)).astype(np.float32)
        write(folder / f"{stem}.wav", found[stem])
    return found


def read(folder: Path, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([soundfile.read(folder / f"{name}.wav", always_2d=True)[0] for name in names])


def scored(root: Path, estimates: Path, stems: tuple[str, ...] = STEMS, frames: bool = True) -> list[StemScore]:
    songs, left_out = find_scored_songs([root], stems)
    assert left_out == []
    found = []
    for song in songs:
        song = with_estimates(song, estimates)
        scores, _ = measure.measure(song, stems, measure.estimates_of(song, stems), frames)
        found += scores
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("folder", ["", "test"])
@pytest.mark.parametrize(("stems", "channels"), [(STEMS, 1), (STEMS[:2], 2)])  # museval takes its time
def test_frames_are_those_of_museval(
    tmp_path: Path, folder: str, stems: tuple[str, ...], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "READ_FRAMES", 999)
    song, estimates = tmp_path / "set" / folder / "a", tmp_path / "est" / folder / "a"
    write_estimates(estimates, write_song(song, channels=channels))
    expected = museval.evaluate(read(song, stems), read(estimates, stems), win=RATE_HZ, hop=RATE_HZ)
    for i, score in enumerate(scored(tmp_path / "set", tmp_path / "est", stems)):
        assert score.stem == stems[i]
        for name, values in zip(("SDR", "ISR", "SIR", "SAR"), expected, strict=True):
            np.testing.assert_array_equal(score.frames[name], values[i])
            assert len(values[i]) == 4


def test_frames_are_those_of_museval_on_a_song_of_musdb(tmp_path: Path) -> None:
    """Vocals and accompaniment as a pair, the other stems together, as its own evaluation of a track has it."""
    stems = write_song(tmp_path / "set" / "a")
    write(tmp_path / "set" / "a" / "mixture.wav", sum(stems.values()))
    estimates = write_estimates(tmp_path / "est" / "a", stems)
    estimates["accompaniment"] = estimates["bass"] + 0.5 * estimates["drums"]
    write(tmp_path / "est" / "a" / "accompaniment.wav", estimates["accompaniment"])
    wanted = ("accompaniment", *STEMS)

    class Audio:
        def __init__(self, x: np.ndarray) -> None:
            self.audio = x.astype(np.float64)

    class Track:
        name, rate, subset = "a", RATE_HZ, "test"
        targets = {name: Audio(x) for name, x in stems.items()} | {
            "accompaniment": Audio(stems["bass"].astype(np.float64) + stems["drums"])
        }

    store = museval.eval_mus_track(Track, {name: x.astype(np.float64) for name, x in estimates.items()})
    expected = {t["name"]: [frame["metrics"] for frame in t["frames"]] for t in store.scores["targets"]}
    for score in scored(tmp_path / "set", tmp_path / "est", wanted):
        for name, values in score.frames.items():
            # museval rounds what it stores; the sum of two stems is rounded to float32 here
            np.testing.assert_allclose(values, [float(frame[name]) for frame in expected[score.stem]], atol=1e-4)


@pytest.mark.parametrize("pair", [("accompaniment", "vocals"), ("vocals", "accompaniment")])
def test_a_pair_is_told_apart_in_any_order(tmp_path: Path, pair: tuple[str, str]) -> None:
    stems = write_song(tmp_path / "set" / "a")
    write_estimates(
        tmp_path / "est" / "a", {"accompaniment": stems["bass"] + stems["drums"], "vocals": stems["vocals"]}
    )
    for stem in ("bass", "drums"):
        (tmp_path / "set" / "a" / f"{stem}.wav").unlink()
    write(tmp_path / "set" / "a" / "accompaniment.wav", stems["bass"] + stems["drums"])
    expected = museval.evaluate(
        read(tmp_path / "set" / "a", pair), read(tmp_path / "est" / "a", pair), win=RATE_HZ, hop=RATE_HZ
    )
    for i, score in enumerate(scored(tmp_path / "set", tmp_path / "est", pair)):
        assert score.stem == pair[i]
        np.testing.assert_allclose(score.frames["SDR"], expected[0][i], atol=1e-6)
    assert abs(expected[0][0] - expected[0][1]).min() > 0.5


def test_whole_songs_by_their_definition(tmp_path: Path) -> None:
    stems = write_song(tmp_path / "set" / "a")
    estimates = write_estimates(tmp_path / "est" / "a", stems)
    mixture = sum(x.astype(np.float64) for x in stems.values())
    for score in scored(tmp_path / "set", tmp_path / "est", frames=False):
        truth, estimate = (known[score.stem].astype(np.float64).ravel() for known in (stems, estimates))
        fitted = (truth @ estimate) / (truth @ truth) * truth
        assert score.frames == {}
        for value, error in (
            (score.sdr, truth - estimate),
            (score.mixture_sdr, truth - mixture.ravel()),
        ):
            assert value == pytest.approx(10 * np.log10(truth @ truth / (error @ error)), abs=1e-4)
        assert score.improvement == score.sdr - score.mixture_sdr
        rest = estimate - fitted
        assert score.si_sdr == pytest.approx(10 * np.log10(fitted @ fitted / (rest @ rest)), abs=1e-4)
        assert score.level == pytest.approx(10 * np.log10((estimate @ estimate) / (mixture**2).sum()), abs=1e-4)


def test_the_mixture_as_estimate_improves_by_nothing_and_silence_has_an_sdr_of_zero(tmp_path: Path) -> None:
    stems = write_song(tmp_path / "set" / "a")
    for stem in STEMS:
        write(tmp_path / "mix" / "a" / f"{stem}.wav", sum(stems.values()))
        write(tmp_path / "mute" / "a" / f"{stem}.wav", 0 * stems[stem])
    for score in scored(tmp_path / "set", tmp_path / "mix", frames=False):
        assert score.improvement == pytest.approx(0, abs=1e-5)
        assert score.level == pytest.approx(0, abs=1e-5)
    for score in scored(tmp_path / "set", tmp_path / "mute", frames=False):
        assert (score.sdr, score.level) == (pytest.approx(0), -np.inf)
        assert isnan(score.si_sdr)


def test_perfect_estimates_are_infinitely_good(tmp_path: Path) -> None:
    write_song(tmp_path / "set" / "a")
    scores = scored(tmp_path / "set", tmp_path / "set")
    assert all(score.sdr == np.inf and (score.frames["SDR"] == np.inf).all() for score in scores)
    assert "inf" in report.table(scores)
    report.write(tmp_path / "out", scores, {})  # JSON has no word for it
    assert (
        json.loads((tmp_path / "out" / "scores.json").read_text())["songs"][0]["stems"]["bass"]["frames"]["SDR"][0]
        is None
    )


def test_silent_frames_are_counted_and_count_nowhere(tmp_path: Path) -> None:
    stems = write_song(tmp_path / "set" / "a")
    stems["vocals"][1000:2000] = 0
    write(tmp_path / "set" / "a" / "vocals.wav", stems["vocals"])
    write_estimates(tmp_path / "est" / "a", stems)
    scores = scored(tmp_path / "set", tmp_path / "est")
    for score in scores:
        assert np.isnan(score.frames["SDR"]).tolist() == [False, True, False, False]
        assert score.silent_frames == 1
        assert statistics.of_song(score)["SDR"].count == 3
        assert statistics.over_all([score])[statistics.ALL_FRAMES, "SDR"].count == 3
    assert "4 frames, 1 of them silent and not counted" in report.table(scores)


@pytest.mark.parametrize("silent", ["true", "estimated"])
def test_a_stem_silent_throughout_is_said(tmp_path: Path, silent: str) -> None:
    stems = write_song(tmp_path / "set" / "a")
    write_estimates(tmp_path / "est" / "a", stems)
    write(tmp_path / ("set" if silent == "true" else "est") / "a" / "vocals.wav", 0 * stems["vocals"])
    (song,), _ = find_scored_songs([tmp_path / "set"], STEMS)
    song = with_estimates(song, tmp_path / "est")
    scores, problems = measure.measure(song, STEMS, measure.estimates_of(song, STEMS), frames=True)
    assert problems == [f"a: silent or of opposite channels: vocals ({silent}); BSSEval has no values"]
    assert [score.silent_frames for score in scores] == [4, 4, 4]
    assert isnan(scores[2].sdr) == (silent == "true")
    assert not isnan(scores[0].sdr)
    report.write(tmp_path / "out", scores, {})
    report.draw(tmp_path / "vocals.png", scores[2:])
    assert not (tmp_path / "vocals.png").exists()


def test_lossy_stems_have_a_solution(tmp_path: Path) -> None:
    rng, rate_hz = np.random.default_rng(0), 44_100
    truth, estimate = {}, {}
    for stem in STEMS[:2]:
        (tmp_path / "set" / "a").mkdir(parents=True, exist_ok=True)
        spectrum = np.fft.rfft(rng.normal(0, 0.1, 2 * rate_hz))
        spectrum[len(spectrum) // 3 :] = 0  # the encoder leaves nothing up there
        x = np.fft.irfft(spectrum)
        soundfile.write(tmp_path / "set" / "a" / f"{stem}.ogg", x, rate_hz)
        truth[stem] = soundfile.read(tmp_path / "set" / "a" / f"{stem}.ogg", dtype="int16", always_2d=True)[0] / 32_768
    for stem, x in truth.items():
        estimate[stem] = (0.9 * x + 0.1 * sum(truth.values()) + rng.normal(0, 0.001, x.shape)).astype(np.float32)
        write(tmp_path / "est" / "a" / f"{stem}.wav", estimate[stem], rate_hz)
    scores = scored(tmp_path / "set", tmp_path / "est", STEMS[:2])
    arrays = [np.stack(list(known.values())).astype(np.float64) for known in (truth, estimate)]
    expected = museval.evaluate(*arrays, win=rate_hz, hop=rate_hz)
    for i, score in enumerate(scores):
        for name, values in zip(("SDR", "ISR", "SIR", "SAR"), expected, strict=True):
            np.testing.assert_allclose(score.frames[name], values[i], atol=0.1)
        assert score.frames["SAR"].min() > 20


def test_a_lone_stem_is_judged_beside_the_rest(tmp_path: Path) -> None:
    stems = write_song(tmp_path / "set" / "a")
    estimate = write_estimates(tmp_path / "est" / "a", stems)["vocals"]
    mixture = sum(x.astype(np.float64) for x in stems.values()).astype(np.float32)
    truths = np.stack([stems["vocals"], mixture - stems["vocals"]]).astype(np.float64)
    estimates = np.stack([estimate, mixture - estimate]).astype(np.float64)
    expected = museval.evaluate(truths, estimates, win=RATE_HZ, hop=RATE_HZ)
    (score,) = scored(tmp_path / "set", tmp_path / "est", ("vocals",))
    for name, values in zip(("SDR", "ISR", "SIR", "SAR"), expected, strict=True):
        np.testing.assert_allclose(score.frames[name], values[0], atol=1e-3)


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        ("vocals accompaniment", [("vocals accompaniment", "vocals accompaniment")]),
        ("accompaniment vocals", [("accompaniment vocals", "accompaniment vocals")]),
        ("bass drums other vocals", [("bass drums other vocals", "bass drums other vocals")]),
        (f"vocals {REST}", [(f"vocals {REST}", "vocals")]),
        (
            "vocals accompaniment drums",
            [("vocals accompaniment", "vocals accompaniment"), ("vocals drums", "drums")],
        ),
    ],
)
def test_what_is_judged_together(stems: str, expected: list[tuple[str, str]]) -> None:
    assert scenarios(stems.split()) == [(tuple(a.split()), tuple(b.split())) for a, b in expected]


@given(st.lists(st.floats(-100, 100) | st.just(nan), max_size=20))
@settings(deadline=None, max_examples=25)
def test_statistics(values: list[float]) -> None:
    found = statistics.statistics_of(values)
    known = [value for value in values if not isnan(value)]
    assert found.count == len(known)
    if known:
        assert found.median == np.median(known)
        assert found.mad == np.median(np.abs(np.array(known) - np.median(known)))
        assert (found.mean, found.sd) == pytest.approx((np.mean(known), np.std(known)))
    else:
        assert all(isnan(value) for value in (found.median, found.mad, found.mean, found.sd))


def score_of(song: str, sdr: list[float]) -> StemScore:
    frames = {name: np.array(sdr) for name in measure.BSSEVAL}
    return StemScore(song, "vocals", float(len(sdr)), 1.0, -2.0, 0.5, -6.0, frames)


def test_both_aggregations(tmp_path: Path) -> None:
    scores = [score_of("a", [1, 2, 9, nan]), score_of("b", [4.0]), score_of("c", [5.0])]
    found = statistics.over_all(scores)
    assert found[statistics.ALL_FRAMES, "SDR"].median == 4  # of 1 2 9 4 5
    assert found[statistics.TRACK_MEDIANS, "SDR"].median == 4  # of 2 4 5
    assert found[statistics.ALL_FRAMES, "SDR"].mean == pytest.approx(21 / 5)
    assert found[statistics.TRACK_MEDIANS, "SDR"].mean == pytest.approx(11 / 3)
    assert found[statistics.WHOLE_SONGS, "SDR improvement"].median == 3
    report.write(tmp_path, scores, {"model": "m"})
    rows = list(csv.DictReader((tmp_path / "statistics.csv").read_text().splitlines()))
    (row,) = (r for r in rows if not r["song"] and r["measure"] == "SDR" and r["aggregation"].startswith("A"))
    assert (row["values"], float(row["mean"])) == ("5", pytest.approx(21 / 5))
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["over all"]["vocals"]["B: medians of tracks"]["SDR"]["mean"] == pytest.approx(11 / 3)
    assert written["songs"][0]["stems"]["vocals"]["frames"]["SDR"] == [1, 2, 9, None]
    frames = list(csv.DictReader((tmp_path / "frames.csv").read_text().splitlines()))
    assert [(r["song"], r["second"], r["SDR"]) for r in frames][2:5] == [
        ("a", "2", "9.0"),
        ("a", "3", ""),
        ("b", "0", "4.0"),
    ]


def test_draws_a_picture(tmp_path: Path) -> None:
    report.draw(tmp_path / "vocals.png", [score_of("a", [1, 2, 9, nan, np.inf]), score_of("b", [4.0])])
    assert (tmp_path / "vocals.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["vocals.png"]


def test_finds_songs_in_sets_and_by_themselves(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_song(tmp_path / name)
    (tmp_path / "b" / "bass.wav").unlink()
    songs, left_out = find_scored_songs([tmp_path], STEMS)
    assert [song.name for song in songs] == ["a"]
    assert "stem missing: bass" in left_out[0]
    songs, left_out = find_scored_songs([tmp_path / "a", tmp_path / "b"], ("accompaniment", "vocals"))
    assert ([song.name for song in songs], left_out) == (["a", "b"], [])
    assert [path.name for path in songs[0].truth.sources["mixture"]] == ["bass.wav", "drums.wav", "vocals.wav"]
    with pytest.raises(ConfigError, match="two songs have this name"):
        find_scored_songs([tmp_path / "a", tmp_path], STEMS)
    with pytest.raises(ConfigError, match="no such folder"):
        find_scored_songs([tmp_path / "nowhere"], STEMS)


def test_estimates_that_do_not_fit(tmp_path: Path) -> None:
    stems = write_song(tmp_path / "set" / "a")
    songs, _ = find_scored_songs([tmp_path / "set"], STEMS)
    write_estimates(tmp_path / "est" / "b", stems)
    with pytest.raises(AudioReadError, match="no such folder; put the song's estimates there"):
        with_estimates(songs[0], tmp_path / "est")
    shutil.copytree(tmp_path / "est" / "b", tmp_path / "est" / "a")
    for stem, x in stems.items():
        write(tmp_path / "est" / "a" / f"{stem}.wav", x, 2 * RATE_HZ)
    with pytest.raises(AudioReadError, match="2000 Hz, but the song's stems have 1000 Hz"):
        with_estimates(songs[0], tmp_path / "est")
    for stem, x in stems.items():
        write(tmp_path / "est" / "a" / f"{stem}.wav", x.repeat(2, 1))
    with pytest.raises(AudioReadError, match="2 channels, but the song's stems have 1"):
        with_estimates(songs[0], tmp_path / "est")
    (tmp_path / "est" / "a" / "bass.wav").unlink()
    with pytest.raises(AudioReadError, match="stem missing: bass"):
        with_estimates(songs[0], tmp_path / "est")
    with pytest.raises(ConfigError, match="no estimates there"):
        stems_of(tmp_path / "set" / "a")


@pytest.mark.parametrize(("change", "said"), [(-300, "followed by zeros"), (300, "cut")])
def test_estimates_of_another_length_are_taken_as_museval_does(tmp_path: Path, change: int, said: str) -> None:
    stems = write_song(tmp_path / "set" / "a")
    longer = {stem: np.concatenate([x, x])[: len(x) + change] for stem, x in stems.items()}
    write_estimates(tmp_path / "est" / "a", longer)
    (song,), _ = find_scored_songs([tmp_path / "set"], STEMS)
    note = with_estimates(song, tmp_path / "est").note
    assert note is not None
    assert f"{4300 + change} frames instead of 4300; {said}" in note
    expected = museval.evaluate(
        read(tmp_path / "set" / "a", STEMS), read(tmp_path / "est" / "a", STEMS), win=RATE_HZ, hop=RATE_HZ
    )
    for i, score in enumerate(scored(tmp_path / "set", tmp_path / "est")):
        np.testing.assert_array_equal(score.frames["SAR"], expected[3][i])


def test_two_stems_of_our_own_are_known(tmp_path: Path) -> None:
    stems = write_song(tmp_path / "set" / "a")
    write(tmp_path / "est" / "a" / "vocals.wav", stems["vocals"])
    write(tmp_path / "est" / "a" / "no_vocals.wav", stems["bass"] + stems["drums"])
    assert stems_of(tmp_path / "est") == ("accompaniment", "vocals")
    scores = scored(tmp_path / "set", tmp_path / "est", ("accompaniment", "vocals"), frames=False)
    assert scores[1].sdr == np.inf
    assert scores[0].sdr > 100


def write_two_songs_one_without_vocals(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "instrumental")):
        stems = write_song(tmp_path / "set" / name, seed)
        if name == "instrumental":
            stems["vocals"] = 0 * stems["vocals"]
            write(tmp_path / "set" / name / "vocals.wav", stems["vocals"])
        write_estimates(tmp_path / "est" / name, stems, seed)


def test_a_song_without_vocals_is_left_out_of_the_mean_improvement_and_counted(tmp_path: Path) -> None:
    write_two_songs_one_without_vocals(tmp_path)
    pair = ("accompaniment", "vocals")
    found = evaluate([tmp_path / "set"], estimates=tmp_path / "est", stems=pair, quick=True)
    own = [score for score in found.scores if score.stem == "accompaniment"]
    assert own[1].is_mixture
    summaries = statistics.over_all(own)
    improvement = summaries[statistics.WHOLE_SONGS, "SDR improvement"]
    assert (improvement.count, improvement.mean, improvement.sd) == (1, own[0].improvement, 0)
    mixtures = summaries[statistics.WHOLE_SONGS, "SDR of the mixture"]
    assert (mixtures.count, mixtures.infinite, mixtures.mean) == (2, 1, own[0].mixture_sdr)
    assert "accompaniment: 2 songs, 1 with nothing else in the mixture and without improvement; dB" in found.table
    assert "-inf" not in found.table


@given(st.lists(st.floats(-100, 100) | st.sampled_from([nan, np.inf, -np.inf]), max_size=20))
@settings(deadline=None, max_examples=25)
def test_infinite_values_are_counted_and_spoil_no_mean(values: list[float]) -> None:
    found = statistics.statistics_of(values)
    finite = [value for value in values if np.isfinite(value)]
    assert found.count - found.infinite == len(finite)
    assert found.infinite == sum(np.isinf(values)) if values else found.infinite == 0
    assert np.isfinite(found.mean) == np.isfinite(found.sd) == bool(finite)


# From Python


def test_evaluates_from_python_and_writes_nothing_unasked(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_estimates(tmp_path / "est" / name, write_song(tmp_path / "set" / name))
    (tmp_path / "set" / "a" / "bass.wav").unlink()
    (tmp_path / "est" / "b" / "bass.wav").write_bytes(b"RIFF")
    before = sorted(tmp_path.rglob("*"))
    events: list[object] = []
    found = evaluate([str(tmp_path / "set")], estimates=str(tmp_path / "est"), quick=True, on_event=events.append)
    assert sorted(tmp_path.rglob("*")) == before
    assert [(score.song, score.stem) for score in found.scores] == [("c", stem) for stem in STEMS]
    assert events == [
        evaluation.SongFailed(found.failures[0]),
        evaluation.SongBegins("b", 0, 2),
        evaluation.SongFailed(found.failures[1]),
        evaluation.SongBegins("c", 1, 2),
    ]


def test_evaluates_a_separator_on_its_own_stems(tmp_path: Path) -> None:
    write_song(tmp_path / "set" / "a")
    separator = Separator(model_of(TINY), "cpu", stems=("vocals",))
    found = evaluate([tmp_path / "set"], separator, quick=True, out=tmp_path / "out")
    assert [score.stem for score in found.scores] == ["vocals"]
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["songs"][0]["song"] == "a"
    with pytest.raises(ConfigError, match=r"Separator\(stems="):
        evaluate([tmp_path / "set"], separator, stems=("vocals",), quick=True)
    for both in ({}, {"separator": separator, "estimates": tmp_path}):
        with pytest.raises(ConfigError, match="either a separator or a folder of estimates"):
            evaluate([tmp_path / "set"], quick=True, **both)


def test_a_stem_that_is_there_twice_fails_its_song_only(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        write_estimates(tmp_path / "est" / name, write_song(tmp_path / "set" / name, seed))
    write(tmp_path / "est" / "a" / "bass.aiff", np.zeros((4300, 1)))
    for extra in (tmp_path / "set" / "b" / "._bass.wav", tmp_path / "est" / "b" / "._bass.wav"):
        extra.write_bytes(b"\0")
    found = evaluate([tmp_path / "set"], estimates=tmp_path / "est", stems=STEMS, quick=True)
    assert {score.song for score in found.scores} == {"b"}
    assert "holds bass, and so does bass.aiff" in found.failures[0]


# The command


def test_separates_scores_and_writes(tmp_path: Path, waveunet: Command) -> None:
    for seed, name in enumerate(("a", "b")):
        write_song(tmp_path / "set" / name, seed)
    model = model_of(TINY)
    save_checkpoint(tmp_path / "tiny.safetensors", model.config, model.network.state_dict())
    ran = waveunet(
        "evaluate", tmp_path / "set", "-n", tmp_path / "tiny.safetensors", "-o", tmp_path / "out", "-d", "cpu"
    )
    assert ran.code == 0, ran.err
    assert "vocals: 2 songs, 8 frames, 0 of them silent" in ran.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "accompaniment.png", "frames.csv", "scores.json", "statistics.csv", "vocals.png",
    ]  # fmt: skip
    # The same stems from files get the same scores.
    for name in ("a", "b"):
        x = sum(read(tmp_path / "set" / name, (stem,))[0] for stem in STEMS)
        write(tmp_path / "mixtures" / f"{name}.wav", x)
    ran = waveunet(
        "separate", tmp_path / "mixtures", "-n", tmp_path / "tiny.safetensors", "-o", tmp_path / "sep",
        "--subtype", "FLOAT", "-d", "cpu",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    ran = waveunet("evaluate", tmp_path / "set", "--estimates", tmp_path / "sep" / "tiny", "-o", tmp_path / "out2")
    assert ran.code == 0, ran.err
    one, two = (json.loads((tmp_path / out / "scores.json").read_text()) for out in ("out", "out2"))
    assert (one["model"], two["model"], two["estimates"]) == ("tiny", None, str(tmp_path / "sep" / "tiny"))
    for song, other in zip(one["songs"], two["songs"], strict=True):
        for stem in ("accompaniment", "vocals"):
            for key in ("SDR", "ISR", "SIR", "SAR"):
                np.testing.assert_allclose(
                    song["stems"][stem]["frames"][key], other["stems"][stem]["frames"][key], atol=1e-3
                )


def test_a_song_that_fails_is_named_and_the_others_are_scored(tmp_path: Path, waveunet: Command) -> None:
    for name in ("a", "b", "c"):
        write_estimates(tmp_path / "est" / name, write_song(tmp_path / "set" / name))
    (tmp_path / "set" / "a" / "bass.wav").unlink()
    (tmp_path / "est" / "b" / "bass.wav").write_bytes(b"RIFF")
    ran = waveunet("evaluate", tmp_path / "set", "--estimates", tmp_path / "est", "-o", tmp_path / "out", "--quick")
    assert ran.code == 1
    assert "stem missing: bass" in ran.err
    assert "2 of 3 songs could not be scored" in ran.err
    assert "vocals: 1 song; dB" in ran.out
    assert [song["song"] for song in json.loads((tmp_path / "out" / "scores.json").read_text())["songs"]] == ["c"]


@pytest.mark.parametrize("missing", ["museval", "ffmpeg"])
def test_says_what_is_not_installed(
    tmp_path: Path, waveunet: Command, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    write_estimates(tmp_path / "est" / "a", write_song(tmp_path / "set" / "a"))
    if missing == "museval":
        monkeypatch.setitem(sys.modules, "museval", None)
        monkeypatch.setattr(measure, "find_spec", lambda name: None)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ("evaluate", tmp_path / "set", "--estimates", tmp_path / "est", "-o", tmp_path / "out")
    ran = waveunet(*arguments)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert missing in ran.err
    assert waveunet(*arguments, "--quick").code == 0


def test_an_output_that_cannot_be_written(tmp_path: Path, waveunet: Command) -> None:
    write_estimates(tmp_path / "est" / "a", write_song(tmp_path / "set" / "a"))
    (tmp_path / "out").write_text("a file")
    ran = waveunet("evaluate", tmp_path / "set", "--estimates", tmp_path / "est", "-o", tmp_path / "out", "--quick")
    assert ran.code == 2
    assert "choose another --out" in ran.err


def test_the_folder_of_a_test_set_is_named_as_musdb_has_it() -> None:
    assert testset.SPLIT == "test"


def test_songs_whose_names_are_no_utf8_are_scored(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\x1b")
    for root in ("truth", "estimates"):
        write_song(tmp_path / root / "plain")
        (tmp_path / root / "plain").rename(tmp_path / root / name)
    found = evaluate([tmp_path / "truth"], estimates=tmp_path / "estimates", quick=True, out=tmp_path / "out")
    assert {score.song for score in found.scores} == {name}
    assert b"\xff\x1b" in (tmp_path / "out/statistics.csv").read_bytes()
    assert json.loads((tmp_path / "out/scores.json").read_text())["songs"][0]["song"] == name
