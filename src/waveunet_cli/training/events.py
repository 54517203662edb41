"""What a training tells while it runs. A callback `on_event` takes one of these; only the first process calls it.

They stand here and not in events.py because they carry tensors and are never written as lines of JSON as they are.
"""

from dataclasses import dataclass

from waveunet_cli.events import Note
from waveunet_cli.training.schedule import Progress
from waveunet_cli.training.validate import Score


@dataclass(frozen=True)
class Started:
    """Before the first step. `progress` is how far the training had come when it was saved, if it is resumed."""

    progress: Progress


@dataclass(frozen=True)
class Stepped:
    """After each step.

    loss            mean over the step's windows
    frames          of audio that the loss saw, at the model's rate
    seconds         that the step took
    waited_seconds  part of these in which it waited for windows
    skipped         the step did not change the weights, since its loss or its gradients were out of all proportion
    """

    progress: Progress
    loss: float
    learning_rate: float
    frames: int
    seconds: float
    waited_seconds: float
    skipped: bool


@dataclass(frozen=True)
class Validated:
    """After each validation."""

    progress: Progress
    score: Score


TrainingEvent = Started | Stepped | Validated | Note
