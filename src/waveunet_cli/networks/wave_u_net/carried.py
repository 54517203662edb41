"""A valid Wave-U-Net as a stream that carries every layer's tail, instead of computing its context again.

Gives the samples that one window over the whole stream gives. On a CPU this is the fastest way to run the network:
nothing is computed twice, and a block is small enough for a layer to stay in the processor's cache.

Every layer keeps a line of its newest frames and adds B / 2^i of them for B frames pushed. Of a layer, let frame n
(counted as one window over the whole stream would) be the (n + s)-th that is added: s is its delay, the number of
frames added before the first that means anything.

    mixture       s = 0
    first level   reads `taps` frames, the newest included:                     s = taps − 1
    level below   reads every other frame n = 2m, m+1, …, so the frame added as number q must read from
                  2q − H, with 2q − H − s even: H = 2·(taps − 1) − (s mod 2);   s' = (H + s) / 2
    level above   reads Q = (up_taps + 3) / 2 frames to make two (see network.py): s' = 2·(Q − 1 + s)

On the way up frame j of a level's output needs the frames from j + o on of the skip, o being the crop of the whole
window; they were added s + o − s' frames before. The first frame that leaves the last level as number s is that of
the first `context` frames of the stream, so with `context` zeros in front it is the song's first.

Of these zeros, as many as are whole steps of 2^levels are never computed: every layer answers silence with a constant.
Nor are most levels of the way up where all they would give precedes the first frame that means anything.

What needs more memory than time is not kept. The first level, a hundredth of the work, has no line: its rows are
computed from the mixture's both times they are read. What leaves a level of the way up is gone when the next has read
it, but for a few rows; and the last levels, whose rows are many, run in parts of a block.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.geometry import valid_window
from waveunet_cli.networks.wave_u_net.network import SLOPE, UpKernel, WaveUNet, as_2d, sources_of
from waveunet_cli.networks.wave_u_net.tiles import frames_of, points_for, spectra_of, tile_kernel, tiling

# In float32; twice as many where values are half as long, in the same memory (see _as_many):
BLOCK_FRAMES = 65_536  # nearly as fast as longer blocks on the CPUs tried, in less memory
CHUNK_FRAMES = 16_384  # of a layer, computed and activated while they are in the cache; even

CHUNK_TILES = 128  # likewise, of a layer that is computed in tiles
WINDOW_FRAMES = 131_072  # at least, of a window; as many again are its context
LAST_LEVELS = 3  # of the way up, which a chunk passes through at once
SMALL = 20_480  # values of an input up to which torch would convolve on one core, slowly


def _as_many(frames: int, dtype: torch.dtype) -> int:
    """How many frames of `dtype` take the memory of so many in float32."""
    return frames * torch.float32.itemsize // dtype.itemsize


class _Kernel:
    """A convolution of rows; in tiles (see tiles.py) where that takes less time."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, most_frames: int) -> None:
        """`weight` [out, in, tap]; `most_frames` is how many frames are computed at once at most."""
        self.channels, inside, self.taps = weight.shape
        self.bias = None if bias is None else bias.to(dtype)
        # In bfloat16 tiles would save a twentieth of the time, for 30 MB.
        points = points_for(self.taps, inside, self.channels, most_frames) if dtype == torch.float32 else None
        self.tiled = points is not None
        if points is None:
            self.chunk_frames = _as_many(CHUNK_FRAMES, dtype)
            self.weight = as_2d(weight).to(dtype)
        else:
            self._tiling, self._points = tiling(points, self.taps), points
            self.chunk_frames = CHUNK_TILES * len(self._tiling.after)
            self.weight = tile_kernel(weight, points)

    def convolve(self, rows: Tensor, frames: int, step: int = 1) -> Tensor:
        """The first `frames` frames (frames, out) of the convolution with every `step`-th of rows (t, in)."""
        if self.tiled:
            products = torch.bmm(spectra_of(rows[::step], self._tiling, frames), self.weight)  # (P, n, out)
            if self.bias is not None:
                products[0] += self._points * self.bias  # a constant is a transform's bin 0
            return frames_of(products, self._tiling, frames)
        read = (frames + self.taps - 2) * step + 1
        channels = rows.shape[1]
        if read * channels <= SMALL:
            windows = rows[:read:step].unfold(0, self.taps, 1).transpose(1, 2)  # (frames, taps, in)
            weight = self.weight.permute(0, 2, 3, 1)  # (out, 1, taps, in), as it lies in memory
            return F.linear(windows.flatten(1), weight.flatten(1), self.bias)
        # Rows already are channels-last memory: seen as (1, C, 1, t), nothing is copied.
        size = read * channels
        x = rows.as_strided((1, channels, 1, read), (size, 1, size, channels))
        y = F.conv2d(x, self.weight, self.bias, stride=step, dilation=step)  # (1, out, 1, frames)
        return y.permute(0, 3, 1, 2).reshape(frames, -1)


class _UpKernel:
    """A level of the way up. Its filters of even and of odd frames (see network.py) make a frame pair at once."""

    def __init__(self, kernel: UpKernel, dtype: torch.dtype, most_frames: int) -> None:
        self.coarse = _Kernel(kernel.coarse.squeeze(2), kernel.coarse_bias, dtype, most_frames // 2)
        self.skip = _Kernel(kernel.skip.squeeze(2), None, dtype, most_frames)
        self.chunk_frames = min(self.skip.chunk_frames, 2 * self.coarse.chunk_frames) // 2 * 2

    def compute(self, coarse: Tensor, skip: Tensor, frames: int) -> Tensor:
        """Rows (frames / 2 + q − 1, in) and (frames + up_taps − 1, out) → (frames, out), before the LeakyReLU."""
        y = self.coarse.convolve(coarse, frames // 2).view(frames, -1)  # (frames / 2, 2·out): even frame, odd frame
        return y.add_(self.skip.convolve(skip, frames))


class CarriedStream:
    """One window without end: (B, C, t) → (B, S, C, t'), computed a block at a time, without autograd.

    What leaves the layers; masks are a stage of their own.
    """

    def __init__(self, network: "CarriedNetwork", size: int = 1) -> None:
        """`size` is B: how many signals run side by side; they take turns in the same lines."""
        self._network = network
        self._lines = network.new_lines()
        self._current = 0  # the signal whose newest frames are in the lines
        self._tails = {signal: self._lines.tails() for signal in range(1, size)}  # of the others
        self._pending: Tensor | None = None  # (B, C, t) not yet computed, the zeros in front included
        self._owed = 0  # frames received and not yet returned
        self._meaningless = network.delay  # frames to come that precede the first

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'): what the whole blocks so far give; t' may be 0."""
        self._owed += x.shape[-1]
        if self._pending is None:
            self._pending = x.new_zeros(*x.shape[:-1], self._network.lead_frames)
        self._pending = torch.cat([self._pending, x], -1)
        return self._compute(self._pending.shape[-1] // self._network.block * self._network.block)

    def flush(self) -> Tensor:
        """The rest, (B, S, C, t')."""
        assert self._pending is not None, "push at least once before flush"
        frames = self._meaningless + self._owed if self._owed else 0
        frames = -(-frames // self._network.step) * self._network.step
        self._pending = F.pad(self._pending, (0, max(0, frames - self._pending.shape[-1])))
        return self._compute(frames)

    @torch.no_grad()
    def _compute(self, frames: int) -> Tensor:
        assert self._pending is not None
        size, channels, _ = self._pending.shape
        outputs = [self._pending.new_zeros(size, self._network.sources, channels, 0)]
        for block in torch.split(self._pending[..., :frames], self._network.block, -1):
            if block.shape[-1]:
                unheard = self._meaningless
                signals = enumerate(block.transpose(1, 2))  # each (t, C)
                parts = [self._network.advance(self._lines_of(i), rows, unheard) for i, rows in signals]
                outputs.append(torch.cat(parts)[..., unheard:])
                self._meaningless = max(0, unheard - block.shape[-1])
        self._pending = self._pending[..., frames:]
        y = torch.cat(outputs, -1)[..., : self._owed]
        self._owed -= y.shape[-1]
        return y

    def _lines_of(self, signal: int) -> "_Lines":
        if signal != self._current:
            tails = self._tails[self._current] = self._tails.pop(signal)
            self._lines.swap(tails)
            self._current = signal
        return self._lines


class _Line:
    """The newest frames of a layer as rows (t, C), side by side in one buffer."""

    def __init__(self, keep_frames: int, block_frames: int, silence: Tensor) -> None:
        """`silence` (C,) is every row so far."""
        self._keep = keep_frames
        self._rows = silence.new_empty(keep_frames + block_frames, len(silence))
        self._rows[:keep_frames] = silence
        self._end = keep_frames

    def extend(self, frames: int) -> Tensor:
        """Room for the next rows (frames, C), to be filled by the caller."""
        if self._end + frames > len(self._rows):  # only now does anything move
            moved = self._end - self._keep
            for start in range(0, self._keep, moved):  # in parts, for torch copies no rows onto themselves
                end = min(start + moved, self._keep)
                self._rows[start:end] = self._rows[start + moved : end + moved]
            self._end = self._keep
        self._end += frames
        return self._rows[self._end - frames : self._end]

    def rows(self, back: int, frames: int) -> Tensor:
        """`frames` rows (frames, C), the first of them `back` before the end."""
        assert frames <= back <= self._end
        return self._rows[self._end - back : self._end - back + frames]

    def tail(self) -> Tensor:
        """A copy of all that is kept, the newest rows (keep, C)."""
        return self.rows(self._keep, self._keep).clone()

    def swap(self, tail: Tensor) -> None:
        """Take the tail of another signal, leave in its place the one that was here."""
        theirs = tail.clone()
        tail.copy_(self.rows(self._keep, self._keep))
        self._rows[: self._keep] = theirs
        self._end = self._keep


class _Lines(NamedTuple):
    """The state of one signal: what every layer keeps."""

    mixture: _Line
    down: list[_Line]  # from the second level to that above the bottleneck
    coarse: list[Tensor]  # the newest rows (history, C) of what each level of the way up reads, deepest first

    def tails(self) -> list[Tensor]:
        """A copy of all that is kept; half of a line is room for the next block."""
        return [line.tail() for line in (self.mixture, *self.down)] + self.coarse[:]

    def swap(self, tails: list[Tensor]) -> None:
        """Take the tails of another signal, leave in their place those that were here."""
        lines = (self.mixture, *self.down)
        for line, tail in zip(lines, tails, strict=False):
            line.swap(tail)
        self.coarse[:], tails[len(lines) :] = tails[len(lines) :], self.coarse[:]


class CarriedNetwork:
    """A network's kernels, ready to run as streams on the CPU; the module's docstring derives the integers.

    Computes in `dtype`; kernels are folded in float32 before. Raises ConfigError for a network that pads with zeros.
    """

    def __init__(self, network: WaveUNet, dtype: torch.dtype = torch.float32, block_frames: int | None = None) -> None:
        """`block_frames` are computed at once; None takes what is fast."""
        config = network.config
        if config.padding != "valid":
            raise ConfigError("a network that pads with zeros has no stream of its own; run it in windows")
        # of the layers; masks need more
        window = self.window = valid_window(config.levels, config.down_taps, config.up_taps, WINDOW_FRAMES)
        self._config, self._output = config, network.output
        self._dtype = dtype
        self.step = 2**config.levels
        block_frames = _as_many(BLOCK_FRAMES, dtype) if block_frames is None else block_frames
        self.block = max(1, block_frames // self.step) * self.step
        skipped = window.context // self.step * self.step
        self.lead_frames = window.context - skipped  # of silence, computed before a song
        self.sources = len(config.sources)
        taps, levels, self._up_taps = config.down_taps, config.levels, config.up_taps

        # Down: what each level reads of the line above it, and its delay.
        delays, lengths = [0], [window.input]
        self._histories = []  # frames before its own that each level reads
        for level in range(levels + 1):
            above = delays[-1]
            history = taps - 1 if level == 0 else 2 * (taps - 1) - above % 2
            self._histories.append(history)
            delays.append(history if level == 0 else (history + above) // 2)
            lengths.append((lengths[-1] if level == 0 else (lengths[-1] + 1) // 2) - (taps - 1))

        # Up, deepest first: how far back each skip is read.
        self._coarse_history = (config.up_taps + 3) // 2 - 1
        self._skips_back = []
        delay, length = delays[-1], lengths[-1]
        for level in range(levels, 0, -1):
            delay = 2 * (self._coarse_history + delay)
            length = 2 * length - config.up_taps
            cropped = (lengths[level] - (length + config.up_taps - 1)) // 2
            self._skips_back.append(delay - cropped - delays[level])
        self._whole_delay = delay
        self.delay = delay - skipped
        self._mixture_back = delay - window.context

        with torch.no_grad():
            self._down = [
                _Kernel(conv.weight, conv.bias, dtype, self.block >> level)
                for level, conv in enumerate(cast(nn.Conv1d, module) for module in [*network.down, network.bottleneck])
            ]
            self._up = [  # deepest first
                _UpKernel(network.up_kernel(level), dtype, self.block >> (levels - 1 - level))
                for level in range(levels)
            ]
            self._silence = self._answers_to_silence()

    def stream(self, size: int = 1) -> CarriedStream:
        """A stream of `size` signals side by side that gives what leaves the layers: estimates, without masks."""
        return CarriedStream(self, size)

    @torch.no_grad()
    def windows(self, x: Tensor) -> Tensor:
        """(B, C, window.input) → (B, S, C, window.output): a network for windows, with the state of one signal.

        Computes the context again for each window, but takes no more memory for more signals side by side.
        """
        frames = x.shape[-1] - 2 * self.window.context
        wanted = -(-(self._whole_delay + frames) // self.step) * self.step
        found = []
        for signal in F.pad(x, (0, max(0, wanted - x.shape[-1]))):  # (C, t)
            lines = self.new_lines()
            blocks = enumerate(torch.split(signal[:, :wanted].T, self.block))  # (t, C) each
            delay = self._whole_delay
            y = torch.cat([self.advance(lines, block, delay - i * self.block) for i, block in blocks], -1)
            found.append(y[..., delay : delay + frames].clone())
        return torch.cat(found)

    def new_lines(self) -> _Lines:
        """The state of a signal that was silent for ever."""
        (down, coarse), levels, taps = self._silence, self._config.levels, self._config.down_taps

        def line(keep: int, level: int, silence: Tensor) -> _Line:  # of the level's rate, 0 being the full one
            return _Line(keep, self.block >> level, silence)

        return _Lines(
            mixture=line(
                max(self._mixture_back, self._histories[0] + max(2 * taps, self._skips_back[-1])),
                0,
                torch.zeros(self._config.channels),
            ),
            down=[
                line(max(2 * taps, self._skips_back[levels - 1 - level]), level, silence)
                for level, silence in enumerate(down[1:], 1)
            ],
            coarse=[silence.repeat(self._coarse_history, 1) for silence in coarse],
        )

    def _answers_to_silence(self) -> tuple[list[Tensor], list[Tensor]]:
        """What the lines `down` and `coarse` of _Lines get, frame by frame, from a silent mixture: (C,) each."""
        x = torch.zeros(self._config.channels, dtype=self._dtype)
        down = []
        for kernel in self._down:
            x = F.leaky_relu(kernel.convolve(x.repeat(kernel.taps, 1), 1)[0], SLOPE)
            down.append(x)
        coarse = [down.pop()]
        for up, skip in zip(self._up[:-1], reversed(down), strict=False):
            rows = coarse[-1].repeat(self._coarse_history + 1, 1), skip.repeat(self._up_taps + 1, 1)
            coarse.append(F.leaky_relu(up.compute(*rows, 2)[0], SLOPE))  # the odd frame is the same
        return down, coarse

    def advance(self, lines: _Lines, block: Tensor, unheard: int = 0) -> Tensor:
        """Add a block of the mixture (t, C), get the next t frames of every source (1, S, C, t).

        The first `unheard` of these and later frames are not asked for; they may be anything.
        """
        frames, levels, history = len(block), self._config.levels, self._coarse_history
        lines.mixture.extend(frames).copy_(block)
        rows = self._down_to_bottleneck(lines, frames)
        if unheard >= frames:  # of this block none is asked for, and so many of the next
            needed = self._levels_before(unheard - frames)
            for level in range(needed):
                rows = self._up_one(lines, level, rows)
            lines.coarse[needed] = rows[-history:].clone()
            return block.new_zeros(1, self.sources, self._config.channels, frames)
        whole = max(0, levels - LAST_LEVELS)  # levels that run for the whole block
        for level in range(whole):
            rows = self._up_one(lines, level, rows)
        new, size = len(rows) - history, _as_many(CHUNK_FRAMES, self._dtype) // 2 ** (levels - whole)
        parts = []
        for start in range(0, new, size):
            part = rows[start : start + size + history]
            later = new - start - (len(part) - history)  # frames of this block that come after the part
            for level in range(whole, levels):
                later *= 2
                part = self._up_one(lines, level, part, later)
            mixture = lines.mixture.rows(later + len(part) + self._mixture_back, len(part))  # (t, C)
            parts.append(sources_of(self._config, self._output, mixture.T[None], part.T[None]))
        return torch.cat(parts, -1)

    def _levels_before(self, unheard: int) -> int:
        """How many levels of the way up a block has to compute though it is not heard, nor are so many frames after it.

        If a level is left out, the next begins with rows that are wrong: w rows and the `history` in front of them make
        w' = 2·(w + history) wrong ones of the level after. From 0 they are 2·history·(2^r − 1) when they leave the
        last level, r levels later.
        """
        levels_after = (unheard // (2 * self._coarse_history) + 1).bit_length() - 1
        return max(0, self._config.levels - 1 - levels_after)

    def _first_level(self, lines: _Lines, back: int, frames: int) -> Tensor:
        """Rows (frames, F_c) of the first level on the way down, the first of them `back` before the end."""
        history = self._histories[0]
        mixture = lines.mixture.rows(back + history, frames + history).to(self._dtype)
        return F.leaky_relu_(self._down[0].convolve(mixture, frames), SLOPE)

    def _down_to_bottleneck(self, lines: _Lines, frames: int) -> Tensor:
        """What the way up reads first, once `lines.mixture` has so many new frames: rows (history + t, C)."""
        new = frames  # of the line above
        for level, down in enumerate(self._down[1:], 1):
            read = new + self._histories[level]
            new //= 2
            if level <= len(lines.down):
                target = lines.down[level - 1].extend(new)
            else:
                bottleneck = self._coarse_rows(lines, 0, new)
                target = bottleneck[self._coarse_history :]
            for start in range(0, new, down.chunk_frames):
                chunk = target[start : start + down.chunk_frames]  # (t, F_c·(level + 1))
                if level == 1:
                    rows = self._first_level(lines, read - 2 * start, 2 * (len(chunk) + down.taps) - 3)
                else:
                    rows = lines.down[level - 2].rows(read - 2 * start, read - 2 * start)
                x = down.convolve(rows, len(chunk), 2)
                torch.ops.aten.leaky_relu.out(x, SLOPE, out=chunk)
        return bottleneck

    def _coarse_rows(self, lines: _Lines, level: int, frames: int) -> Tensor:
        """Room for rows (history + frames, C) that a level of the way up is to read, those it has kept in front."""
        kept = lines.coarse[level]
        rows = kept.new_empty(len(kept) + frames, kept.shape[1])
        rows[: len(kept)] = kept
        return rows

    def _up_one(self, lines: _Lines, level: int, coarse: Tensor, later: int = 0) -> Tensor:
        """One level: rows (history + t / 2, in) → what the next level reads (history + t, out); of the last (t, out).

        So many frames of the block come `later`, after these t.
        """
        up, is_last = self._up[level], level + 1 == len(self._up)
        new = 2 * (len(coarse) - self._coarse_history)
        lines.coarse[level] = coarse[-self._coarse_history :].clone()
        rows = coarse.new_empty(new, up.skip.channels) if is_last else self._coarse_rows(lines, level + 1, new)
        target = rows[-new:]
        for start in range(0, new, up.chunk_frames):
            chunk = target[start : start + up.chunk_frames]  # (t, F_c·(levels − level))
            back = later + new - start + self._skips_back[level]
            if is_last:
                skip = self._first_level(lines, back, len(chunk) + self._up_taps - 1)
            else:
                skip = lines.down[-1 - level].rows(back, new - start + self._up_taps - 1)
            y = up.compute(coarse[start // 2 :], skip, len(chunk))
            torch.ops.aten.leaky_relu.out(y, SLOPE, out=chunk)
        return rows
