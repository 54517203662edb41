"""Change of sampling rate as a stream: resampy's `kaiser_best` filter, applied as matrix products.

The filter
    A table holds the right wing h of a windowed sinc, P entries to a zero crossing. Let L / M = to_hz / from_hz in
    lowest terms and D = max(L, M). Output frame j lies at input time j·M / L, so between the input frames

        n_j = ⌊j·M / L⌋  and  n_j + 1,   ρ_j / L after the first, where ρ_j = j·M mod L.

    Going down, the sinc is stretched by D / L and its gain lowered to L / D to keep out what the new rate can't hold
    (going up, L / D = 1). In table entries the two neighbours then lie away by

        a_j = P·ρ_j / D  (left)   and   b_j = P·(L − ρ_j) / D  (right),

    and each frame further out by another step = ⌊P·L / D⌋ entries; the table is read by linear interpolation:

        y_j = L/D · (Σ_i h(a_j + i·step)·x[n_j − i]  +  Σ_k h(b_j + k·step)·x[n_j + 1 + k])
        0 ≤ i < ⌊(len h − ⌊a_j⌋) / step⌋,   0 ≤ k < ⌊(len h − ⌊b_j⌋) / step⌋.

    Rounding the step down and where the sums stop are resampy's choices, kept to give its samples. Its time in
    floating point is not: n_j and ρ_j are integers here, so nothing drifts over hours.

The product
    r·M input frames always make r·L output frames with the same weights: a cycle. Its outputs are cut into groups that
    lie about as far apart as the filter is long; a group is one dense matrix (input span, outputs), about half of it
    filled, and all cycles of a block go through it in one product.

Source: J. O. Smith, "Digital Audio Resampling Home Page"; the `resampy` package, version 0.4.3.
"""

from functools import lru_cache
from importlib.util import find_spec
from math import gcd
from numbers import Integral  # numpy's too
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from waveunet_cli.errors import ConfigError

ENTRIES_PER_CROSSING = 8192  # P, in resampy's kaiser_best table
TABLE_ENTRIES = 50 * ENTRIES_PER_CROSSING + 1
MAX_WEIGHTS = 1 << 24  # 128 MiB as matrices, which hold about as many zeros; ordinary pairs need 0.03 to 3 million
MAX_KEPT_WEIGHTS = 1 << 22  # of a filter that is kept for the next song


def resampled_frames(frames: int, from_hz: int, to_hz: int) -> int:
    """Frames that `frames` input frames become: ⌈frames · to_hz / from_hz⌉, so every instant of the input is covered.

    resampy itself rounds down and refuses a result of no frames. Raises `ConfigError` on a bad rate.
    """
    up, down = _ratio(from_hz, to_hz)
    return -(-frames * up // down)


def resample(x: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Resample all of `x` (..., frames) at once → (..., `resampled_frames`). Raises `ConfigError` on a bad rate."""
    stream = Resampler(from_hz, to_hz, x.device, x.dtype)
    return torch.cat([stream.push(x), stream.flush()], dim=-1)


class Resampler:
    """A stream of blocks from one sampling rate to another; does no I/O.

    Output frame j lies at input time j · from_hz / to_hz: the first frames of both coincide. Zeros are taken to lie
    before the start and after the end. However the input is cut, the outputs joined have `resampled_frames` frames.
    At equal rates blocks pass through untouched. Keeps the filter's length and one cycle of input between calls;
    `push` returns as much as is certain, often more or less than the block's share, none for a short block.

    Use it outside autocast, with float32 products in full precision, else the filter's depth of −120 dB is lost.
    Raises `ConfigError` on a rate that is no positive integer, and on pairs that would need a huge filter.
    """

    def __init__(
        self,
        from_hz: int,
        to_hz: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._up, self._down = _ratio(from_hz, to_hz)
        self._device, self._dtype = torch.device(device), dtype
        if self._up != self._down:
            self._bank = _filter_bank(self._up, self._down, dtype)
            self._kernels = [kernel.to(self._device) for kernel in self._bank.kernels]
        self._start()

    def _start(self) -> None:
        self._tail: Tensor | None = None  # (..., t): input from `reach_left` frames before the next cycle on
        self._frames_in = 0
        self._frames_out = 0

    def push(self, block: Tensor) -> Tensor:
        """(..., t) → (..., t'): the outputs that no later input can change. Leading dimensions stay those of the
        first block. The block is moved to the stream's device and type."""
        block = block.to(self._device, self._dtype)
        if self._up == self._down:
            self._tail = block.new_zeros((*block.shape[:-1], 0))
            return block
        if self._tail is None:
            self._tail = block.new_zeros((*block.shape[:-1], self._bank.reach_left))
        self._frames_in += block.shape[-1]
        return self._advance(torch.cat([self._tail, block], dim=-1))

    def flush(self) -> Tensor:
        """End of the input: (..., t'') with all outputs still owed. The stream then is as new.

        Without any push before, the leading dimensions are unknown and the shape is (0,)."""
        if self._tail is None:
            return torch.zeros(0, device=self._device, dtype=self._dtype)
        rest = self._tail
        if self._up != self._down:
            # owed = ⌈in · L / M⌉ − out; the cycles it takes are run on zeros, and the surplus is cut.
            owed = -(-self._frames_in * self._up // self._down) - self._frames_out
            cycles = -(-owed // self._bank.cycle_out)
            missing = self._bank.halo + cycles * self._bank.cycle_in - rest.shape[-1]
            rest = self._advance(torch.nn.functional.pad(rest, (0, missing)))[..., :owed]
        self._start()
        return rest

    def _advance(self, x: Tensor) -> Tensor:
        """All whole cycles in `x` (..., t), whose first frame lies `reach_left` before a cycle; keep what is left."""
        bank = self._bank
        cycles = max(0, (x.shape[-1] - bank.halo) // bank.cycle_in)
        self._tail = x[..., cycles * bank.cycle_in :].clone()  # a view would keep the whole block alive
        self._frames_out += cycles * bank.cycle_out
        if cycles == 0:
            return x.new_zeros((*x.shape[:-1], 0))
        outputs = []
        for start, kernel in zip(bank.starts, self._kernels, strict=True):
            span = kernel.shape[0]
            end = start + (cycles - 1) * bank.cycle_in + span
            spans = x[..., start:end].unfold(-1, span, bank.cycle_in)  # (..., cycles, span)
            outputs.append(spans @ kernel)  # (..., cycles, outputs of the group)
        return torch.cat(outputs, dim=-1).flatten(-2)  # (..., cycles, r·L) → (..., cycles · r·L)


class _FilterBank(NamedTuple):
    cycle_in: int  # r·M
    cycle_out: int  # r·L
    reach_left: int  # input frames read before n_j
    halo: int  # input frames that a run of cycles reads beyond its own
    starts: list[int]  # first input frame of each group, from reach_left before the cycle's first
    kernels: list[Tensor]  # of each group: (span, outputs)


def _filter_bank(up: int, down: int, dtype: torch.dtype) -> _FilterBank:
    """Weights for L = `up`, M = `down`, computed in float64. Raises ConfigError if they are too many."""
    weights = 2 * _per_wing(up, down) * up
    if weights > MAX_WEIGHTS:
        raise ConfigError(
            f"resampling by {up}/{down}: needs a filter of more than {MAX_WEIGHTS} weights; "
            "convert the file to a usual rate such as 44100 Hz first"
        )
    return (_kept_bank if weights <= MAX_KEPT_WEIGHTS else _new_bank)(up, down, dtype)


@lru_cache(maxsize=8)
def _kept_bank(up: int, down: int, dtype: torch.dtype) -> _FilterBank:
    return _new_bank(up, down, dtype)


def _new_bank(up: int, down: int, dtype: torch.dtype) -> _FilterBank:
    per_wing = _per_wing(up, down)
    length = 2 * per_wing
    table = _half_window()
    slope = np.diff(table, append=table[-1])
    repeats = -(-length // down)  # r: a cycle is at least as long as the filter
    cycle_in, cycle_out = repeats * down, repeats * up
    groups = max(1, cycle_in // length)
    starts, kernels = [], []
    for group in range(groups):
        outputs = range(group * cycle_out // groups, (group + 1) * cycle_out // groups)
        first, last = (j * down // up for j in (outputs[0], outputs[-1]))  # n_j
        kernel = torch.zeros(len(outputs), last - first + length, dtype=dtype)  # transposed: a row per output
        weights = _taps(table, slope, up, down, np.array(outputs) % up)
        taps = torch.from_numpy(weights).to(dtype).numpy()  # numpy assigns rows faster than torch
        for row, j, own in zip(kernel.numpy(), outputs, taps, strict=True):
            begin = j * down // up - first
            row[begin : begin + length] = own
        starts.append(first)
        kernels.append(kernel.T.contiguous())
    return _FilterBank(cycle_in, cycle_out, per_wing - 1, length - 1, starts, kernels)


def _per_wing(up: int, down: int) -> int:
    """Most frames that a wing can hold, at a_j = 0; more than a song has where the step is 0."""
    step = ENTRIES_PER_CROSSING * up // max(up, down)
    return TABLE_ENTRIES // step if step else MAX_WEIGHTS


def _taps(
    table: npt.NDArray[np.float64], slope: npt.NDArray[np.float64], up: int, down: int, outputs: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Weights (outputs, length) of these of the outputs 0 … L − 1, on the input frames from n_j − reach_left on."""
    stretched = max(up, down)  # D
    step = ENTRIES_PER_CROSSING * up // stretched
    per_wing = _per_wing(up, down)

    def wing(distance: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The table at distance / D + i · step for 0 ≤ i < per_wing: (outputs, per_wing), zeros where it ends."""
        entry, remainder = np.divmod(distance, stretched)
        i = np.arange(per_wing)
        index = entry[:, None] + i * step
        inside = i < ((len(table) - entry) // step)[:, None]
        index[~inside] = 0
        return np.where(inside, table[index] + (remainder / stretched)[:, None] * slope[index], 0.0)

    rho = outputs * down % up
    left, right = wing(ENTRIES_PER_CROSSING * rho), wing(ENTRIES_PER_CROSSING * (up - rho))
    # Column order is time: x[n − per_wing + 1] … x[n], x[n + 1] … x[n + per_wing]
    return np.hstack([left[:, ::-1], right]) * (up / stretched)


def _half_window() -> npt.NDArray[np.float64]:
    # Importing resampy would load numba and its compiler, over a second and about 100 MB, for one array; so find the
    # package without running it, and read the array from its data file.
    spec = find_spec("resampy")
    if spec is None or spec.origin is None:
        raise ConfigError("resampy: not installed, so its filter is missing; run `pip install resampy`")
    with np.load(Path(spec.origin).parent / "data" / "kaiser_best.npz") as data:
        table: npt.NDArray[np.float64] = data["half_window"]
    return table


def _ratio(from_hz: int, to_hz: int) -> tuple[int, int]:
    """(L, M): to_hz / from_hz in lowest terms."""
    for rate_hz in (from_hz, to_hz):
        if not isinstance(rate_hz, Integral) or isinstance(rate_hz, bool) or rate_hz <= 0:
            raise ConfigError(f"sampling rate: found {rate_hz!r}; give a positive whole number of Hz")
    common = gcd(from_hz, to_hz)
    return int(to_hz) // common, int(from_hz) // common
