"""What scores look like: a table for the terminal, JSON and CSV for programs, a picture a stem."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from waveunet_cli.errors import ConfigError
from waveunet_cli.evaluate.measure import BSSEVAL, StemScore
from waveunet_cli.evaluate.statistics import WHOLE_SONG, Statistics, of_song, over_all
from waveunet_cli.files import whole_file
from waveunet_cli.text import plain

STATISTICS = ("median", "mad", "mean", "sd")
ONE_SONG = "frames of the song"
LABEL_WIDTH = len("SDR of the mixture, whole songs")


def stems_in(scores: Iterable[StemScore]) -> list[str]:
    """The stems, in the order in which they come."""
    return list(dict.fromkeys(score.stem for score in scores))


def table(scores: Sequence[StemScore]) -> str:
    """Per stem: a line a song, then the statistics over all. In dB."""
    lines: list[str] = []
    for stem in stems_in(scores):
        own = [score for score in scores if score.stem == stem]
        frames = sum(len(score.frames.get("SDR", ())) for score in own)
        silent = sum(score.silent_frames for score in own)
        counted = f", {frames} frames, {silent} of them silent and not counted" if frames else ""
        alone = sum(score.is_mixture for score in own)
        counted += f", {alone} with nothing else in the mixture and without improvement" if alone else ""
        lines += [f"{stem}: {len(own)} song{'s' * (len(own) != 1)}{counted}; dB", ""]
        width = max([LABEL_WIDTH, *(len(score.song) for score in own)])
        medians = [f"median {measure}" for measure in BSSEVAL] if frames else []
        lines.append(_row("song", ["SDR", "improved by", "SI-SDR", "level", *medians], width))
        for score in own:
            whole = [score.sdr, score.improvement, score.si_sdr, score.level]
            middle = [found.median for found in of_song(score).values()]
            lines.append(_row(score.song, [f"{value:.2f}" for value in whole + middle], width))
        lines += ["", _row("all", ["median", "MAD", "mean", "SD", "values"], width)]
        for (aggregation, measure), found in over_all(own).items():
            texts = [*(f"{getattr(found, name):.2f}" for name in STATISTICS), str(found.count)]
            lines.append(_row(f"{measure}, {aggregation}", texts, width))
        lines.append("")
    return "\n".join(lines)


def write(out: Path, scores: Sequence[StemScore], about: dict[str, Any]) -> None:
    """Write scores.json, frames.csv and statistics.csv into a folder; each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "scores.json", json.dumps(as_json(scores, about), indent=1, allow_nan=False) + "\n")
    rows: list[list[Any]] = [["stem", "song", "second", *BSSEVAL]]
    for score in scores:
        for second, values in enumerate(zip(*score.frames.values(), strict=True)):
            rows.append([score.stem, score.song, second, *values])
    _write(out / "frames.csv", _csv(rows))
    rows = [["stem", "song", "measure", "aggregation", "values", *STATISTICS]]
    for score in scores:
        rows += [[score.stem, score.song, m, ONE_SONG, *_fields(found)] for m, found in of_song(score).items()]
        rows += [
            [score.stem, score.song, measure, "whole song", 1, value, "", value, ""]
            for measure, value in [*((m, getattr(score, a)) for m, a in WHOLE_SONG.items()), ("level", score.level)]
        ]
    for stem in stems_in(scores):
        for (aggregation, measure), found in over_all([s for s in scores if s.stem == stem]).items():
            rows.append([stem, "", measure, aggregation, *_fields(found)])
    _write(out / "statistics.csv", _csv(rows))


def as_json(scores: Sequence[StemScore], about: dict[str, Any]) -> dict[str, Any]:
    """Everything, in plain lists and dictionaries; null stands for what has no finite value."""
    songs: dict[str, Any] = {}
    for score in scores:
        song = songs.setdefault(score.song, {"song": score.song, "seconds": score.seconds, "stems": {}})
        song["stems"][score.stem] = {
            "whole song": {m: getattr(score, a) for m, a in WHOLE_SONG.items()} | {"level": score.level},
            "frames": {measure: values.tolist() for measure, values in score.frames.items()},
            "silent frames": score.silent_frames,
            ONE_SONG: {measure: asdict(found) for measure, found in of_song(score).items()},
        }
    everything: dict[str, Any] = {}
    for stem in stems_in(scores):
        for (aggregation, measure), found in over_all([s for s in scores if s.stem == stem]).items():
            everything.setdefault(stem, {}).setdefault(aggregation, {})[measure] = asdict(found)
    result = {**about, "unit": "dB", "frame seconds": 1, "over all": everything, "songs": list(songs.values())}
    finite: dict[str, Any] = _finite(result)
    return finite


def require_matplotlib() -> None:
    """Raise ConfigError where there is no matplotlib."""
    if find_spec("matplotlib") is None:
        raise ConfigError("evaluate: matplotlib is not installed; run: pip install matplotlib; or add --quick")


def draw(path: Path, scores: Sequence[StemScore]) -> None:
    """A picture (PNG) of one stem: how its frames' measures spread over all songs, and their SDR song by song."""
    from matplotlib.figure import Figure

    scores = [score for score in scores if np.isfinite(score.frames.get("SDR", np.array([]))).any()]
    if not scores:
        return
    figure = Figure(figsize=(8, 4 + 0.3 * len(scores)), layout="constrained")
    violins, boxes = figure.subplots(2, 1, height_ratios=(3, 1 + 0.3 * len(scores)))
    spread = [np.concatenate([_known(score.frames[measure]) for score in scores]) for measure in BSSEVAL]
    shown = [values if len(values) else np.zeros(1) for values in spread]
    violins.violinplot(shown, showextrema=False, widths=0.8)
    for place, values in enumerate(shown, 1):
        violins.plot(place, np.median(values), "ko", label="median" if place == 1 else None)
        violins.plot(place, values.mean(), "b_", ms=18, mew=2, label="mean" if place == 1 else None)
    violins.set_xticks(range(1, len(BSSEVAL) + 1), BSSEVAL)
    violins.set(ylabel="dB", title=f"{scores[0].stem}: frames of one second, {len(scores)} songs")
    violins.grid(axis="y", alpha=0.4)
    violins.legend()
    boxes.boxplot(
        [_known(score.frames["SDR"]) for score in reversed(scores)], orientation="horizontal", flierprops={"ms": 2}
    )
    boxes.set_yticks(range(1, len(scores) + 1), [plain(score.song) for score in reversed(scores)])
    boxes.set(xlabel="SDR in dB")
    boxes.grid(axis="x", alpha=0.4)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _known(values: Any) -> Any:
    return values[np.isfinite(values)]


def _row(name: str, values: Sequence[str], width: int) -> str:
    return f"  {name:<{width}}" + "".join(f"{value:>13}" for value in values)


def _fields(found: Statistics) -> list[Any]:
    return [found.count, *(getattr(found, name) for name in STATISTICS)]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        ["" if isinstance(value, float) and value != value else value for value in row] for row in rows
    )
    return text.getvalue()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")  # names as they are on the disk
