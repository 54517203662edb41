import numpy as np
import pytest
import torch

from waveunet_cli.training import augment

RATE_HZ = 8000


class Least(np.random.Generator):
    """Draws noise like any generator, but always the least number of a range."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: None = None) -> float:  # type: ignore[override]
        return low


def test_reverberation_decays_by_60_db_within_its_time() -> None:
    seconds, delay_seconds = 0.2, 0.001  # the least
    tail, delay, tenth = int(seconds * RATE_HZ), int(delay_seconds * RATE_HZ), int(0.1 * seconds * RATE_HZ)
    response = torch.fft.irfft(augment.reverberation(Least(), 8, 8192, RATE_HZ), 8192)  # (C, t)
    room = response[:, delay : delay + tail]
    first, last = (float(part.square().mean()) for part in (room[:, :tenth], room[:, -tenth:]))
    assert 10 * np.log10(first / last) == pytest.approx(0.9 * 60, abs=2)
    assert float(response[:, delay + tail + tenth : -tenth].square().mean()) < 0.01 * last  # then it is over
