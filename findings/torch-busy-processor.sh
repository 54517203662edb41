#!/usr/bin/env bash
# One other busy program makes torch several times slower on a CPU, not twice. One would expect that with half of the
# processors' time a network takes twice as long. But torch's pip wheel for Linux brings GNU OpenMP, whose threads, when
# done with their part of a layer, look out for the others 300 000 times before they sleep. Meanwhile they keep a
# processor busy; so the thread that they all wait for, put aside for the other program, waits for its turn behind those
# who wait for it, at every layer. Whoever measures speed on a machine at rest never sees it, and users of desktop
# machines do. GOMP_SPINCOUNT=10000 in the environment, before torch is loaded, mends most of it, and costs some
# speed at rest. Torch's documentation of CPU threads names OMP_NUM_THREADS and not this. Processor seconds are what is
# compared here: the work is the same, so all that there are more of were spent waiting.
# Exits with 0 if that is still so, with 1 if it has changed. Needs Linux, two processors, python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" torch==2.13.0
cat >"$folder/layers.py" <<'PYTHON'
import os
import time

import torch

torch.set_num_threads(len(os.sched_getaffinity(0)))
x, kernel = torch.randn(1, 64, 1, 2048), torch.randn(64, 64, 1, 5)
for turn in range(250):
    if turn == 50:
        clock, work = time.perf_counter(), time.process_time()
    torch.nn.functional.leaky_relu_(torch.conv2d(x, kernel))
print(time.perf_counter() - clock, time.process_time() - work)
PYTHON
PYTHONPATH="$folder/packages" python3 -W ignore - "$folder/layers.py" <<'PYTHON'
import os
import subprocess
import sys
from statistics import median

import torch

processors = len(os.sched_getaffinity(0))
print("torch", torch.__version__, "on", processors, "processors")


def measured(environment, busy):
    """Seconds and processor seconds of 200 layers beside as many busy programs; the median of three runs."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        runs = []
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, sys.argv[1]], capture_output=True, text=True, check=True, env=os.environ | environment
            )
            runs.append([float(word) for word in done.stdout.split()])
    finally:
        for other in others:
            other.kill()
    return [median(column) for column in zip(*runs)]


found = {}
for name, environment in {"as it is": {}, "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"}}.items():
    for busy in (0, processors):
        found[name, busy] = measured(environment, busy)
        seconds, work = found[name, busy]
        print(f"{name}, beside {busy} busy programs: {seconds:.2f} s, {work:.2f} processor seconds")
alone, beside = (found["as it is", busy][1] for busy in (0, processors))
mended = found["GOMP_SPINCOUNT=10000", processors][1]
is_as_before = beside > 1.5 * alone and beside > 1.5 * mended
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
