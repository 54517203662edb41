"""Opens mutants of every kind of input and counts what becomes of them.

    python tests/fuzz/run.py [--mutants 10000] [--first 0] [--seed 1] [KIND …]

A mutant is fine (it opens), refused (an error of ours, on one line), or a fault: another exception, a process that
ends, more than TIME_SECONDS of the processor or WAIT_SECONDS in all, more memory than 512 MB and twice the file. The
same seed makes the same mutants, numbered from 0, so that a long run can be made in parts. Each kind has a process of
its own whose memory is limited; a mutant that ends it costs one fault. The mutants of the first faults are kept in the
folder that --keep names.
"""

import argparse
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch

from waveunet_cli.errors import WaveUNetError

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.inputs import KINDS, MOST_BYTES, Kind

TIME_SECONDS = 20.0  # of the processor
WAIT_SECONDS = 200.0  # for a process that does nothing, or has no turn
ADDRESSES_BYTES = 2 << 30  # beyond what the process has at its start
LONGEST_LINE = 2000


@dataclass
class Outcome:
    """How many mutants of a kind were fine, refused or faults, and the worst time and memory."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    bytes: int = 0

    def __str__(self) -> str:
        told = f"| {self.kind} | {self.counts.total()} | {self.counts['fine']} | {self.counts['refused']} |"
        worst = f" {self.counts['fault']} | {self.seconds:.1f} s | {self.bytes / 1e6:.0f} MB |"
        return told + worst + "".join(f"\n    {count} × {fault}" for fault, count in self.faults.most_common())


def fuzz(kind: Kind, numbers: range, seed: int, folder: Path, keep: Path | None = None) -> Outcome:
    """Open the mutants of a kind that have these numbers, each in a folder below `folder`."""
    torch.set_num_threads(1)  # a process that is forked from one with more waits for them for ever
    outcome = Outcome(kind.name)
    source = folder / "source"
    source.mkdir()
    kind.make(source)
    kind.open(source)  # it is fine, and what there is to load is loaded before processes are made
    number = numbers.start
    while number < numbers.stop:
        number = _in_a_process(kind, source, folder, range(number, numbers.stop), seed, outcome, keep)
    return outcome


def _in_a_process(
    kind: Kind, source: Path, folder: Path, numbers: range, seed: int, outcome: Outcome, keep: Path | None
) -> int:
    """Open mutants until the process that does it ends; the number of the next."""
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read_end)
        try:
            _open_all(kind, source, folder, numbers, seed, write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    number = numbers.start
    with os.fdopen(read_end) as answers:
        while number < numbers.stop:
            ready, _, _ = select.select([answers], [], [], WAIT_SECONDS)
            line = answers.readline() if ready else ""
            if not line:
                break
            what, seconds, peak, *told = line.rstrip("\n").split("\t")
            _count(outcome, what, float(seconds), int(peak), "".join(told))
            if what == "fault" and keep is not None:
                _kept(kind, source, keep, seed, number)
            number += 1
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if number < numbers.stop:
        ended = f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended"
        _count(outcome, "fault", 0.0, 0, f"the process {'hung' if not ready else ended}")
        if keep is not None:
            _kept(kind, source, keep, seed, number)
        number += 1
    return number


def _count(outcome: Outcome, what: str, seconds: float, peak: int, told: str) -> None:
    outcome.counts[what] += 1
    outcome.seconds, outcome.bytes = max(outcome.seconds, seconds), max(outcome.bytes, peak)
    if told:
        outcome.faults[told] += 1


def _kept(kind: Kind, source: Path, keep: Path, seed: int, number: int) -> None:
    folder = keep / f"{kind.name.replace(' ', '-')}-{seed}-{number}"
    if len(list(keep.glob(f"{kind.name.replace(' ', '-')}-*"))) < 20:
        _mutate(kind, source, folder, seed, number)


def _mutate(kind: Kind, source: Path, folder: Path, seed: int, number: int) -> None:
    shutil.copytree(source, folder)
    kind.spoil(random.Random(f"{kind.name} {seed} {number}"), folder)


def _open_all(kind: Kind, source: Path, folder: Path, numbers: range, seed: int, answers: int) -> None:
    os.nice(max(0, 10 - os.nice(0)))
    limit = _own_bytes("VmSize") + ADDRESSES_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # decoders complain there
    signal.signal(signal.SIGPROF, _too_long)
    for number in numbers:
        place = folder / f"mutant-{os.getpid()}"
        _mutate(kind, source, place, seed, number)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak of memory begins anew
        started = time.monotonic()
        what, told = _opened(kind, place)
        seconds, peak = time.monotonic() - started, _own_bytes("VmHWM")
        if peak > MOST_BYTES + 2 * size:
            what, told = "fault", f"{told or what}, with {peak / 1e6:.0f} MB"
        shutil.rmtree(place)
        os.write(answers, f"{what}\t{seconds}\t{peak}\t{told}\n".encode())


def _opened(kind: Kind, place: Path) -> tuple[str, str]:
    """What became of the mutant in a folder, and if it is a fault, which."""
    try:
        signal.setitimer(signal.ITIMER_PROF, TIME_SECONDS)
        try:
            kind.open(place)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return "fine", ""
    except WaveUNetError as error:
        message = str(error)
        if message.isprintable() and 0 < len(message) <= LONGEST_LINE:
            return "refused", ""
        return "fault", f"no line: {message[:100]!r}"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = next(
            (f"{Path(f.filename).name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__))
             if "waveunet_cli" in f.filename), f"{Path(last.filename).name}:{last.lineno}",
        )  # fmt: skip
        return "fault", " ".join(f"{type(error).__name__} at {where}: {error}".split())[:200]


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {TIME_SECONDS} s")


def _own_bytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"one of: {', '.join(KINDS)}; all by default")
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the mutants of the first faults of each kind")
    given = parser.parse_args()
    faults = 0
    numbers = range(given.first, given.first + given.mutants)
    print("| kind | mutants | fine | refused | faults | longest | most memory |\n|---|---|---|---|---|---|---|")
    for name in given.kinds or KINDS:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            outcome = fuzz(KINDS[name], numbers, given.seed, Path(folder), given.keep)
        print(outcome, flush=True)
        faults += outcome.counts["fault"]
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
