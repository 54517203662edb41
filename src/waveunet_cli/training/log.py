"""Where the events of a training go: a bar on standard error, lines of JSON in log.jsonl, and TensorBoard if wanted.

TensorBoard gets curves, and sound and spectrograms of an excerpt.
"""

import json
import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from waveunet_cli.errors import ConfigError
from waveunet_cli.text import in_line
from waveunet_cli.training.events import Started, Stepped, TrainingEvent, Validated
from waveunet_cli.training.recipe import Recipe
from waveunet_cli.training.schedule import Progress, share_done
from waveunet_cli.training.validate import Excerpt

STEPS_PER_LINE = 20
PICTURE_FFT_FRAMES = 1024


class Log:
    """Writes down what a training tells; a context manager. Its `on_event` takes the events."""

    def __init__(self, recipe: Recipe, out: Path, sample_rate_hz: int, quiet: bool, tensorboard: bool) -> None:
        self._schedule = recipe.schedule
        self._sample_rate_hz = sample_rate_hz
        self._sources = recipe.config().sources
        self._writer = _summary_writer(out) if tensorboard else None
        self._heard_truth = False
        self._path = out / "log.jsonl"
        self._bar = tqdm(disable=True if quiet else None, total=recipe.schedule.steps, unit="step", dynamic_ncols=True)
        self._quiet = quiet
        self._steps: list[Stepped] = []  # since the last line

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def on_event(self, event: TrainingEvent) -> None:
        """Take one event."""
        if isinstance(event, Started):
            self._bar.initial = self._bar.n = event.progress.step
        elif isinstance(event, Stepped):
            self._stepped(event)
        elif isinstance(event, Validated):
            self._validated(event)
        else:
            self._print(event.text)

    def _stepped(self, event: Stepped) -> None:
        """Every 20 steps, write down their mean loss, their speed and what else they had."""
        progress = event.progress
        self._steps.append(event)
        self._bar.update(1)
        if event.skipped:
            self._print(f"step {progress.step}: skipped, its loss is {event.loss:.3g} (mean: {progress.mean_loss:.3g})")
        if progress.step % STEPS_PER_LINE and not progress.done:
            return
        seconds, waited, frames, losses = (
            sum(values)
            for values in zip(*((s.seconds, s.waited_seconds, s.frames, s.loss) for s in self._steps), strict=True)
        )
        entry = {
            "loss": losses / len(self._steps),
            "learning_rate": event.learning_rate,
            "audio_seconds_per_second": frames / self._sample_rate_hz / seconds if seconds > 0 else 0.0,
            "computing_share": 1 - waited / seconds if seconds > 0 else 1.0,
            "skipped_steps": progress.skipped_steps,
        }
        if progress.mean_norm:
            entry["gradient_norm"] = progress.mean_norm
        self._bar.set_postfix(loss=f"{entry['loss']:.4f}", done=f"{share_done(self._schedule, progress):.0%}")
        self._write(progress, entry)
        self._steps = []

    def _validated(self, event: Validated) -> None:
        """Write down the validation's loss and SDRs."""
        progress, score = event.progress, event.score
        self._write(progress, {"validation_loss": score.loss, **{f"sdr_db/{s}": v for s, v in score.sdr_db.items()}})
        if self._writer is not None and score.excerpt is not None:
            self._show(self._writer, progress.step, score.excerpt)
        sdr = ", ".join(f"{source} {value:.2f} dB" for source, value in score.sdr_db.items())
        self._print(f"epoch {progress.epoch}: validation loss {score.loss:.5f}, SDR {sdr}")

    def _print(self, text: str) -> None:
        if not self._quiet:
            tqdm.write(in_line(text), file=sys.stderr)

    def _show(self, writer: Any, step: int, excerpt: Excerpt) -> None:
        """Sound and spectrograms (true above, estimated below) of each source; what stays the same only once."""
        for source, truth, estimate in zip(self._sources, excerpt.truth, excerpt.estimate, strict=True):
            pictures = [spectrogram_picture(truth), spectrogram_picture(estimate)]
            writer.add_image(f"spectrogram/{source}", torch.cat(pictures, 1), step)
            self._play(writer, f"estimate/{source}", estimate, step)
            if not self._heard_truth:
                self._play(writer, f"truth/{source}", truth, step)
        if not self._heard_truth:
            self._play(writer, "mixture", excerpt.truth.sum(0), step)
        self._heard_truth = True

    def _play(self, writer: Any, name: str, x: Tensor, step: int) -> None:
        writer.add_audio(name, x.mean(0, keepdim=True).clamp(-1, 1), step, self._sample_rate_hz)

    def _write(self, progress: Progress, values: Mapping[str, float]) -> None:
        entry: dict[str, Any] = {"step": progress.step, "seconds": round(progress.seconds, 3)}
        entry |= {name: value if isfinite(value) else None for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, progress.step)


def spectrogram_picture(x: Tensor) -> Tensor:
    """Levels of (C, t) as grey, (1, bins, n) from 0 to 1: low frequencies at the bottom, −100 dB to 0 dB full scale."""
    size = min(PICTURE_FFT_FRAMES, x.shape[-1])
    window = torch.hann_window(size)
    spectrum = torch.stft(x.mean(0), size, size // 2, window=window, center=False, return_complex=True)
    decibels = 20 * torch.log10(spectrum.abs() * (2 / float(window.sum())) + 1e-9)
    return ((decibels + 100) / 100).clamp(0, 1).flip(0)[None]


def _summary_writer(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("tensorboard: not installed; run `pip install tensorboard`") from error
    return SummaryWriter(str(out))
