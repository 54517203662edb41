from dataclasses import replace

import pytest

from waveunet_cli.training import schedule
from waveunet_cli.training.recipe import Schedule
from waveunet_cli.training.schedule import Progress

PAPER = Schedule()


def run_epochs(losses: list[float], at: Progress) -> Progress:
    for loss in losses:
        assert not at.done
        at = schedule.after_epoch(PAPER, at, loss)
    return at


def test_the_paper_s_schedule_has_two_stages() -> None:
    at = Progress()
    assert (schedule.learning_rate(PAPER, at), schedule.batch(PAPER, at)) == (1e-4, 16)
    at = run_epochs([3.0, 2.0, 1.0] + [1.5] * 19, at)
    assert at.stage == 0
    at = run_epochs([1.5], at)
    assert at.stage == 1
    assert schedule.learning_rate(PAPER, at) == pytest.approx(1e-5)
    assert schedule.batch(PAPER, at) == 32
    at = run_epochs([0.9] + [0.9] * 19, at)
    assert not at.done
    assert run_epochs([0.9], at).done


def test_epochs_of_the_paper_have_2000_steps() -> None:
    at = Progress()
    for _ in range(2000):
        at = schedule.after_step(PAPER, at, 1.0)
        assert schedule.epoch_ends(PAPER, at) == (at.step == 2000)
    assert at.windows == 32_000


@pytest.mark.parametrize("budget", [Schedule("budget", steps=40), Schedule("budget", minutes=2 / 3)])
def test_a_budget_falls_to_zero_as_a_cosine_and_ends(budget: Schedule) -> None:
    at, rates = Progress(), []
    while not at.done:
        rates.append(schedule.learning_rate(budget, at))
        at = schedule.after_step(budget, at, seconds=1.0)
    assert len(rates) == 40
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(1e-4)
    assert rates[20] == pytest.approx(0.5e-4)
    assert rates[-1] < 1e-6


def test_a_budget_warms_up() -> None:
    warm = Schedule("budget", steps=1000, warmup_steps=10)
    rates = [schedule.learning_rate(warm, Progress(step=step)) for step in range(12)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[4] == pytest.approx(5e-5, rel=1e-3)
    assert rates[9] == pytest.approx(rates[10], rel=1e-3)


def test_a_budget_does_not_stop_early() -> None:
    budget = Schedule("budget", steps=10)
    at = Progress(best_loss=0.5)
    for _ in range(30):
        at = schedule.after_epoch(budget, at, 1.0)
    assert at == replace(at, done=False, stage=0)
