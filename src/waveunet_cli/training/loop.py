"""The training loop: draw windows, step, validate, save; from a recipe to a checkpoint.

Every random choice is a function of the seed and of how far the training has come. So a training that goes on from its
state gives, bit for bit, what it would have given uninterrupted (on the same machine, with as many threads).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.func import functional_call

from waveunet_cli.devices import CPU
from waveunet_cli.errors import CheckpointError, ConfigError, WaveUNetError
from waveunet_cli.events import Note
from waveunet_cli.files import require_folder
from waveunet_cli.networks.checkpoint import load_checkpoint, load_weights, save_checkpoint
from waveunet_cli.networks.family import Config, build_network
from waveunet_cli.training import schedule, stability
from waveunet_cli.training.events import Started, Stepped, TrainingEvent, Validated
from waveunet_cli.training.loss import LOSSES, OF_MAGNITUDES
from waveunet_cli.training.material import Material
from waveunet_cli.training.mixing import Drawn, Mixer, windows
from waveunet_cli.training.network import Trainable
from waveunet_cli.training.optimizer import new_optimizer
from waveunet_cli.training.recipe import CHECKPOINT, Recipe
from waveunet_cli.training.resume import changes, description
from waveunet_cli.training.schedule import Progress
from waveunet_cli.training.state import State, copy_of, load_state, require_state, save_state, update_average
from waveunet_cli.training.validate import Score, validate

STATE, MODEL = "state.safetensors", "model.safetensors"
LOWER = "a lower schedule.learning_rate, or with schedule.clip_factor = 3"  # what helps against a loss that rose


def train(
    recipe: Recipe,
    out: Path,
    fabric: Fabric,
    material: Material,
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train into the folder `out`: its `state.safetensors` to go on from, its `model.safetensors` to separate with.

    `stop` is asked after every step; when it says True, everything is saved and the progress returned is not `done`.
    While the loss is high (`broken_steps`), the state saved before stays instead, unless the training is done.
    Raises ConfigError, CheckpointError (state of another training, disk full), AudioReadError, and WaveUNetError when
    the loss is no longer finite, or rose and stays high.
    """
    config = recipe.config()
    require_place(out, resume)
    state = _initial(recipe, config, fabric.device)
    about = description(recipe, material)
    if resume:
        before = load_state(out / STATE, config, state)
        state.progress = schedule.resumed(recipe.schedule, state.progress)
        for change in changes(out / STATE, before, about):
            on_event(Note(change))
    out.mkdir(parents=True, exist_ok=True)
    _Training(recipe, config, out, fabric, material, on_event, state, stop, about).run()
    return state.progress


def require_place(out: Path, resume: bool) -> None:
    """Raise CheckpointError if a training cannot start in a folder, or go on there; ConfigError if it is no folder."""
    require_folder(out)
    if not resume and (out / STATE).exists():
        raise CheckpointError(f"{out / STATE}: a training is there already; add --resume, or choose another folder")
    if resume:
        require_state(out / STATE)


def require_trainable(recipe: Recipe, config: Config, processes: int) -> None:
    """Raise what `train` would raise for the batch, the loss and the checkpoints of a recipe, before songs are read."""
    _micro(recipe, Progress(), processes)
    network = _initial(recipe, config, CPU).network
    Trainable(network, magnitudes=recipe.loss_name in OF_MAGNITUDES)


def _share(recipe: Recipe, progress: Progress, processes: int) -> int:
    """Windows of a step that fall to each process."""
    batch = schedule.batch(recipe.schedule, progress)
    if batch % processes:
        raise ConfigError(f"schedule.batch: {batch} windows can't be shared by {processes} processes; change one")
    return batch // processes


def _micro(recipe: Recipe, progress: Progress, processes: int) -> int:
    """Windows that a process computes at once."""
    share = _share(recipe, progress, processes)
    micro = min(recipe.micro_batch, share)
    if share % micro:
        raise ConfigError(f"micro_batch: {share} windows a step and process are no multiple of {micro}; change it")
    return micro


def _initial(recipe: Recipe, config: Config, device: torch.device) -> State:
    torch.manual_seed(recipe.seed)
    network = build_network(config)
    if recipe.model.endswith(CHECKPOINT):
        load_weights(network, load_checkpoint(Path(recipe.model)).network.state_dict(), where=recipe.model)
    if recipe.transfer is not None:
        load_weights(network, _transferred(recipe.transfer, network.state_dict()), where=recipe.transfer)
    network.to(device).requires_grad_(True)
    average = copy_of(network.state_dict()) if recipe.schedule.average else None
    return State(network, _optimizer(recipe, network), Progress(), average)


def _optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.AdamW:
    settings = recipe.schedule
    return new_optimizer(network, settings.optimizer, settings.weight_decay, settings.betas)


def _transferred(path: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`weights`, those that fit replaced by the checkpoint's. Raises ConfigError if no kernel fits."""
    given = load_checkpoint(Path(path)).network.state_dict()
    fitting = {name: w for name, w in given.items() if name in weights and w.shape == weights[name].shape}
    for name in [name for name in fitting if name.endswith(".bias")]:
        if f"{name.removesuffix('bias')}weight" not in fitting:
            del fitting[name]  # it belongs to another kernel
    if not any(weight.ndim > 1 for weight in fitting.values()):
        raise ConfigError(f"transfer: {path} has no weight of this architecture; choose a related checkpoint")
    return weights | fitting


@dataclass
class _Training:
    recipe: Recipe
    config: Config
    out: Path
    fabric: Fabric
    material: Material
    on_event: Callable[[TrainingEvent], None]
    state: State
    stop: Callable[[], bool]
    about: dict[str, object]

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.window = self.config.window(recipe.hop_frames)
        self.loss = LOSSES[recipe.loss_name]
        of_magnitudes = recipe.loss_name in OF_MAGNITUDES
        self.trainable = Trainable(self.state.network, getattr(torch, recipe.precision), of_magnitudes)
        self.module = self.fabric.setup_module(self.trainable)
        self.mixer = Mixer(
            self.config,
            self.material.pools,
            self.material.reader,
            recipe.augmentation,
            self.window.input,
            self.window.context,
            recipe.seed,
        )

    def run(self) -> None:
        settings = self.recipe.schedule
        saved, stopping = time.monotonic(), False
        self._happened(Started(self.state.progress))
        while not (stopping or self.state.progress.done):
            batches = windows(self.mixer, self._numbers(), self._micro(), self.recipe.workers)
            for _ in range(self._steps_left()):
                stopping = self._step(batches)
                if stopping or self.state.progress.done:
                    break
                # A state whose loss has risen far is not saved: the one saved before is the one to go on from.
                if time.monotonic() - saved > 60 * self.recipe.save_minutes and not self.state.progress.broken_steps:
                    self._save()
                    saved = time.monotonic()
            batches.close()  # type: ignore[attr-defined]
            if schedule.epoch_ends(settings, self.state.progress):
                self._end_epoch()
            if stopping and self.state.progress.broken_steps and (self.out / STATE).exists():
                self._happened(Note("the loss is twice what it was: the state saved before it rose is kept"))
            elif stopping or self.state.progress.done or not self.state.progress.broken_steps:
                if self.state.progress.done and self.state.progress.broken_steps:
                    self._happened(
                        Note(f"the loss was twice what it had been as the training ended; train again with {LOWER}")
                    )
                self._save()

    def _happened(self, event: TrainingEvent) -> None:
        if self.fabric.is_global_zero:
            self.on_event(event)

    def _share(self) -> int:
        return _share(self.recipe, self.state.progress, self.fabric.world_size)

    def _micro(self) -> int:
        return _micro(self.recipe, self.state.progress, self.fabric.world_size)

    def _steps_left(self) -> int:
        """Steps to the end of the epoch."""
        per_epoch = self.recipe.schedule.epoch_steps
        return per_epoch - self.state.progress.step % per_epoch

    def _numbers(self) -> Iterator[int]:
        """Numbers of this process's windows to the end of the epoch, which may be far away."""
        batch, share = schedule.batch(self.recipe.schedule, self.state.progress), self._share()
        first = self.state.progress.windows + self.fabric.global_rank * share
        return (first + step * batch + i for step in range(self._steps_left()) for i in range(share))

    def _step(self, batches: Iterator[Drawn]) -> bool:
        """One step of the optimizer; True if it shall be the last for now."""
        state, settings = self.state, self.recipe.schedule
        started = time.monotonic()
        # For networks with dropout; each process its own.
        torch.manual_seed(hash((self.recipe.seed, state.progress.step, self.fabric.global_rank)))
        rate = schedule.learning_rate(settings, state.progress)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad(set_to_none=True)
        micro, rounds = self._micro(), self._share() // self._micro()
        total = waited = 0.0
        for round_ in range(rounds):
            before = time.monotonic()
            drawn = next(batches)
            waited += time.monotonic() - before
            with self.fabric.no_backward_sync(self.module, enabled=round_ + 1 < rounds):
                loss = self._loss(drawn) / rounds
                self.fabric.backward(loss)
            total += float(loss.detach())
        if self.fabric.world_size > 1:  # all processes have to judge alike
            mean = self.fabric.all_reduce(torch.tensor(total, device=self.fabric.device), reduce_op="mean")
            total = float(cast(Tensor, mean))
        if not math.isfinite(total):
            raise WaveUNetError(f"{self.out}: the loss is {total} at step {state.progress.step}; {self._remedy()}")
        norm = None
        if settings.clip_factor:
            limit = stability.longest_gradient(settings, state.progress)
            norm = float(torch.nn.utils.clip_grad_norm_(state.network.parameters(), limit))
        skipped = stability.is_outlier(state.progress, total) or not math.isfinite(norm or 0.0)
        if not skipped:
            state.optimizer.step()
        # One process's clock and one process's wish count for all.
        seconds, waited, stopping = self.fabric.broadcast((time.monotonic() - started, waited, self.stop()))
        state.progress = schedule.after_step(settings, state.progress, seconds, waited)
        state.progress = stability.watched(settings, state.progress, total, norm, skipped)
        if not skipped:
            update_average(state, settings.average)
        frames = micro * rounds * self.window.output
        self._happened(Stepped(state.progress, total, rate, frames, seconds, waited, skipped))
        if state.progress.broken_steps >= stability.BROKEN_STEPS:
            raise WaveUNetError(
                f"{self.out}: the mean loss is {state.progress.mean_loss:.3g} at step {state.progress.step}, for "
                f"{state.progress.broken_steps} steps more than twice the {state.progress.lowest_loss:.3g} it had; "
                f"{self._remedy()}"
            )
        return bool(stopping)

    def _remedy(self) -> str:
        if (self.out / STATE).exists():
            return f"the state saved last is from before: resume it with {LOWER}"
        return f"nothing was saved yet: start again with {LOWER}"

    def _loss(self, drawn: Drawn) -> Tensor:
        sources = drawn.sources.to(self.fabric.device)  # (B, S, C, t)
        estimate: Tensor = self.module(sources.sum(1))  # (B, S, C, t − 2·context), or magnitudes
        return self.trainable.loss(self.loss, estimate, sources, drawn.sums)

    def _end_epoch(self) -> None:
        state = self.state
        if not self.material.validation:
            return
        score = self.fabric.broadcast(self._score() if self.fabric.is_global_zero else None)
        assert score is not None
        stage = state.progress.stage
        if score.loss < state.progress.best_loss:
            state.best = copy_of(state.current)
        state.progress = schedule.after_epoch(self.recipe.schedule, state.progress, score.loss)
        if state.progress.stage != stage and state.best is not None:  # the next stage starts from the best so far
            state.network.load_state_dict(state.best)
            state.average = copy_of(state.best) if state.average is not None else None
            state.optimizer = _optimizer(self.recipe, state.network)
        self._happened(Validated(state.progress, score))

    def _score(self) -> Score:
        weights = {f"network.{name}": w for name, w in copy_of(self.state.current).items()}
        self.trainable.eval()
        try:
            return validate(
                self.trainable,
                lambda x: functional_call(self.trainable, weights, (x,)),
                self.config,
                self.material.reader,
                self.material.validation,
                self.loss,
                self.recipe.hop_frames,
                self.fabric.device,
            )
        finally:
            self.trainable.train()

    def _save(self) -> None:
        """Save the state, and as the model the weights of the best validation, or the last ones where there is none."""
        if not self.fabric.is_global_zero:
            return
        state = self.state
        save_state(self.out / STATE, self.config, state, self.about)
        weights = state.best if state.best is not None else state.current
        save_checkpoint(self.out / MODEL, self.config, weights, getattr(torch, self.recipe.storage))
