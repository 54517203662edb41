from math import inf

import pytest

from waveunet_cli.training import stability
from waveunet_cli.training.recipe import Schedule
from waveunet_cli.training.schedule import Progress

FACTOR = Schedule("budget", steps=1, clip_factor=3.0)


def after(losses: list[float], norm: float | None = None, at: Progress | None = None) -> Progress:
    at = at or Progress()
    for loss in losses:
        at = stability.watched(FACTOR, at, loss, norm, stability.is_outlier(at, loss))
    return at


def test_the_running_mean_is_the_mean_until_it_is_long() -> None:
    assert after([1.0, 2.0, 3.0]).mean_loss == pytest.approx(2.0)
    assert after([1.0] * 500 + [2.0]).mean_loss == pytest.approx(1 + 1 / stability.MEAN_STEPS)


def test_a_step_whose_loss_is_ten_times_the_mean_is_skipped_and_counted() -> None:
    steady = after([1.0] * 100)
    assert not stability.is_outlier(steady, 9.99)
    assert stability.is_outlier(steady, 10.01)
    assert after([50.0], at=steady).skipped_steps == 1
    assert after([50.0], at=steady).mean_loss == pytest.approx(1.09)  # it counts as ten
    assert not stability.is_outlier(after([1.0] * 99), 50.0)  # nothing is known yet
    assert not stability.is_outlier(after([0.0] * 200), 1.0)  # of silence everything is a multiple


def test_a_loss_that_stays_high_is_no_outlier_for_long_and_then_counts_as_broken() -> None:
    at = after([1.0] * 200)
    assert at.broken_steps == 0
    at = after([30.0] * 600, at=at)
    assert at.skipped_steps < 30
    assert at.mean_loss == pytest.approx(30, rel=0.05)
    assert at.broken_steps > stability.BROKEN_STEPS
    assert after([1.0] * 1000, at=at).broken_steps == 0  # it recovered


def test_the_collapse_of_the_first_masked_training_is_broken_and_noise_is_not() -> None:
    """Its loss went from 0.058 to 0.13 within 20 steps, for good (../shared/facts.md)."""
    assert after([0.058] * 350 + [0.13] * 1000).broken_steps > stability.BROKEN_STEPS
    noisy = [0.058 * (0.3 + 1.4 * (i * 0.618 % 1)) for i in range(3000)]
    assert after(noisy).broken_steps == 0
    assert after([loss * (2 - i / 3000) for i, loss in enumerate(noisy)]).broken_steps == 0  # falling


def test_gradients_are_shortened_to_a_multiple_of_their_running_mean() -> None:
    assert stability.longest_gradient(FACTOR, Progress()) == inf  # nothing is known yet
    at = after([1.0] * 50, norm=0.02)
    assert stability.longest_gradient(FACTOR, at) == pytest.approx(0.06)
    assert stability.longest_gradient(Schedule("budget", steps=1), at) == inf
    # A long one counts as long as it was allowed to be; one that is no number does not count.
    assert after([1.0], norm=100.0, at=at).mean_norm == pytest.approx(0.02 + 0.04 / 51)
    assert after([1.0], norm=float("nan"), at=at).mean_norm == at.mean_norm
