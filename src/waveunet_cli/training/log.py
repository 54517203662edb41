"""What a training tells: a bar on standard error, a line of JSON an entry in log.jsonl, and TensorBoard if wanted.

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
from waveunet_cli.training.recipe import Recipe
from waveunet_cli.training.schedule import Progress, share_done
from waveunet_cli.training.validate import Excerpt, Score

STEPS_PER_LINE = 20
PICTURE_FFT_FRAMES = 1024


class Log:
    """Listens to a training; a context manager."""

    def __init__(self, recipe: Recipe, out: Path, sample_rate_hz: int, quiet: bool, tensorboard: bool) -> None:
        self._schedule = recipe.schedule
        self._sample_rate_hz = sample_rate_hz
        self._sources = recipe.config().sources
        self._writer = _summary_writer(out) if tensorboard else None
        self._heard_truth = False
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
        if self._writer is not None and score.excerpt is not None:
            self._show(self._writer, progress.step, score.excerpt)
        if not self._quiet:
            sdr = ", ".join(f"{source} {value:.2f} dB" for source, value in score.sdr_db.items())
            tqdm.write(f"epoch {progress.epoch}: validation loss {score.loss:.5f}, SDR {sdr}", file=sys.stderr)

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
