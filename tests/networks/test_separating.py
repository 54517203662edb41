"""Every family of networks separates a song as the command does it: imported, then named.

What the command writes is compared with the network run by hand: windows of a network that knows only its own are cut
one by one, and one that may choose its windows gets the whole song at once, so that a seam anywhere would show.
"""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import pad

from golden_files import golden
from torch_checkpoints import mss_state, state_of
from waveunet_cli.networks.mss import MSSConfig
from waveunet_cli.networks.pytorch_port import PyTorchPortConfig

FRAMES = 20_011
SMALL = PyTorchPortConfig(
    sources=("vocals", "band"), sample_rate=8000, widths=(8, 16, 24), residual="band", window_frames=3000
)
RATE = ("--sample-rate", 8000)


def port(**changes):
    def saved(folder):
        config = replace(SMALL, **changes)
        torch.save({"model_state_dict": state_of(config), "state": {"step": 1}}, folder / "model")
        return folder / "model"

    return saved


def mss(folder):
    torch.save(mss_state(MSSConfig(levels=4, filters=3)), folder / "baseline.pt")
    return folder / "baseline.pt"


OWN = (*RATE, "--window-frames", 3000)
TWO, FOUR, VOICE = ("vocals", "band"), ("bass", "drums", "other", "vocals"), ("accompaniment", "vocals")
CASES = {  # checkpoint, options, stems in its order, whether they sum to the mixture
    "wave-u-net valid": ("tf/M5", RATE, VOICE, True),
    "wave-u-net valid, four stems": ("tf/M6", (*RATE, "--stems", "drums,vocals,bass,other"), None, True),
    "wave-u-net same": ("tf/M1", (*RATE, "--padding", "same"), VOICE, False),
    "wave-u-net same, difference": ("tf/M2", (*RATE, "--padding", "same"), VOICE, True),
    "port, joint, learned, group norm": ("pytorch/joint_learned/model", OWN, FOUR, False),
    "port, separate, fixed, group norm": ("pytorch/separate_fixed/model", OWN, FOUR, False),
    "port, separate, batch norm": (port(norm="batch"), OWN, TWO, False),
    "port, separate, no norm, mono": (port(norm="none", channels=1, widths=(3, 5)), OWN, TWO, False),
    "port, joint, no norm": (port(norm="none", separate=False), (*OWN, "--stems", "vocals,band"), TWO, False),
    "keras shallow": ("keras/shallow/model.h5", (*RATE, "--window-frames", 4096), ("vocals", "accompaniment"), True),
    "keras deep": ("keras/deep/model.h5", (*RATE, "--window-frames", 4096), ("vocals", "accompaniment"), True),
    "mss": (mss, (*RATE, "--window-frames", 3000), ("drums", "bass", "other", "vocals"), False),
}


def by_hand(model, mixture):
    """The sources of a mixture (frames, channels) at the model's rate: {name: (frames, channels)}."""
    config = model.config
    window = config.window(FRAMES) if config.window().alignment else config.window()
    x = torch.from_numpy(mixture.T)  # (ch, t)
    x = x[None] if config.channels == 2 else x[:, None]  # (B, C, t): a mono network hears each channel alone
    x = pad(x, (window.context, window.input))
    starts = range(0, FRAMES, window.hop)
    parts = [model.network(x[..., start : start + window.input])[..., : window.hop] for start in starts]
    assert len(parts) == 1 if window.alignment else len(parts) > 1
    y = torch.cat(parts, -1)[..., :FRAMES].transpose(0, 1).flatten(1, 2)  # (S, ch, t)
    sources = {name: source.T.numpy() for name, source in zip(config.sources, y, strict=True)}
    if config.additive:
        sources[config.residual] = mixture - sum(sources[name] for name in config.sources if name != config.residual)
    return sources


@pytest.fixture
def song(tmp_path):
    """Stereo noise that swells, as float."""
    rng = np.random.default_rng(3)
    mixture = rng.normal(0, 0.2, (FRAMES, 2)) * np.linspace(0.1, 1, FRAMES)[:, None]
    soundfile.write(tmp_path / "song.wav", mixture.astype(np.float32), 8000, subtype="FLOAT")
    return tmp_path / "song.wav"


@pytest.mark.thorough
@pytest.mark.parametrize("case", CASES)
def test_every_family_separates_a_song_by_name(case, song, tmp_path, imported, waveunet):
    checkpoint, options, names, additive = CASES[case]
    model = imported(checkpoint(tmp_path) if callable(checkpoint) else golden(checkpoint), *options)
    assert model.config.additive == additive

    ran = waveunet("separate", "-n", "mine", song, "-o", tmp_path / "out", "-d", "cpu", "--precision", "float32")

    assert (ran.code, ran.err) == (0, "")
    names = names or tuple(options[-1].split(","))
    assert ran.stems == [tmp_path / "out" / "mine" / "song" / f"{name}.wav" for name in names]
    mixture, _ = soundfile.read(song, dtype="float32")
    expected = by_hand(model, mixture)
    for path in ran.stems:
        stem, rate = soundfile.read(path, dtype="float32")
        assert (rate, stem.shape) == (8000, (FRAMES, 2))
        assert np.abs(expected[path.stem]).max() > 0.01  # there is something to compare
        np.testing.assert_allclose(stem, expected[path.stem], atol=2e-5, rtol=0)


@pytest.mark.thorough
@pytest.mark.parametrize("frames", [0, 999])
@pytest.mark.parametrize("case", ["wave-u-net same", "port, joint, learned, group norm", "keras shallow", "mss"])
def test_songs_shorter_than_a_window_keep_their_length_and_rate(case, frames, tmp_path, imported, waveunet):
    checkpoint, options, _, _ = CASES[case]
    imported(checkpoint(tmp_path) if callable(checkpoint) else golden(checkpoint), *options)
    soundfile.write(tmp_path / "short.wav", np.full((frames, 1), 0.1), 44_100)
    ran = waveunet("separate", "-n", "mine", tmp_path / "short.wav", "-o", tmp_path / "out", "-d", "cpu")
    assert (ran.code, ran.err) == (0, "")
    for path in ran.stems:
        info = soundfile.info(path)
        assert (info.frames, info.channels, info.samplerate) == (frames, 1, 44_100)


CARD = """
name = "lab"
title = "A port of the lab"
architecture = "PyTorch port"
format = "pytorch"
stems = ["vocals", "band"]
residual = "band"
sample_rate = 8000
channels = 2
licence = "CC0-1.0"
authors = []
citation = ""
homepage = ""
verified = false
notes = ""
[[files]]
name = "model"
expected_size = 100000
"""


def test_the_rate_is_the_cards(song, tmp_path, waveunet, monkeypatch):
    """The port's default is 44 100 Hz: at that rate the network would hear another song."""
    from waveunet_cli.hub import load_model

    monkeypatch.setenv("WAVEUNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WAVEUNET_MODELS", str(tmp_path))
    port()(tmp_path)
    (tmp_path / "lab.toml").write_text(CARD)
    ran = waveunet("separate", "-n", "lab", song, "-o", tmp_path / "out", "-d", "cpu", "--precision", "float32")
    assert ran.code == 0, ran.err
    model = load_model("lab")
    assert model.config == replace(SMALL, window_frames=16_000)  # the port's 2 s
    expected = by_hand(model, soundfile.read(song, dtype="float32")[0])
    for path in ran.stems:
        np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], expected[path.stem], atol=2e-5, rtol=0)
