"""When to stop and how fast to go, as pure functions of how far the training has come."""

from dataclasses import dataclass, replace
from math import cos, inf, pi

from waveunet_cli.training.recipe import Schedule

PAPER_STAGES = ((1.0, 1), (0.1, 2))  # factors of the learning rate and of the batch (paper, section 4.2)


@dataclass(frozen=True)
class Progress:
    """How far a training has come; all that is needed, beside the tensors, to go on."""

    step: int = 0
    windows: int = 0  # drawn so far: the number of the next one
    seconds: float = 0.0  # spent in steps
    waited_seconds: float = 0.0  # part of these in which the step waited for its windows
    stage: int = 0
    epoch: int = 0  # over all stages
    best_loss: float = inf  # lowest validation loss
    epochs_since_best: int = 0
    done: bool = False
    # What stability.py watches, from step to step
    watched_steps: int = 0
    mean_loss: float = 0.0
    lowest_loss: float = inf  # lowest mean_loss
    mean_norm: float = 0.0  # of the gradients
    skipped_steps: int = 0
    broken_steps: int = 0  # in a row, up to now

    @property
    def computing_share(self) -> float:
        """Share of the steps' time, from 0 to 1, in which they computed instead of waiting for windows."""
        return 1 - self.waited_seconds / self.seconds if self.seconds else 1.0


def learning_rate(schedule: Schedule, at: Progress) -> float:
    """The learning rate of the next step."""
    if schedule.kind == "paper":
        return schedule.learning_rate * PAPER_STAGES[at.stage][0]
    rising = min(1.0, (at.step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return schedule.learning_rate * rising * 0.5 * (1 + cos(pi * min(1.0, share_done(schedule, at))))


def batch(schedule: Schedule, at: Progress) -> int:
    """How many windows the next step takes, over all processes."""
    return schedule.batch * (PAPER_STAGES[at.stage][1] if schedule.kind == "paper" else 1)


def share_done(schedule: Schedule, at: Progress) -> float:
    """How much of a budget is spent, from 0 to 1; 0 for the paper's schedule, whose end is unknown."""
    if schedule.steps is not None:
        return at.step / schedule.steps
    return at.seconds / (60 * schedule.minutes) if schedule.minutes is not None else 0.0


def after_step(schedule: Schedule, at: Progress, seconds: float, waited_seconds: float = 0.0) -> Progress:
    """One step later, which took `seconds` and waited for its windows during `waited_seconds` of them."""
    at = replace(
        at,
        step=at.step + 1,
        windows=at.windows + batch(schedule, at),
        seconds=at.seconds + seconds,
        waited_seconds=at.waited_seconds + waited_seconds,
    )
    return replace(at, done=share_done(schedule, at) >= 1)


def resumed(schedule: Schedule, at: Progress) -> Progress:
    """A saved progress under the schedule to go on with. A budget that has grown is no longer spent."""
    return replace(at, done=share_done(schedule, at) >= 1) if schedule.kind == "budget" else at


def epoch_ends(schedule: Schedule, at: Progress) -> bool:
    """Whether it is time to validate."""
    return at.done or at.step % schedule.epoch_steps == 0


def after_epoch(schedule: Schedule, at: Progress, loss: float) -> Progress:
    """After a validation. A stage of the paper ends when `patience` epochs brought no better loss."""
    if loss < at.best_loss:
        return replace(at, epoch=at.epoch + 1, best_loss=loss, epochs_since_best=0)
    at = replace(at, epoch=at.epoch + 1, epochs_since_best=at.epochs_since_best + 1)
    if schedule.kind == "budget" or at.epochs_since_best < schedule.patience:
        return at
    if at.stage + 1 == len(PAPER_STAGES):
        return replace(at, done=True)
    return replace(at, stage=at.stage + 1, epochs_since_best=0)
