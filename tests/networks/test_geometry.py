"""The integers of a window, against the paper's, the reference's and a simulation frame by frame."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from small_models import TINY, VALID, network_of
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.geometry import Window, same_window, valid_window
from waveunet_cli.networks.wave_u_net.config import M3, M4, M5_HIGHSR, M7, VARIANTS

# The reference's own figures: input_frames, output_frames of its graphs, by the window asked for.
REFERENCE = [
    ("M1", 16_384, 16_384, 16_384),
    ("M2", 16_384, 16_384, 16_384),
    ("M3", 4_096, 135_155, 4_101),
    ("M4", 4_096, 135_155, 4_101),
    ("M5", 4_096, 135_155, 4_101),
    ("M6", 4_096, 135_155, 4_101),
    ("M3", 16_384, 147_443, 16_389),
    ("M7", 98_560, 233_459, 102_405),
]

taps = st.integers(0, 9).map(lambda n: 2 * n + 1)


def simulate(frames, levels, down_taps, up_taps):
    """Frames that leave a valid network and whether every crop was even, by its layers one after the other."""
    even = True
    skips = []
    mixture = frames
    for _ in range(levels):
        frames -= down_taps - 1
        skips.append(frames)
        frames = (frames + 1) // 2  # frames 0, 2, 4 …
        even &= skips[-1] % 2 == 1  # an even length would lose its last frame
    frames -= down_taps - 1
    for skip in reversed(skips):
        frames = 2 * frames - 1
        even &= (skip - frames) % 2 == 0
        frames -= up_taps - 1
    return frames, even and (mixture - frames) % 2 == 0


@pytest.mark.parametrize(("variant", "asked", "input_frames", "output_frames"), REFERENCE)
def test_windows_are_the_references(variant, asked, input_frames, output_frames):
    window = VARIANTS[variant].window(asked)
    assert (window.input, window.output) == (input_frames, output_frames)


def test_the_papers_window_is_the_default():
    assert M4.window() == Window(context=65_527, output=16_389, hop=16_384, alignment=4_096)
    assert M5_HIGHSR.window().input == 147_443
    assert M7.window().output == 102_405
    assert M3.window(1).reach == 65_527 + 4_095


@given(st.integers(1, 10), taps, taps, st.integers(0, 3000))
def test_a_window_is_what_the_layers_make_of_it(levels, down_taps, up_taps, asked):
    window = valid_window(levels, down_taps, up_taps, asked)
    assert simulate(window.input, levels, down_taps, up_taps) == (window.output, True)
    step = 2**levels
    assert window.alignment == step
    assert window.hop % step == 0
    assert asked <= window.hop < asked + step or window.hop == step
    assert window.hop <= window.output
    assert window.input == window.output + 2 * window.context


@pytest.mark.parametrize("levels", [1, 2, 3, 12])
def test_no_other_length_crops_evenly(levels):
    allowed = {valid_window(levels, 5, 3, hop * 2**levels).input for hop in range(1, 40)}
    low, high = min(allowed), min(allowed) + 3 * 2**levels
    even = {frames for frames in range(low, high) if simulate(frames, levels, 5, 3)[1]}
    assert even == {frames for frames in allowed if low <= frames < high}


@pytest.mark.parametrize("config", VALID, ids=lambda config: f"{config.levels} levels")
@pytest.mark.parametrize("asked", [1, 17, 100])
def test_the_network_agrees(config, asked):
    window = config.window(asked)
    x = torch.zeros(1, config.channels, window.input)
    with torch.no_grad():
        assert network_of(config)(x).shape == (1, len(config.sources), config.channels, window.output)


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(0, 100_000))
def test_padded_windows_are_whole_steps(levels, asked):
    window = same_window(levels, asked)
    assert (window.context, window.alignment, window.input) == (0, 0, window.hop)
    assert window.hop % 2**levels == 0
    assert window.hop >= asked


@pytest.mark.parametrize("bad", [(0, 5, 5), (2, 4, 5), (2, 5, 2), (2, -1, 5), (2, 5, 0)])
def test_taps_without_a_centre_are_refused(bad):
    with pytest.raises(ConfigError, match="choose odd taps"):
        valid_window(*bad, 1)


def test_windows_of_tiny():
    assert TINY.window(1).hop == 4
