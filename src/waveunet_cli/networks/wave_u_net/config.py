"""The Wave-U-Net's architecture as one frozen dataclass, and the paper's variants as constants derived from it.

Source: Stoller, Ewert & Dixon, "Wave-U-Net: A Multi-Scale Neural Network for End-to-End Audio Source
Separation", ISMIR 2018, sections 3 and 4 (table 2 lists the variants).
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from waveunet_cli.bounds import AudioChannels, Filters, Levels, SampleRateHz, SourceNames, Taps, WindowFrames
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import check_config
from waveunet_cli.networks.geometry import Window, masked_window, same_window, valid_window

VOICE = ("accompaniment", "vocals")
FOUR_STEMS = ("bass", "drums", "other", "vocals")


@dataclass(frozen=True)
class WaveUNetConfig:
    """Everything that defines a Wave-U-Net except its weights.

    sources          stem names in the order of the network's outputs; with output="difference" the last is the
                     mixture minus the others
    sample_rate      Hz the network works at
    channels         audio channels per window, 1 or 2
    levels           down- and upsampling blocks (L)
    filters          filters of the first level (F_c); level i has F_c · i
    down_taps        taps of the convolutions on the way down, and of the bottleneck
    up_taps          taps of the convolutions on the way up
    padding          "valid": no padding, needs context; "same": zero-padded inside
    upsampling       "linear": midpoints; "learned": a weighted mean of the two neighbours, per channel
    output           "direct": one output per source; "difference": the last source is what remains; "masked": as
                     "difference", then ratio masks, which no paper's variant has (see masks.py; not with "same")
    activation       of the output: "tanh", as in the paper, or "linear"
    window_frames    output frames of one window in training, rounded up to what the geometry allows
    residual         the source that receives what lies above the model's Nyquist frequency

    Raises ConfigError for a combination that cannot exist.
    """

    family: ClassVar[str] = "wave-u-net"
    sources: SourceNames = VOICE
    sample_rate: SampleRateHz = 22_050
    channels: AudioChannels = 1
    levels: Levels = 12
    filters: Filters = 24
    down_taps: Taps = 15
    up_taps: Taps = 5
    padding: Literal["same", "valid"] = "same"
    upsampling: Literal["linear", "learned"] = "linear"
    output: Literal["direct", "difference", "masked"] = "direct"
    activation: Literal["tanh", "linear"] = "tanh"
    window_frames: WindowFrames = 16_384
    residual: str = "accompaniment"

    def __post_init__(self) -> None:
        check_config(self, least_sources=2)
        if self.output == "masked" and self.padding == "same":
            raise ConfigError('output "masked" needs padding "valid": spectra need frames on both sides of a window')

    @property
    def additive(self) -> bool:
        """Whether the stems sum to the mixture by construction."""
        return self.output != "direct"

    def window(self, min_hop_frames: int | None = None) -> Window:
        """The window that keeps at least `min_hop_frames` frames; by default the paper's own.

        A zero-padded network always runs at its own window: its samples depend on it.
        """
        if self.padding == "same":
            return same_window(self.levels, self.window_frames)
        least = self.window_frames if min_hop_frames is None else min_hop_frames
        if self.output == "masked":
            return masked_window(self.levels, self.down_taps, self.up_taps, least)
        return valid_window(self.levels, self.down_taps, self.up_taps, least)


M1 = WaveUNetConfig()
M2 = replace(M1, output="difference")
M3 = replace(M2, padding="valid")
M4 = replace(M3, channels=2)
M5 = replace(M4, upsampling="learned")
M5_HIGHSR = replace(M5, sample_rate=44_100)
M6 = replace(M4, sources=FOUR_STEMS, residual="other")
M7 = replace(M3, sample_rate=8_192, filters=34, window_frames=98_560)

VARIANTS = {"M1": M1, "M2": M2, "M3": M3, "M4": M4, "M5": M5, "M5-HighSR": M5_HIGHSR, "M6": M6, "M7": M7}
