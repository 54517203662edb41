"""The mixture and the stems of a song as spectrograms on one page."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import ConfigError
from waveunet_cli.files import whole_file
from waveunet_cli.listen.overview import Spectrogram
from waveunet_cli.listen.picture import RANGE_DB, top_of
from waveunet_cli.listen.stemset import MIXTURE, StemSet, Tracks
from waveunet_cli.text import plain

FORMATS = ("png", "svg")
COLUMNS, BANDS = 1000, 200
BLOCK_FRAMES = 1 << 18


def require_matplotlib() -> None:
    """Raise ConfigError where there is no matplotlib."""
    if find_spec("matplotlib") is None:
        raise ConfigError("plot: matplotlib is not installed; run: pip install matplotlib")


def draw(stems: StemSet, path: Path) -> None:
    """Draw a picture into a PNG or SVG file, by the file's extension. A colour is the same level in all rows.

    Raises AudioReadError where `Tracks` does, AudioWriteError, and ConfigError for another extension.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ConfigError(f"{path}: pictures are {' or '.join(FORMATS)}; choose such an extension")
    from matplotlib.figure import Figure

    with Tracks(stems) as tracks:
        seconds = tracks.frames / tracks.sample_rate_hz
        found = {
            name: Spectrogram(tracks.frames, tracks.sample_rate_hz, COLUMNS, BANDS) for name in (MIXTURE, *stems.stems)
        }
        for blocks, mixture in tracks.blocks(BLOCK_FRAMES):
            for name, block in {MIXTURE: mixture, **blocks}.items():
                found[name].push(block)
    decibels = {name: spectrogram.finish() for name, spectrogram in found.items()}  # each (bands, columns)
    top_db = top_of(decibels.values())
    figure = Figure(figsize=(10, 1 + 2 * len(found)), layout="constrained")
    figure.suptitle(plain(stems.title), parse_math=False)
    all_axes = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    times = np.linspace(0, seconds, COLUMNS + 1)
    for axes, (name, levels) in zip(all_axes, decibels.items(), strict=True):
        edges_hz = found[name].edges_hz
        mesh = axes.pcolormesh(
            times, edges_hz, levels, vmin=top_db - RANGE_DB, vmax=top_db, cmap="magma", rasterized=True
        )
        axes.set(yscale="log", ylim=(edges_hz[0], edges_hz[-1]), ylabel="Hz")
        axes.set_title(plain(name), loc="left", parse_math=False)
    all_axes[-1].set_xlabel("seconds")
    figure.colorbar(mesh, ax=all_axes, label="dB")
    with warnings.catch_warnings(), explained(path), whole_file(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks becomes a box
        figure.savefig(temporary, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
