"""The Wave-U-Net written down plainly, the baseline of speed: Conv1d modules, one window at a time, nothing folded."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig

REFERENCE_INPUT_FRAMES = 147_443  # of the published networks' window, which gives 16 389 frames


class PlainWaveUNet(nn.Module):
    """A valid Wave-U-Net with learned upsampling and difference output: (B, C, t) → (B, S, C, t − 2·context)."""

    def __init__(self, config: WaveUNetConfig) -> None:
        super().__init__()
        widths = [config.filters * (level + 1) for level in range(config.levels + 1)]
        inputs = [config.channels, *widths]
        self.down = nn.ModuleList(nn.Conv1d(inputs[i], widths[i], config.down_taps) for i in range(config.levels + 1))
        self.mix = nn.ParameterList(torch.zeros(widths[i + 1], 1) for i in reversed(range(config.levels)))
        self.up = nn.ModuleList(
            nn.Conv1d(widths[i] + widths[i + 1], widths[i], config.up_taps) for i in reversed(range(config.levels))
        )
        self.output = nn.Conv1d(config.channels + widths[0], config.channels * (len(config.sources) - 1), 1)

    def forward(self, mixture: Tensor) -> Tensor:
        skips = []
        x = mixture
        for convolution in self.down[:-1]:
            x = F.leaky_relu(convolution(x), 0.2)
            skips.append(x)
            x = x[..., ::2]
        x = F.leaky_relu(self.down[-1](x), 0.2)
        for mix, convolution in zip(self.mix, self.up, strict=True):
            earlier = torch.sigmoid(mix)
            between = earlier * x[..., :-1] + (1 - earlier) * x[..., 1:]
            x = torch.cat([torch.stack([x[..., :-1], between], -1).flatten(-2), x[..., -1:]], -1)
            x = F.leaky_relu(convolution(torch.cat([_crop(skips.pop(), x), x], 1)), 0.2)
        mixture = _crop(mixture, x)
        first = torch.tanh(self.output(torch.cat([mixture, x], 1)))
        return torch.stack([first, mixture - first], 1)


def _crop(x: Tensor, like: Tensor) -> Tensor:
    start = (x.shape[-1] - like.shape[-1]) // 2
    return x[..., start : start + like.shape[-1]]
