"""The integers of a window: how many frames go in, how many come out, and where they sit.

No torch here. For a valid network (no padding) of `levels` levels with `down_taps` and `up_taps`:

    up:      n → 2n − 1 (upsampling) → 2n − 1 − (up_taps − 1) = 2n − up_taps
             has the fixed point n = up_taps, so after all levels
             output = 2^levels · (n − up_taps) + up_taps        n = frames leaving the bottleneck

    down:    read backwards, m → 2m − 1 (undo "keep every other frame") → + (down_taps − 1)
             has the fixed point m = −(down_taps − 2), so from m = n + down_taps − 1
             input = 2^levels · (n + 2·down_taps − 3) − (down_taps − 2)

    context = (input − output) / 2
            = (2^levels · (2·down_taps + up_taps − 3) − (down_taps − 2) − up_taps) / 2

For 12 levels and 15/5 taps: context 65 527, outputs of 4096·m + 5 frames. The network decimates, so it is
equivariant only to shifts by 2^levels: windows start at multiples of that, and of each output the first
hop = 2^levels · m frames are kept.
"""

from dataclasses import dataclass, replace

from waveunet_cli.errors import ConfigError

MASK_HOP_FRAMES = 2048  # from one short-time spectrum to the next, see masks.py


@dataclass(frozen=True)
class Window:
    """What a network reads and returns at once, in frames at the model's rate.

    A network turns (B, C, context + output + context) into (B, S, C, output); of these, the first `hop`
    frames are kept and the next window starts `hop` frames later. `alignment` is the step by which the hop may
    grow without changing a sample (0: the network knows only this one window). `reach` is how far away an
    input frame can be and still change an output frame of a stream of such windows.
    """

    context: int
    output: int
    hop: int
    alignment: int = 0

    @property
    def input(self) -> int:
        """Frames the network reads for one window."""
        return self.output + 2 * self.context

    @property
    def reach(self) -> int:
        """Greatest distance, in frames, at which an input frame influences an output frame."""
        return self.context + (self.alignment or self.hop) - 1


def whole_steps(frames: int, step: int) -> int:
    """`frames` rounded up to a multiple of `step`, at least one."""
    return max(1, -(-frames // step)) * step


def shorter(window: Window, min_hop_frames: int) -> Window:
    """The smallest window of the same network that keeps `min_hop_frames` frames, but none longer than `window`."""
    if not window.alignment:
        return window
    hop = min(window.hop, whole_steps(min_hop_frames, window.alignment))
    return replace(window, hop=hop, output=hop + window.output - window.hop)


def valid_window(levels: int, down_taps: int, up_taps: int, min_hop_frames: int) -> Window:
    """The smallest window of a valid network that keeps at least `min_hop_frames` frames.

    Raises ConfigError for taps that leave no centre frame.
    """
    if levels < 1 or down_taps < 1 or up_taps < 1 or down_taps % 2 == 0 or up_taps % 2 == 0:
        raise ConfigError(
            f"a valid network needs at least 1 level and odd taps, found levels={levels}, "
            f"down_taps={down_taps}, up_taps={up_taps}; choose odd taps, so that every crop is centred"
        )
    step = 2**levels
    hop = whole_steps(min_hop_frames, step)
    context = (step * (2 * down_taps + up_taps - 3) - (down_taps - 2) - up_taps) // 2
    return Window(context=context, output=hop + up_taps, hop=hop, alignment=step)


def masked_window(levels: int, down_taps: int, up_taps: int, min_hop_frames: int) -> Window:
    """The smallest such window of a network whose estimates are masked: spectra need one mask hop more on both sides.

    The hop is a multiple of MASK_HOP_FRAMES, too, so that all windows' spectra begin at the same frames.
    """
    step, margin = max(2**levels, MASK_HOP_FRAMES), MASK_HOP_FRAMES
    hop = whole_steps(min_hop_frames, step)
    layers = valid_window(levels, down_taps, up_taps, hop + 2 * margin)
    return Window(layers.context + margin, layers.output - 2 * margin, hop, step)


def same_window(levels: int, min_hop_frames: int) -> Window:
    """The smallest window of a zero-padded network that keeps at least `min_hop_frames` frames.

    It has no context: padding happens inside, so its samples depend on where the window starts and ends.
    """
    frames = whole_steps(min_hop_frames, 2**levels)
    return Window(context=0, output=frames, hop=frames)
