#!/usr/bin/env bash
# torch computes half as fast in a second thread. If one thread of a program has multiplied a single pair of matrices, and
# another thread then runs a network on the CPU, every layer of the network waits: torch's pip wheel for Linux brings GNU
# OpenMP, which gives each thread that computes a team of its own and keeps the idle team. Once the teams together have
# more threads than there are processors, a thread that waits for its team sleeps at once instead of looking out for it a
# while. If torch has a thread for each processor, as it does by default on a machine without hyperthreads, the second
# team is enough. Small layers then take about twice as long, though the first thread does nothing. OMP_WAIT_POLICY=active
# and GOMP_SPINCOUNT do not change it. So a program that loads a model in its main thread and separates in a worker pays
# for it in every song; let one thread do both. Sleeps are what is counted here (voluntary context switches), for times
# depend on the machine.
# Exits with 0 if that is still so, with 1 if it has changed. Needs Linux, two processors, python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" torch==2.13.0
cat >"$folder/layers.py" <<'PYTHON'
import os
import resource
import sys
import threading
import time

import torch

torch.set_num_threads(len(os.sched_getaffinity(0)))


def layers(found):
    """Seconds that 1500 layers take, and how often a thread fell asleep meanwhile."""
    x, kernel = torch.randn(1, 64, 1, 512), torch.randn(64, 64, 1, 5)
    for turn in range(1550):
        if turn == 50:
            start, sleeps = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        torch.nn.functional.leaky_relu_(torch.conv2d(x, kernel))
    found += [time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - sleeps]


if sys.argv[1] == "after":
    torch.mm(torch.randn(1000, 1000), torch.randn(1000, 1000))
found = []
worker = threading.Thread(target=layers, args=(found,))
worker.start()
worker.join()
print(*found)
PYTHON
PYTHONPATH="$folder/packages" python3 -W ignore - "$folder/layers.py" <<'PYTHON'
import os
import subprocess
import sys
from statistics import median

import torch

print("torch", torch.__version__, "on", len(os.sched_getaffinity(0)), "processors")
found = {"alone": [], "after": []}
for _ in range(5):
    for case, runs in found.items():
        printed = subprocess.run([sys.executable, sys.argv[1], case], capture_output=True, text=True, check=True).stdout
        runs.append([float(word) for word in printed.split()])
for case, runs in found.items():
    seconds, sleeps = (median(column) for column in zip(*runs))
    about = "no other thread has computed" if case == "alone" else "the main thread has multiplied two matrices"
    print(f"1500 layers in a worker thread, {about}: {seconds:.2f} s, {sleeps:.0f} sleeps")
alone, after = (median(sleeps for _, sleeps in runs) for runs in found.values())
is_as_before = alone < 300 and after > 1500
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
