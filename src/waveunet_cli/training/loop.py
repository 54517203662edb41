"""The training loop: draw windows, step, validate, save; from a recipe to a checkpoint.

Every random choice is a function of the seed and of how far the training has come, so that one continued from its
state gives, bit for bit, what it would have given uninterrupted (on the same machine, with as many threads).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.func import functional_call

from waveunet_cli.datasets.tracks import Track, find_tracks
from waveunet_cli.errors import CheckpointError, ConfigError, WaveUNetError
from waveunet_cli.networks.checkpoint import load_checkpoint, load_weights, save_checkpoint
from waveunet_cli.networks.family import Config, build_network
from waveunet_cli.training import schedule
from waveunet_cli.training.loss import LOSSES, OF_MAGNITUDES
from waveunet_cli.training.mixing import Mixer, Pool, windows
from waveunet_cli.training.network import Trainable
from waveunet_cli.training.recipe import CHECKPOINT, Recipe
from waveunet_cli.training.schedule import Progress
from waveunet_cli.training.state import State, copy_of, load_state, new_optimizer, save_state, update_average
from waveunet_cli.training.validate import Score, validate

STATE, MODEL = "state.safetensors", "model.safetensors"


class Listener(Protocol):
    """Is told what happens; only that of the first process."""

    def stepped(self, progress: Progress, loss: float, learning_rate: float, frames: int) -> None: ...
    def validated(self, progress: Progress, score: Score) -> None: ...


@dataclass(frozen=True)
class Material:
    """The tracks of a recipe: to train on, to validate with, and a line for each song left out."""

    pools: list[Pool]
    validation: list[Track]
    left_out: list[str]


def gather(recipe: Recipe, config: Config) -> Material:
    """Find the tracks. Raises ConfigError for a folder that is no data set."""
    pools, validation, left_out = [], [], []
    for data in recipe.data:
        tracks, problems = find_tracks(data, config.sources)
        pools.append(Pool(tracks, data.weight, data.weights, data.reverb))
        left_out += problems
    for data in recipe.validation:
        tracks, problems = find_tracks(data, config.sources)
        validation += tracks
        left_out += problems
    if recipe.hold_out:
        songs = [t for t in pools[0].tracks if set(config.sources) <= t.sources.keys()]
        if recipe.hold_out >= len(songs):
            raise ConfigError(f"hold_out: found {recipe.hold_out} of {len(songs)} songs; leave some to train on")
        chosen = np.random.default_rng(recipe.seed).choice(len(songs), recipe.hold_out, replace=False)
        held = {songs[i].name for i in chosen}
        validation += [t for t in songs if t.name in held]
        pools = [replace(pool, tracks=[t for t in pool.tracks if t.name not in held]) for pool in pools]
    return Material([pool for pool in pools if pool.tracks], validation, left_out)


def train(
    recipe: Recipe,
    out: Path,
    fabric: Fabric,
    listener: Listener,
    material: Material,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train into the folder `out`: its `state.safetensors` to go on from, its `model.safetensors` to separate with.

    `stop` is asked after every step; when it says True, everything is saved and the progress returned is not `done`.
    Raises ConfigError, CheckpointError (state of another model, disk full), AudioReadError, and WaveUNetError when the
    loss is no longer finite.
    """
    config = recipe.config()
    if not resume and (out / STATE).exists():
        raise CheckpointError(f"{out / STATE}: a training is there already; add --resume, or choose another folder")
    state = _initial(recipe, config, fabric.device)
    if resume:
        load_state(out / STATE, config, state)
        state.progress = schedule.resumed(recipe.schedule, state.progress)
    out.mkdir(parents=True, exist_ok=True)
    training = _Training(recipe, config, out, fabric, listener, material, state, stop)
    training.run()
    return state.progress


def _initial(recipe: Recipe, config: Config, device: torch.device) -> State:
    torch.manual_seed(recipe.seed)
    network = build_network(config)
    if recipe.model.endswith(CHECKPOINT):
        load_weights(network, load_checkpoint(Path(recipe.model)).network.state_dict(), where=recipe.model)
    if recipe.transfer is not None:
        load_weights(network, _transferred(recipe.transfer, network.state_dict()), where=recipe.transfer)
    network.to(device).requires_grad_(True)
    average = copy_of(network.state_dict()) if recipe.schedule.average else None
    optimizer = new_optimizer(network, recipe.schedule.weight_decay, recipe.schedule.betas)
    return State(network, optimizer, Progress(), average)


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
    listener: Listener
    material: Material
    state: State
    stop: Callable[[], bool]

    def run(self) -> None:
        recipe, fabric = self.recipe, self.fabric
        self.window = self.config.window(recipe.hop_frames)
        self.loss = LOSSES[recipe.loss]
        of_magnitudes = recipe.loss in OF_MAGNITUDES
        self.trainable = Trainable(self.state.network, getattr(torch, recipe.precision), of_magnitudes)
        self.module = fabric.setup_module(self.trainable)
        mixer = Mixer(
            self.config,
            self.material.pools,
            recipe.augmentation,
            self.window.input,
            self.window.context,
            recipe.seed,
            recipe.in_memory,
        )
        saved, stopping = time.monotonic(), False
        while not (stopping or self.state.progress.done):
            batches = windows(mixer, self._numbers(), self._micro(), recipe.workers)
            for _ in range(self._steps_left()):
                stopping = self._step(batches)
                if stopping or self.state.progress.done:
                    break
                if time.monotonic() - saved > 60 * recipe.save_minutes:
                    self._save()
                    saved = time.monotonic()
            batches.close()  # type: ignore[attr-defined]
            if schedule.epoch_ends(recipe.schedule, self.state.progress):
                self._end_epoch()
            self._save()

    def _share(self) -> int:
        """Windows of a step that fall to this process."""
        batch, processes = schedule.batch(self.recipe.schedule, self.state.progress), self.fabric.world_size
        if batch % processes:
            raise ConfigError(f"schedule.batch: {batch} windows can't be shared by {processes} processes; change one")
        return batch // processes

    def _micro(self) -> int:
        share = self._share()
        micro = min(self.recipe.micro_batch, share)
        if share % micro:
            raise ConfigError(f"micro_batch: {share} windows a step and process are no multiple of {micro}; change it")
        return micro

    def _steps_left(self) -> int:
        """Steps to the end of the epoch."""
        per_epoch = self.recipe.schedule.epoch_steps
        return per_epoch - self.state.progress.step % per_epoch

    def _numbers(self) -> list[int]:
        """Numbers of this process's windows to the end of the epoch."""
        batch, share = schedule.batch(self.recipe.schedule, self.state.progress), self._share()
        first = self.state.progress.windows + self.fabric.global_rank * share
        return [first + step * batch + i for step in range(self._steps_left()) for i in range(share)]

    def _step(self, batches: Iterator[Tensor]) -> bool:
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
        total = 0.0
        for round_ in range(rounds):
            with self.fabric.no_backward_sync(self.module, enabled=round_ + 1 < rounds):
                loss = self._loss(next(batches)) / rounds
                self.fabric.backward(loss)
            total += float(loss.detach())
        if not math.isfinite(total):
            raise WaveUNetError(
                f"{self.out}: the loss is {total} at step {state.progress.step}; the state saved last is intact: "
                "resume it with a lower learning rate"
            )
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip_norm)
        state.optimizer.step()
        # One process's clock and one process's wish count for all.
        seconds, stopping = self.fabric.broadcast((time.monotonic() - started, self.stop()))
        state.progress = schedule.after_step(settings, state.progress, seconds)
        update_average(state, settings.average)
        if self.fabric.is_global_zero:
            self.listener.stepped(state.progress, total, rate, micro * rounds * self.window.output)
        return bool(stopping)

    def _loss(self, sources: Tensor) -> Tensor:
        sources = sources.to(self.fabric.device)  # (B, S, C, t)
        estimate: Tensor = self.module(sources.sum(1))  # (B, S, C, t − 2·context), or magnitudes
        return self.trainable.loss(self.loss, estimate, sources)

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
            settings = self.recipe.schedule
            state.optimizer = new_optimizer(state.network, settings.weight_decay, settings.betas)
        if self.fabric.is_global_zero:
            self.listener.validated(state.progress, score)

    def _score(self) -> Score:
        weights = {f"network.{name}": w for name, w in copy_of(self.state.current).items()}
        self.trainable.eval()
        try:
            return validate(
                self.trainable,
                lambda x: functional_call(self.trainable, weights, (x,)),
                self.config,
                self.material.validation,
                self.loss,
                self.recipe.hop_frames,
                self.fabric.device,
            )
        finally:
            self.trainable.train()

    def _save(self) -> None:
        if not self.fabric.is_global_zero:
            return
        state = self.state
        early = self.recipe.schedule.kind == "paper" and state.best is not None
        save_state(self.out / STATE, self.config, state)
        weights = state.best if early and state.best else state.current
        save_checkpoint(self.out / MODEL, self.config, weights, getattr(torch, self.recipe.storage))
