"""The last layer of a network fitted anew to songs."""

import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from small_models import FOUR, VALID, network_of
from training_songs import write_stem
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.family import build_network

TWO = replace(VALID[1], activation="linear")  # sources accompaniment, vocals; linear: least squares are exact
STEMS = replace(TWO, sources=FOUR, residual="other")
DEEP = replace(TWO, levels=12, filters=1, down_taps=15, up_taps=5)  # what precedes a song is more than a block
LAST = ("output.weight", "output.bias")
FRAMES = 3001  # no whole number of anything


def saved(path, config=TWO, seed=1):
    save_checkpoint(path, config, network_of(config, seed).state_dict(), torch.float16)
    return path


def estimates(network, x):
    """(C, t) → (S, C, t), before masks."""
    window = network.config.window(x.shape[-1])
    assert network.config.output == "difference"
    y = F.pad(x, (window.context, window.input - window.context - x.shape[-1]))[None]
    with torch.no_grad():
        return network(y)[0, ..., : x.shape[-1]]


def noise(frames=FRAMES, channels=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, (channels, frames)).astype(np.float32))


def write_song(folder, **stems):
    """Stems (C, t) as a song."""
    folder.mkdir(parents=True)
    for name, x in stems.items():
        soundfile.write(folder / f"{name}.wav", x.T.numpy(), TWO.sample_rate, subtype="FLOAT")
    return folder


def last_layer(path):
    weights = load_checkpoint(path).network.state_dict()
    return torch.cat([weights[name].flatten() for name in LAST])


def taught_song(path, folder, frames=FRAMES):
    """A song that the checkpoint's network would separate without an error, had it another last layer."""
    network = load_checkpoint(path).network
    network.config, masked = replace(network.config, output="difference", mask_exponent=1.0, mask_spread=0), network
    teacher = build_network(network.config)
    teacher.load_state_dict(
        masked.state_dict() | {name: network_of(network.config, 7).state_dict()[name] for name in LAST}
    )
    y = estimates(teacher, noise(frames, network.config.channels))
    return write_song(folder, **dict(zip(network.config.sources, y, strict=True))), y


@pytest.mark.parametrize(
    "config",
    [TWO, replace(VALID[2], activation="linear"), replace(VALID[5], activation="linear"), STEMS, DEEP],
    ids=["two sources", "mono", "three towers", "four stems", "twelve levels"],
)
def test_the_layer_that_makes_no_error_is_found(tmp_path, recipe, capsys, config):
    before = saved(tmp_path / "before.safetensors", config)
    song, y = taught_song(before, tmp_path / "song")
    x = y.sum(0)
    recipe("refit", tmp_path / "after.safetensors", before, song, "--absent", 0, "--penalty", 1e-9)
    old, new = (load_checkpoint(tmp_path / f"{name}.safetensors").network for name in ("before", "after"))
    assert new.config == config
    assert (estimates(old, x) - y).square().mean() > 0.1 * y.square().mean()
    assert (estimates(new, x) - y).square().mean() < 1e-5 * y.square().mean()  # the layer is rounded to float16
    for name, weight in new.state_dict().items():
        assert weight.equal(weight.half().float() if name in LAST else old.state_dict()[name])
    error = (estimates(old, x) - y)[:-1].square().sum() / y[:-1].square().sum()
    printed = re.fullmatch(rf"{song}: whole (\S+) → (\S+) dB\n", capsys.readouterr().out)
    assert float(printed[1]) == pytest.approx(10 * float(error.log10()), abs=0.01)
    assert float(printed[2]) < -50


def test_the_stream_may_take_several_blocks(tmp_path, recipe):
    before = saved(tmp_path / "before.safetensors")
    song, y = taught_song(before, tmp_path / "song", 300_001)
    recipe("refit", tmp_path / "after.safetensors", before, song, "--absent", 0, "--penalty", 1e-9)
    found = estimates(load_checkpoint(tmp_path / "after.safetensors").network, y.sum(0))
    assert (found - y).square().mean() < 1e-5 * y.square().mean()


def test_tanh_and_masks_are_left_out_of_account(tmp_path, recipe):
    masked = replace(TWO, output="masked", activation="tanh", mask_exponent=1.5, mask_spread=3)
    for name, config in (("plain", TWO), ("masked", masked)):
        before = saved(tmp_path / f"{name}-before.safetensors", config)
        song = write_song(tmp_path / name, vocals=noise(seed=1), accompaniment=noise(seed=2))
        recipe("refit", tmp_path / f"{name}.safetensors", before, song)
    assert load_checkpoint(tmp_path / "masked.safetensors").config == masked
    assert last_layer(tmp_path / "masked.safetensors").equal(last_layer(tmp_path / "plain.safetensors"))


def test_songs_of_noise_get_better_together(tmp_path, recipe):
    before = saved(tmp_path / "before.safetensors")
    stems = [(noise(seed=i), 3 * noise(seed=10 + i)) for i in range(3)]  # vocals, accompaniment
    songs = [write_song(tmp_path / f"{i}", vocals=v, accompaniment=a) for i, (v, a) in enumerate(stems)]
    recipe("refit", tmp_path / "after.safetensors", before, *songs)

    def error(name):
        network = load_checkpoint(tmp_path / f"{name}.safetensors").network
        return sum((estimates(network, v + a)[0] - a).square().sum() / (v + a).square().sum() for v, a in stems)

    assert error("after") < 0.5 * error("before")


def test_a_huge_penalty_keeps_the_layer(tmp_path, recipe):
    before = saved(tmp_path / "before.safetensors")
    song = write_song(tmp_path / "song", vocals=noise(seed=1), accompaniment=noise(seed=2))
    recipe("refit", tmp_path / "same.safetensors", before, song, "--penalty", 1e9)
    torch.testing.assert_close(last_layer(tmp_path / "same.safetensors"), last_layer(before), rtol=1e-3, atol=1e-6)
    recipe("refit", tmp_path / "other.safetensors", before, song)
    assert (last_layer(tmp_path / "other.safetensors") - last_layer(before)).abs().max() > 0.1


def test_absent_sources_are_kept_out(tmp_path, recipe):
    before = saved(tmp_path / "before.safetensors")
    a = noise(seed=2)
    song = write_song(tmp_path / "song", vocals=noise(seed=1), accompaniment=a)
    left = []
    for absent in (0, 0.1, 100):
        recipe("refit", tmp_path / "after.safetensors", before, song, "--absent", absent)
        left.append(estimates(load_checkpoint(tmp_path / "after.safetensors").network, a)[1].square().mean())
    assert left[0] > 1.1 * left[1] > 1.1**2 * left[2]


def test_loud_songs_count_no_more_than_soft_ones(tmp_path, recipe):
    before = saved(tmp_path / "before.safetensors")
    weights = load_checkpoint(before).network.state_dict()
    for name, w in weights.items():
        if name.endswith("bias"):  # so that what is twice as loud has features twice as large
            w.zero_()
    save_checkpoint(before, TWO, weights)
    one = write_song(tmp_path / "one", vocals=noise(seed=1), accompaniment=0.2 * noise(seed=2))
    for name, gain in (("soft", 1), ("loud", 2.0**20)):
        other = write_song(tmp_path / name, vocals=0.2 * gain * noise(seed=3), accompaniment=gain * noise(seed=4))
        recipe("refit", tmp_path / f"{name}.safetensors", before, one, other)
    recipe("refit", tmp_path / "only.safetensors", before, other)
    soft, loud, only = (last_layer(tmp_path / f"{name}.safetensors")[:-2] for name in ("soft", "loud", "only"))
    assert (soft - loud).abs().max() < 0.05  # the bias is not compared, nor can it be as large for both
    assert (soft - only).abs().max() > 0.2


def test_other_stems_are_of_the_residual(tmp_path, recipe):
    before = saved(tmp_path / "before.safetensors")
    v, short, o = noise(seed=1), noise(2000, channels=1, seed=2), noise(seed=3)
    a = o + F.pad(short.repeat(2, 1), (0, FRAMES - 2000))  # mono stems are doubled, short ones padded at the end
    songs = [
        write_song(tmp_path / "stems", vocals=v, drums=short, other=o, mixture=v + a),
        write_song(tmp_path / "two", vocals=v, accompaniment=a),
        write_song(tmp_path / "both", vocals=v, accompaniment=a, drums=short, other=o),
    ]
    layers = []
    for song in songs:
        recipe("refit", tmp_path / "after.safetensors", before, song)
        layers.append(last_layer(tmp_path / "after.safetensors"))
    for layer in layers[1:]:
        torch.testing.assert_close(layer, layers[0], rtol=1e-3, atol=1e-5)


def test_a_channel_may_be_silent(tmp_path, recipe):
    before = saved(tmp_path / "before.safetensors")
    song = write_song(tmp_path / "left", vocals=noise() * torch.tensor([[1], [0]]))
    recipe("refit", tmp_path / "after.safetensors", before, song)
    old, new = (load_checkpoint(path).network.output.weight for path in (before, tmp_path / "after.safetensors"))
    assert new[:, 1].equal(old[:, 1])  # of which the song says nothing
    assert (new[:, 0] - old[:, 0]).abs().min() > 0.01


def test_songs_without_vocals_and_silence(tmp_path, recipe, capsys):
    before = saved(tmp_path / "before.safetensors", replace(TWO, sources=("vocals", "accompaniment")))
    alone = write_song(tmp_path / "alone", other=noise())
    silent = write_song(tmp_path / "silent", vocals=0 * noise(), other=0 * noise())
    recipe("refit", tmp_path / "after.safetensors", before, alone, silent)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{alone}: alone \S+ → -\S+ dB", first)  # of the mixture: the predicted source is silent
    assert second == f"{silent}: left out"
    for songs, absent in (((silent,), 1), ((alone, silent), 0)):
        with pytest.raises(SystemExit, match="2"):
            recipe("refit", tmp_path / "none.safetensors", before, *songs, "--absent", absent)
        assert "silent, or only a residual" in capsys.readouterr().err
    assert not (tmp_path / "none.safetensors").exists()


@pytest.mark.parametrize(
    ("config", "stems", "options", "words"),
    [
        (TWO, (), (), "song: no stems there; give folders of <stem>.wav"),
        (TWO, ("mixture",), (), "song: no stems there"),
        (replace(TWO, padding="same"), ("vocals",), (), "before.safetensors: no valid network of the difference kind"),
        (replace(TWO, output="direct"), ("vocals",), (), "before.safetensors: no valid network of the difference kind"),
        (TWO, ("vocals",), ("--absent", "-1"), "--absent -1: no weight"),
        (TWO, ("vocals",), ("--absent", "nan"), "--absent nan: no weight"),
        (TWO, ("vocals",), ("--penalty", "0"), "--penalty 0: no penalty"),
        (TWO, ("vocals",), ("--penalty", "inf"), "--penalty inf: no penalty"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(tmp_path, recipe, capsys, config, stems, options, words):
    before = tmp_path / "before.safetensors"
    save_checkpoint(before, config, build_network(config).state_dict())
    (tmp_path / "song").mkdir()
    for stem in stems:
        write_stem(tmp_path / "song" / f"{stem}.wav")
    with pytest.raises(SystemExit, match="2"):
        recipe("refit", tmp_path / "after.safetensors", before, tmp_path / "song", *options)
    said = capsys.readouterr().err
    assert words in said.splitlines()[-1]
    assert not (tmp_path / "after.safetensors").exists()


def test_files_that_are_not_there_are_one_line(tmp_path, recipe, capsys):
    before = saved(tmp_path / "before.safetensors")
    song = write_song(tmp_path / "song", vocals=noise())
    for checkpoint, folder, words in (
        (tmp_path / "none.safetensors", song, "none.safetensors: no such checkpoint"),
        (before, tmp_path / "nowhere", "nowhere: no stems there"),
    ):
        with pytest.raises(SystemExit, match="2"):
            recipe("refit", tmp_path / "after.safetensors", checkpoint, folder)
        assert words in capsys.readouterr().err.splitlines()[-1]
