"""How long it takes to open songs and to list folders, and what share of a separation reading is.

    python benchmarks/reading.py [--minutes 10] [--rounds 15] [--files 10000] [--name vocals] [--precision auto]

Opening is everything before the first block, checks included: the median of the rounds, warm, by the clock and in time
of the processor, which other programs disturb less. Reading is opening, decoding and hashing a song; its share of a
separation is one of processor time. Listing is what `waveunet separate FOLDER` does before it loads a model, for a
folder with 100 subfolders.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import av
import numpy as np
import soundfile as sf
import torch

from waveunet_cli import Separator
from waveunet_cli.audio import AudioReader, read_blocks
from waveunet_cli.library.find import find_songs
from waveunet_cli.library.storage import located

RATE_HZ = 44_100
PIECE_SECONDS = 10
FOLDERS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--name", default="vocals")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    piece = _piece()  # (frames, 2)
    separating = _processor_share(options.name, options.precision, piece)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("song.flac", "song.mp3", "song.ogg", "song.m4a"):
            path = Path(folder, name)
            _write(path, piece, max(1, round(options.minutes * 60 / PIECE_SECONDS)))
            opening = [_opening(path) for _ in range(options.rounds + 1)][1:]
            clock, processor = (median(times) * 1000 for times in zip(*opening, strict=True))
            reading = _reading_share(path) / separating
            times = f"{clock:6.1f} ms, {processor:5.1f} ms of the processor"
            print(f"open {path.suffix:<5} {times}; reading {reading:6.2%} of a separation")
        music = Path(folder, "music")
        for index in range(options.files):
            song = music / f"{index % FOLDERS:02}" / f"{index:05}.flac"
            song.parent.mkdir(parents=True, exist_ok=True)
            song.touch()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            found = find_songs([located(music)], located(Path(folder, "stems")))
            times.append(time.perf_counter() - start)
        print(f"list {len(found.songs)} songs {median(times):6.2f} s")


def _piece() -> np.ndarray:
    """Ten seconds of notes with overtones over a little noise, (frames, 2)."""
    rng = np.random.default_rng(0)
    t = np.arange(PIECE_SECONDS * RATE_HZ) / RATE_HZ
    notes = rng.uniform(80, 900, 40)
    x = sum(np.sin(2 * np.pi * k * notes[(4 * t).astype(int)] * t) / k for k in range(1, 9)) * np.exp(-6 * (t % 0.25))
    return (0.1 * x[:, None] + 0.01 * rng.standard_normal((len(t), 2))).astype(np.float32)


def _write(path: Path, piece: np.ndarray, times: int) -> None:
    if path.suffix == ".m4a":
        with av.open(str(path), "w") as file:
            stream = file.add_stream("aac", rate=RATE_HZ, layout="stereo")
            fifo = av.AudioFifo()
            for _ in range(times):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece.T), "fltp", "stereo")
                frame.sample_rate = RATE_HZ
                fifo.write(frame)
                while part := fifo.read(1024):
                    file.mux(stream.encode(part))
            file.mux([*stream.encode(fifo.read(1024, partial=True)), *stream.encode(None)])
        return
    with sf.SoundFile(path, "w", RATE_HZ, 2) as file:
        for _ in range(times):
            for start in range(0, len(piece), RATE_HZ):  # libvorbis takes only so much at once
                file.write(piece[start : start + RATE_HZ])


def _opening(path: Path) -> tuple[float, float]:
    """Seconds by the clock, and of processor time."""
    start, processor_start = time.perf_counter(), time.process_time()
    with AudioReader(path):
        return time.perf_counter() - start, time.process_time() - processor_start


def _reading_share(path: Path) -> float:
    """Seconds of processor time for a second of music."""
    start = time.process_time()
    frames = sum(len(block) for block in read_blocks(path))
    located(path).sha256()
    return (time.process_time() - start) / (frames / RATE_HZ)


def _processor_share(name: str, precision: str, piece: np.ndarray) -> float:
    """Seconds of processor time that separating a second of music takes."""
    torch.set_num_threads(1)  # several wait for each other busily
    separator = Separator(name, "cpu", precision)
    separator.separate(piece, RATE_HZ)  # touches memory and chooses kernels
    start = time.process_time()
    separator.separate(np.tile(piece, (3, 1)), RATE_HZ)
    return (time.process_time() - start) / (3 * PIECE_SECONDS)


if __name__ == "__main__":
    main()
