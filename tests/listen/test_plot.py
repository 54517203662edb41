"""`waveunet plot`: pictures of separated songs."""

import re

import numpy as np
import pytest
import soundfile

from waveunet_cli.errors import ConfigError
from waveunet_cli.listen import find_stems
from waveunet_cli.listen.plot import draw

RATE = 8000


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "A song, 歌 $x_1$"
    folder.mkdir()
    for seed, name in enumerate(("vocals", "rest $y")):
        samples = np.random.default_rng(seed).uniform(-0.2, 0.2, (2 * RATE, 2))
        soundfile.write(folder / f"{name}.wav", samples, RATE)
    return folder


@pytest.mark.thorough
def test_a_png_and_an_svg(folder, waveunet):
    from PIL import Image

    ran = waveunet("plot", folder)
    assert (ran.code, ran.err) == (0, "")
    assert ran.stems == [folder / "spectrograms.png"]
    with Image.open(folder / "spectrograms.png") as picture:
        assert picture.size == (1200, 840)
    ran = waveunet("plot", folder, "--format", "svg")
    assert ran.stems == [folder / "spectrograms.svg"]
    text = (folder / "spectrograms.svg").read_text()
    texts = re.findall(r"<!-- (.*?) -->", text)
    assert {"mixture", "vocals", "rest $y", "seconds", "Hz", "dB"} <= {each.replace("\\$", "$") for each in texts}


def test_what_has_no_stems_or_another_extension(tmp_path, folder, waveunet):
    ran = waveunet("plot", tmp_path / "nowhere")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: ")
    with pytest.raises(ConfigError, match="pictures are png or svg"):
        draw(find_stems(folder, folder)[0], folder / "picture.gif")
