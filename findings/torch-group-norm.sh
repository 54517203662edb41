#!/usr/bin/env bash
# torch normalises wrongly where the channels come last in memory. On a CPU, GroupNorm of a tensor in channels_last takes the
# variance as the mean square less the square of the mean, and sums both in float32. Where a group's mean is large against
# its deviation, or the tensor long, little is left of that: of 512 bins and 4000 frames, a group whose mean is 30 deviations
# comes out with an error of -36 dB, one of 100 at a twentieth of its level, one of 1000 three hundred times too loud. One
# would expect the same result in every order of memory, with errors below -80 dB, as instance_norm gives it. Matters to all
# who make a network faster by channels_last, most of all with spectra in decibels, whose mean is far from zero. Better:
# x.contiguous() before each GroupNorm, or float64. The documentation does not tell; issue 54293 of pytorch/pytorch tells
# of the like in contiguous tensors, where it is mended.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" torch==2.13.0
PYTHONPATH="$folder/packages" python3 -W ignore - <<'PYTHON'
import sys

import torch
import torch.nn.functional as F

print("torch", torch.__version__)
torch.manual_seed(0)
torch.set_num_threads(1)  # the sums, and so their errors, depend on it
is_as_before = True
for frames in (1000, 4000):
    for ratio, least_error in ((1, -130), (10, -75), (30, -50), (100, -30), (1000, -30)):
        contiguous = ratio + torch.randn(1, 4, 512, frames)  # (batch, channels, bins, frames)
        last = contiguous.contiguous(memory_format=torch.channels_last)
        true = F.group_norm(contiguous.double(), 4)
        right, wrong, instance = (F.group_norm(contiguous, 4), F.group_norm(last, 4), F.instance_norm(last))
        errors = [float(10 * torch.log10((result - true).square().mean())) for result in (right, wrong, instance)]
        print(f"{frames} frames, mean of {ratio} deviations:", end=" ")
        print("group_norm contiguous {:.0f} dB, channels_last {:.0f} dB".format(*errors[:2]), end=" ")
        print(f"(deviation {float(wrong.std()):.2f}); instance_norm channels_last {errors[2]:.0f} dB")
        is_as_before &= max(errors[0], errors[2]) < -80 and errors[1] > least_error
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
