"""What tests of streams share: noise, a song in one window, a song in blocks."""

import torch
from hypothesis import settings

from waveunet_cli.streaming.windows import WindowedStream

EXAMPLES = settings(deadline=None, max_examples=30)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(network, x):
    """(B, C, t) → (B, S, C, t) in one window, zeros before and after."""
    frames = x.shape[-1]
    window = network.config.window(frames)
    missing = window.input - window.context - frames
    with torch.no_grad():
        return network(torch.nn.functional.pad(x, (window.context, missing)))[..., :frames]


def windowed(network, hop, batch=1):
    config = network.config
    return WindowedStream(network, config.window(hop), len(config.sources), batch)


@torch.no_grad()
def through(stream, x, cuts=(10**9,)):
    """Push blocks of these sizes, over and over, and flush."""
    outputs, start = [stream.push(x[..., :0])], 0
    while start < x.shape[-1]:
        for size in cuts:
            outputs.append(stream.push(x[..., start : start + size]))
            start += size
    outputs.append(stream.flush())
    return torch.cat(outputs, -1)


def assert_same(found, expected):
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
