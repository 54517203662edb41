"""A batch on a Ray cluster: actors that hold the model, placed, restarted and retried by Ray.

Inputs and outputs lie on a file system that every node sees at the same paths. A song whose worker died is given to
the restarted worker by Ray; its manifest and its lock make sure that it is done exactly once. Nodes that join while the
batch runs get workers as soon as Ray counts their resources.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Ray prints what its nodes report to standard output, which is for the paths of stems. Read when Ray is imported.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

import ray
import torch

from waveunet_cli.errors import DeviceError, WaveUNetError
from waveunet_cli.events import Event, Note, Progress
from waveunet_cli.library.lanes import Space, StoppedError, Waiting, errno_of, persistently
from waveunet_cli.library.ledger import Ledger
from waveunet_cli.library.manifest import Overwrite
from waveunet_cli.library.song import Separated, Song, separate_song
from waveunet_cli.library.target import Target
from waveunet_cli.networks.family import Model
from waveunet_cli.text import one_line

if TYPE_CHECKING:
    from waveunet_cli.separator import Separator

POLL_SECONDS = 1.0
DEATHS = 2  # of its worker, that a song survives


@dataclass(frozen=True)
class Order:
    """What every worker must know: `separator_class(model, **options)` makes its separator."""

    folder: Path
    target: Target
    overwrite: Overwrite
    separator_class: "type[Separator]"
    options: Mapping[str, Any]
    cores: int


@dataclass(frozen=True)
class Outcome:
    """What became of a song: one of the first two; `number` is the errno behind the error."""

    separated: Separated | None
    error: WaveUNetError | None = None
    number: int | None = None
    notes: tuple[Note, ...] = ()


class Worker:
    """An actor: one song at a time, and beside it the question how far it is."""

    def __init__(self, order: Order) -> None:
        os.chdir(order.folder)  # so that paths mean what they meant to the user
        torch.set_num_threads(order.cores)
        self._notes: list[Note] = []
        self._separator: Separator | None = None
        self._order = order
        self._stop = threading.Event()
        self._at: Progress | None = None

    def separate(self, model: Sequence[Any], song: Song) -> Outcome | None:
        """None if it was stopped. `model` holds a reference to the Model, which is fetched for the first song."""
        if self._separator is None:
            self._separator = self._order.separator_class(
                ray.get(model[0]), on_event=self._on_event, **self._order.options
            )
        separator = self._separator
        self._at = None
        self._notes.clear()

        def attempt() -> Separated:
            return separate_song(
                separator, song, self._order.target, overwrite=self._order.overwrite, on_event=self._on_event
            )

        try:
            return Outcome(persistently(attempt, self._on_event, self._stop), notes=tuple(self._notes))
        except StoppedError:
            return None
        except WaveUNetError as error:
            return Outcome(None, type(error)(str(error)), errno_of(error), tuple(self._notes))

    def at(self) -> Progress | None:
        """How far the song at work is; None before its first block."""
        return self._at

    def stop(self) -> None:
        """End the song at work, without leaving anything of it."""
        self._stop.set()

    def pid(self) -> int:
        return os.getpid()

    def _on_event(self, event: Event) -> None:
        if self._stop.is_set():
            raise StoppedError
        if isinstance(event, Note):
            self._notes.append(event)
        elif isinstance(event, Progress):
            self._at = event


class Cluster:
    """Runs the songs of a batch on the workers of a Ray cluster."""

    def __init__(self, address: str | None, model: Model, order: Order, ledger: Ledger, strict: bool = False) -> None:
        """Connects to the cluster at `address`, "auto" being one that runs here; None starts one on this machine."""
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DeviceError(
                f"no Ray cluster at {address or 'this machine'} ({error}); start one with 'ray start'"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own
        on_gpus = order.options["device"] != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        self._needs = {"GPU": 1} if on_gpus else {"CPU": order.cores}
        self._order = order
        self._model = ray.put(model)
        self._ledger = ledger
        self._strict = strict
        self._workers: list[Any] = []
        self._idle: list[Any] = []
        self._at_work: dict[Any, tuple[Any, Song]] = {}

    def run(self, songs: Sequence[Song]) -> None:
        """Every song once. Whatever interrupts it ends the songs at work cleanly."""
        waiting = Waiting(songs)
        self._space = Space(self._order.target.folder(songs[0]))
        try:
            while (waiting and self._ledger.stopped is None) or self._at_work:
                self._grow(len(waiting))
                while waiting and self._idle and self._ledger.stopped is None:
                    worker = self._idle.pop()
                    song = waiting.take(smallest_first=len(self._workers) > 1 and worker is self._workers[-1])
                    assert song is not None
                    self._ledger.start(song)
                    self._at_work[worker.separate.remote([self._model], song)] = (worker, song)
                ended, _ = ray.wait([*self._at_work], num_returns=1, timeout=POLL_SECONDS)
                for reference in ended:
                    worker, song = self._at_work.pop(reference)
                    self._idle.append(worker)
                    self._settle(song, reference, waiting)
                if not ended:
                    self._look()
        finally:
            self._leave()

    def _grow(self, waiting: int) -> None:
        """As many workers as the cluster has room for, and there are songs."""
        resources = ray.cluster_resources()
        room = int(min(resources.get(kind, 0) // amount for kind, amount in self._needs.items()))
        if not room and not self._workers:
            kind, amount = next(iter(self._needs.items()))
            raise DeviceError(
                f"a worker needs {amount} {kind}, the Ray cluster has {resources.get(kind, 0):g}; see --worker-cores"
            )
        for _ in range(min(room - len(self._workers), waiting - len(self._idle))):
            worker = (
                ray.remote(Worker)
                .options(
                    num_cpus=self._needs.get("CPU", 1),
                    num_gpus=self._needs.get("GPU", 0),
                    max_restarts=-1,
                    max_task_retries=DEATHS,
                    max_concurrency=2,  # separate, and beside it at or stop
                )
                .remote(self._order)
            )
            self._workers.append(worker)
            self._idle.insert(0, worker)

    def _settle(self, song: Song, reference: Any, waiting: Waiting) -> None:
        try:
            outcome: Outcome | None = ray.get(reference)
        except ray.exceptions.RayActorError:
            outcome = Outcome(
                None, DeviceError(f"{song.name}: its worker died {DEATHS + 1} times; see whether the nodes have memory")
            )
        except ray.exceptions.RayError as failure:
            outcome = Outcome(None, DeviceError(f"{song.name}: its worker failed ({one_line(failure)}); see the nodes"))
        if outcome is None:
            return
        for note in outcome.notes:
            self._ledger.pass_on(note)
        if outcome.separated is not None:
            self._ledger.finish(song, outcome.separated)
            return
        error = outcome.error
        assert error is not None
        if outcome.number is not None:
            error.__cause__ = OSError(outcome.number, os.strerror(outcome.number))
        self._ledger.fail(song, error)
        why = self._space.why_stop([*waiting], error, self._strict)
        if why is not None:
            self._ledger.stopped = why
            for worker in self._workers:
                worker.stop.remote()

    def _look(self) -> None:
        """Ask the workers how far they are; one that is being restarted does not say."""
        asked = [worker.at.remote() for worker, _ in self._at_work.values()]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=POLL_SECONDS)
        for reference in answered:
            with contextlib.suppress(ray.exceptions.RayActorError):
                progress: Progress | None = ray.get(reference)
                if progress is not None:
                    self._ledger.pass_on(progress)

    def _leave(self) -> None:
        for worker in self._workers:
            worker.stop.remote()
        if self._at_work:
            ray.wait([*self._at_work], num_returns=len(self._at_work), timeout=60)
        ray.shutdown()
