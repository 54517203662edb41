"""What a training tells: a bar on standard error, a line of JSON an entry in log.jsonl, and TensorBoard if wanted."""

import json
import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from tqdm import tqdm

from waveunet_cli.errors import ConfigError
from waveunet_cli.training.recipe import Recipe
from waveunet_cli.training.schedule import Progress, share_done
from waveunet_cli.training.validate import Score

STEPS_PER_LINE = 20


class Log:
    """Listens to a training; a context manager."""

    def __init__(self, recipe: Recipe, out: Path, sample_rate_hz: int, quiet: bool, tensorboard: bool) -> None:
        self._schedule = recipe.schedule
        self._sample_rate_hz = sample_rate_hz
        self._writer = _summary_writer(out) if tensorboard else None
        self._path = out / "log.jsonl"
        self._bar = tqdm(disable=True if quiet else None, total=recipe.schedule.steps, unit="step", dynamic_ncols=True)
        self._quiet = quiet
        self._losses: list[float] = []
        self._frames = 0
        self._since_seconds = 0.0

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def stepped(self, progress: Progress, loss: float, learning_rate: float, frames: int) -> None:
        """One more step; every 20 steps, their mean loss and speed are written down."""
        self._losses.append(loss)
        self._frames += frames
        self._bar.update(progress.step - self._bar.n)
        if progress.step % STEPS_PER_LINE and not progress.done:
            return
        took = progress.seconds - self._since_seconds
        entry = {
            "loss": sum(self._losses) / len(self._losses),
            "learning_rate": learning_rate,
            "audio_seconds_per_second": self._frames / self._sample_rate_hz / took if took > 0 else 0.0,
        }
        self._bar.set_postfix(loss=f"{entry['loss']:.4f}", done=f"{share_done(self._schedule, progress):.0%}")
        self._write(progress, entry)
        self._losses, self._frames, self._since_seconds = [], 0, progress.seconds

    def validated(self, progress: Progress, score: Score) -> None:
        """A validation: loss, and the SDR of each source."""
        self._write(progress, {"validation_loss": score.loss, **{f"sdr_db/{s}": v for s, v in score.sdr_db.items()}})
        if not self._quiet:
            sdr = ", ".join(f"{source} {value:.2f} dB" for source, value in score.sdr_db.items())
            tqdm.write(f"epoch {progress.epoch}: validation loss {score.loss:.5f}, SDR {sdr}", file=sys.stderr)

    def _write(self, progress: Progress, values: Mapping[str, float]) -> None:
        entry: dict[str, Any] = {"step": progress.step, "seconds": round(progress.seconds, 3)}
        entry |= {name: value if isfinite(value) else None for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, progress.step)


def _summary_writer(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("tensorboard: not installed; run `pip install tensorboard`") from error
    return SummaryWriter(str(out))
