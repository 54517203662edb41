"""The stream gives resampy's samples, for any cut of the input, and its indices never drift."""

import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from waveunet_cli.errors import ConfigError
from waveunet_cli.streaming import resample as resample_module
from waveunet_cli.streaming.resample import Resampler, resample, resampled_frames

RATES = [(44100, 22050), (48000, 44100), (96000, 44100), (44100, 16000), (44100, 8192)]
BOTH_WAYS = RATES + [(to_hz, from_hz) for from_hz, to_hz in RATES]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def by_resampy(x: Tensor, from_hz: int, to_hz: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's remarks on the machine are not ours
        from resampy import resample as reference

        return torch.from_numpy(reference(x.double().numpy(), from_hz, to_hz))


def error_db(found: Tensor, expected: Tensor) -> float:
    return 10 * float(torch.log10((found.double() - expected).square().mean() / expected.square().mean()))


def streamed(x: Tensor, cuts: list[int], from_hz: int, to_hz: int) -> Tensor:
    stream = Resampler(from_hz, to_hz, dtype=x.dtype)
    blocks = [stream.push(x[..., begin:end]) for begin, end in pairwise([0, *cuts, x.shape[-1]])]
    return torch.cat([*blocks, stream.flush()], dim=-1)


@pytest.mark.thorough
@pytest.mark.parametrize(("from_hz", "to_hz"), BOTH_WAYS)
def test_equals_resampy(from_hz: int, to_hz: int) -> None:
    x = noise(2, from_hz)
    found, expected = resample(x, from_hz, to_hz), by_resampy(x, from_hz, to_hz)
    # Both take zeros to lie outside, so the ends agree too, as far as resampy's shorter result goes.
    assert found.shape[-1] - expected.shape[-1] in (0, 1)
    found = found[:, : expected.shape[-1]]
    assert error_db(found, expected) <= -120
    assert error_db(found[:, :20], expected[:, :20]) <= -100
    assert error_db(found[:, -20:], expected[:, -20:]) <= -100


def test_float64_equals_resampy_beyond_float32() -> None:
    x = noise(1, 20_000).double()
    expected = by_resampy(x, 44100, 22050)
    assert error_db(resample(x, 44100, 22050), expected) <= -250


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 22050), (22050, 44100), (48000, 44100), (44100, 8192)])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_streamed_equals_whole(from_hz: int, to_hz: int, data: st.DataObject) -> None:
    frames = data.draw(st.integers(0, 30_000))
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=8)))
    x = noise(2, frames)
    torch.testing.assert_close(streamed(x, cuts, from_hz, to_hz), resample(x, from_hz, to_hz), rtol=0, atol=1e-5)


def test_single_frames_equal_whole() -> None:
    x = noise(1, 700)
    torch.testing.assert_close(
        streamed(x, list(range(700)), 48000, 44100), resample(x, 48000, 44100), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("from_hz", "to_hz"), [*BOTH_WAYS, (44100, 44100)])
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 199, 200, 201, 44_101])
def test_output_frames(from_hz: int, to_hz: int, frames: int) -> None:
    expected = resampled_frames(frames, from_hz, to_hz)
    assert (expected - 1) * from_hz < frames * to_hz <= expected * from_hz
    assert resample(torch.zeros(1, frames), from_hz, to_hz).shape == (1, expected)


def test_frame_counts_are_exact_integers() -> None:
    assert resampled_frames(44100 * 10**12 + 1, 44100, 8192) == 8192 * 10**12 + 1
    assert resampled_frames(1, 44100, 8192) == 1
    assert resampled_frames(0, 44100, 8192) == 0


def test_equal_rates_pass_the_very_block() -> None:
    stream = Resampler(44100, 44100)
    block = noise(2, 3, 17)
    assert stream.push(block) is block
    assert stream.flush().shape == (2, 3, 0)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 22050), (48000, 44100), (44100, 8192)])
def test_reaches_no_further_than_the_filter(from_hz: int, to_hz: int) -> None:
    x = noise(1, 30_000)
    other = x.clone()
    at = 15_000
    other[0, at] += 100
    changed = (resample(other, from_hz, to_hz) != resample(x, from_hz, to_hz))[0].nonzero()[:, 0]
    distance = (changed * from_hz / to_hz - at).abs()  # in input frames
    support = 50 * max(1.0, from_hz / to_hz)
    assert 0.9 * support < distance.max() <= support + 1


def test_linear() -> None:
    x, y = noise(2, 5_000), noise(3, 5_000)[1:]
    together = resample(2 * x - 3 * y, 48000, 44100)
    apart = 2 * resample(x, 48000, 44100) - 3 * resample(y, 48000, 44100)
    torch.testing.assert_close(together, apart, rtol=0, atol=2e-5)


def test_no_drift_after_an_hour() -> None:
    from_hz, to_hz = 44100, 8192
    hour = 3600 * from_hz + 12_345  # about 1.6·10⁸ frames
    stream = Resampler(from_hz, to_hz)
    zeros = torch.zeros(1 << 20)
    frames_out = 0
    for begin in range(0, hour, len(zeros)):
        frames_out += len(stream.push(zeros[: hour - begin]))
    # A whole second is a whole number of frames at both rates: the impulse must look as it does an hour earlier.
    impulse = torch.ones(1)
    late = torch.cat([stream.push(impulse), stream.push(zeros[:from_hz]), stream.flush()])
    early = resample(torch.cat([zeros[:12_345], impulse, zeros[:from_hz]]), from_hz, to_hz)
    early = early[frames_out - 3600 * to_hz :]
    assert early.abs().max() > 0.1
    assert torch.equal(late != 0, early != 0)
    torch.testing.assert_close(late, early, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (2,), (3, 2), (0, 2)])
def test_leading_dimensions(shape: tuple[int, ...]) -> None:
    x = noise(*shape, 4_000)
    y = resample(x, 48000, 44100)
    assert y.shape == (*shape, 3_675)
    for index in np.ndindex(shape):
        torch.testing.assert_close(y[index], resample(x[index], 48000, 44100), rtol=0, atol=1e-5)


def test_flush_starts_afresh() -> None:
    x = noise(1, 3_000)
    stream = Resampler(48000, 44100)
    assert stream.flush().shape == (0,)
    first = torch.cat([stream.push(x), stream.flush()], dim=-1)
    second = torch.cat([stream.push(x[0]), stream.flush()], dim=-1)
    assert torch.equal(first[0], second)


def test_keeps_no_more_than_filter_and_cycle() -> None:
    stream = Resampler(44100, 22050)
    stream.push(torch.zeros(1, 1_000_000))
    assert stream._tail is not None
    assert stream._tail.untyped_storage().nbytes() < 4 * 1_000


@pytest.mark.parametrize("bad_hz", [0, -44100, 44100.0, "44100", None, True])
def test_bad_rates(bad_hz: object) -> None:
    with pytest.raises(ConfigError, match="sampling rate: found"):
        Resampler(bad_hz, 44100)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="sampling rate: found"):
        resampled_frames(10, 44100, bad_hz)  # type: ignore[arg-type]


def test_rates_may_be_numpys() -> None:
    x = torch.randn(500)
    torch.testing.assert_close(resample(x, np.int64(48_000), np.int32(44_100)), resample(x, 48_000, 44_100))  # type: ignore[arg-type]


@pytest.mark.parametrize(("from_hz", "to_hz"), [(10_000_019, 44100), (44100, 999_983), (999_983, 1)])
def test_filters_without_measure_are_refused(from_hz: int, to_hz: int) -> None:
    with pytest.raises(ConfigError, match="convert the file"):
        Resampler(from_hz, to_hz)


def test_neither_resampy_nor_numba_is_loaded() -> None:
    code = (
        "import sys; from waveunet_cli.streaming.resample import Resampler; Resampler(48000, 44100);"
        "sys.exit(bool({'resampy', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_large_filters_are_not_kept_for_the_next_song() -> None:
    resample_module._kept_bank.cache_clear()
    for from_hz in (44_101, 44_111, 44_113):
        Resampler(from_hz, 44_100)
    assert resample_module._kept_bank.cache_info().currsize == 0
    Resampler(48_000, 44_100)
    assert resample_module._kept_bank.cache_info().currsize == 1
