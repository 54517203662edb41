import pytest
import torch

from stream_checks import noise
from waveunet_cli.networks.wave_u_net.tiles import POINTS, points_for, tile_kernel, tiles_of, tiling, transform


@pytest.mark.parametrize("taps", [15, 5, 4, 3, 1])
@pytest.mark.parametrize("points", [*POINTS, 96])
def test_three_matrices_are_a_convolution(points: int, taps: int) -> None:
    matrices = tiling(points, taps)
    x, w = noise(points, seed=1), noise(taps)
    expected = torch.nn.functional.conv1d(x[None], w[None, None])[0]  # (m,)
    assert len(matrices.after) == len(expected) == points - taps + 1
    assert len(matrices.before) == 3 * points // 2 - 1  # products
    found = matrices.after @ ((matrices.kernel @ w) * (matrices.before @ x))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_tiles_overlap_and_end_in_zeros() -> None:
    rows = torch.arange(1.0, 13).view(6, 2)
    tiles = tiles_of(rows[::2], 2, 4, 2)  # (n, N, C): frames 0 … 3 and 3 … 6 of three
    assert tiles.tolist() == [[[1, 2], [5, 6], [9, 10], [0, 0]], [[0, 0]] * 4]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_rounding_errors_are_those_of_float32(scale: float) -> None:
    x, weight = scale * noise(4015, 72, seed=1), noise(96, 72, 15)
    exact = torch.nn.functional.conv1d(x.T[None].double(), weight.double())[0].T  # (t, out)
    matrices = tiling(40, 15)
    number = -(-len(exact) // 26)
    products = torch.bmm(transform(matrices.before, tiles_of(x, number, 40, 15)), tile_kernel(weight, 40))
    found = transform(matrices.after, products.transpose(0, 1)).transpose(0, 1).flatten(0, 1)[: len(exact)]
    assert float((found - exact).abs().max() / exact.abs().max()) < 2e-6


def test_tiles_are_for_many_channels_and_many_frames() -> None:
    assert points_for(15, 120, 144, 2048) == 40
    assert points_for(15, 2, 24, 65_536) is None
    assert points_for(15, 288, 312, 16) is None
    assert points_for(1, 120, 144, 2048) is None
