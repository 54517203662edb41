"""What goes wrong in a training: gradients that are too long, steps to skip, and a loss that rose and stays high.

All of it rests on running means, which are part of Progress: so a resumed training decides as the uninterrupted one.
"""

from dataclasses import replace
from math import inf, isfinite

from waveunet_cli.training.recipe import Schedule
from waveunet_cli.training.schedule import Progress

MEAN_STEPS = 100  # how far the running means reach back; before so many steps the loss is not judged
SKIP_FACTOR = 10.0  # a loss above so many times its running mean makes a step that is left out
BROKEN_FACTOR = 2.0  # a running mean above so many times the lowest it had counts as broken
BROKEN_STEPS = 500  # after so many broken steps in a row the training stops


def longest_gradient(settings: Schedule, at: Progress) -> float:
    """The norm to which the gradients of the next step are shortened; infinite if they are left as they are."""
    return settings.clip_factor * at.mean_norm or inf


def is_outlier(at: Progress, loss: float) -> bool:
    """Whether the step with this loss should not change the weights."""
    return at.watched_steps >= MEAN_STEPS and loss > SKIP_FACTOR * at.mean_loss > 0


def watched(settings: Schedule, at: Progress, loss: float, norm: float | None, skipped: bool) -> Progress:
    """The running means after a step, given the norm of its gradients before they were shortened.

    What is out of proportion counts only as much as would just have been let through. So a single outlier hardly moves
    a mean, and a lasting change still does.
    """
    share = 1 / min(at.watched_steps + 1, MEAN_STEPS)
    mean_loss = at.mean_loss + share * (min(loss, SKIP_FACTOR * at.mean_loss or inf) - at.mean_loss)
    mean_norm = at.mean_norm
    if norm is not None and isfinite(norm):
        mean_norm += share * (min(norm, settings.clip_factor * mean_norm or inf) - mean_norm)
    steps = at.watched_steps + 1
    lowest = min(at.lowest_loss, mean_loss) if steps >= MEAN_STEPS else at.lowest_loss
    return replace(
        at,
        watched_steps=steps,
        mean_loss=mean_loss,
        lowest_loss=lowest,
        mean_norm=mean_norm,
        skipped_steps=at.skipped_steps + skipped,
        broken_steps=at.broken_steps + 1 if mean_loss > BROKEN_FACTOR * lowest else 0,
    )
