"""What the model hub costs: importing a full-size checkpoint, listing, opening the embedded model.

    python benchmarks/hub.py [--runs 5]

Writes a TensorFlow bundle of M5-HighSR's size with random weights into a temporary folder (0.4 GB with what becomes
of it) and prints seconds, the best and in brackets the median of processes of their own, and the peak of resident
memory. Opening is timed inside its process, after `import torch`. On a busy machine: chrt -f 10 python …
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WRITING = """
import sys
from pathlib import Path
from tf1_bundle import tensors_of, write_bundle
from waveunet_cli.networks.wave_u_net.config import M5_HIGHSR
write_bundle(Path(sys.argv[1]), tensors_of(M5_HIGHSR))
"""
CLI = "import sys; from waveunet_cli.cli import main; main(sys.argv[1:])"
LISTING = """
import sys
from waveunet_cli.cli import main
try: main(["models", "list"])
except SystemExit: print("torch" in sys.modules, file=sys.stderr)
"""
OPENING = """
import sys, time
import torch
start = time.perf_counter()
from waveunet_cli.hub import load_model
load_model("vocals")
print(time.perf_counter() - start, file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="processes for each figure")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"WAVEUNET_CACHE": f"{folder}/cache", "WAVEUNET_OFFLINE": "1"}
        os.environ.pop("WAVEUNET_MODELS", None)
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "tests")  # for its writer of bundles
        bundle = f"{folder}/full-1"
        _run(WRITING, bundle)  # a process of its own: what this one once held, its children are said to hold
        size_bytes = sum(path.stat().st_size for path in Path(folder).glob("full-1.*"))

        imports = [_run(CLI, "models", "import", bundle, "--name", f"full-{i}") for i in range(runs)]
        _line(f"import {size_bytes / 1e6:.0f} MB", imports)

        listings = [_run(LISTING) for _ in range(runs)]
        _line(f"models list, torch imported: {listings[0][2].strip()}", listings)

        openings = [_run(OPENING) for _ in range(runs)]
        beyond = [(float(text), peak_bytes, text) for _, peak_bytes, text in openings]
        _line("open the embedded model, beyond import torch", beyond)


def _run(program: str, *arguments: str) -> tuple[float, int, str]:
    """Seconds, peak of resident memory in bytes, and standard error of a Python program."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(text)
    return time.perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), text


def _line(what: str, runs: list[tuple[float, int, str]]) -> None:
    best, median = min(run[0] for run in runs), statistics.median(run[0] for run in runs)
    peak_bytes = max(run[1] for run in runs)
    print(f"{what:<46} {best:5.2f} s ({median:.2f}) {peak_bytes / 1e6:5.0f} MB", flush=True)


if __name__ == "__main__":
    main()
