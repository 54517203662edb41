"""What bfloat16 costs in quality: SDR of the vocals in float32 and in bfloat16, on songs given as folders of stems.

    python benchmarks/precision.py FOLDER... [--name vocals] [--stem vocals]

A folder holds aligned stems; the mixture is their sum. Where the processor has no bfloat16 of its own, it is emulated:
weights, what layers read and what they give are rounded to bfloat16 and products are summed in float32, as the
processors that have it do.
"""

import argparse
from math import log10
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from waveunet_cli import Separator
from waveunet_cli.devices import choose_placement
from waveunet_cli.networks.wave_u_net import carried
from waveunet_cli.streaming.engine import FrugalCarried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--name", default="vocals")
    parser.add_argument("--stem", default="vocals")
    options = parser.parse_args()
    native = choose_placement("cpu").dtype == torch.bfloat16
    full = Separator(options.name, "cpu", "float32")
    reduced = Separator(options.name, "cpu", "bfloat16") if native else _emulated(options.name)
    print(f"SDR in dB of {options.stem}, bfloat16 {'native' if native else 'emulated'}")
    for folder in options.folders:
        files = {path.stem: sf.read(path, dtype="float32", always_2d=True) for path in sorted(folder.iterdir())}
        frames = min(len(audio) for audio, _ in files.values())
        rate_hz = files[options.stem][1]
        reference = files[options.stem][0][:frames].astype(np.float64)
        mixture = sum(audio[:frames] for audio, _ in files.values())
        found = []
        for separator in (full, reduced):
            error = separator.separate(mixture, rate_hz)[options.stem] - reference
            found.append(10 * log10((reference**2).sum() / (error**2).sum()))
        print(
            f"{folder.name:16s} float32 {found[0]:.4f}  bfloat16 {found[1]:.4f}  {found[1] - found[0]:+.4f}", flush=True
        )


def _emulated(name: str) -> Separator:
    carried.points_for = lambda *shape: None  # bfloat16 does without tiles
    separator = Separator(name, "cpu", "float32")
    assert isinstance(separator._engine, FrugalCarried)
    network = separator._engine.network
    kernels = [*network._down, *(kernel for up in network._up for kernel in (up.even, up.odd, up.skip))]
    for kernel in kernels:
        kernel.weight = _rounded(kernel.weight)
        if kernel.bias is not None:
            kernel.bias = _rounded(kernel.bias)
    mine = {id(kernel) for kernel in kernels}
    convolve = carried._Kernel.convolve

    def rounding(self: carried._Kernel, rows: Tensor, frames: int, step: int = 1) -> Tensor:
        if id(self) not in mine:
            return convolve(self, rows, frames, step)
        return _rounded(convolve(self, _rounded(rows), frames, step))

    carried._Kernel.convolve = rounding  # type: ignore[method-assign]
    return separator


def _rounded(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).float()


if __name__ == "__main__":
    main()
