"""Make new pieces of the stems of few songs, so that a network learns their sounds and not the songs by heart.

    python recipes/remake.py data/remade SONGS --stems drums other other bass --count 80
    python recipes/remake.py data/remade-vocals SONGS --stems vocals --count 60

SONGS is a folder of <song>/<stem>.wav (or .flac, .ogg). A piece has a part for each of --stems, of any song: a passage
at another pitch and speed, backwards, in layers, cut into slices that are played in a new order or over and over, or
swept by a filter. Each file, remade_0000.flac and on, is drawn from --seed, its number and the other arguments alone.
"""

from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from sampler import FADE_FRAMES, faded
from synthesizers import PEAK, RATE_HZ, Audio, options_of, write_files

from waveunet_cli.datasets.tracks import stem_files

HEARD = 3e-3  # of a passage, root mean square
TRIES = 12
INTERVALS = (-12, -7, -5, 3, 4, 5, 7, 12)  # semitones between layers
SWEEP_FFT_FRAMES = 2048


def passage(rng: np.random.Generator, paths: list[Path], frames: int, semitones: float) -> Audio:
    """A random passage of one of the files, (frames, 2), played faster or slower for its pitch to change."""
    step = 2 ** (semitones / 12)
    needed = int(frames * step) + 2
    y = np.zeros((needed, 2), np.float32)
    for _ in range(TRIES):
        path = paths[rng.integers(len(paths))]
        start = int(rng.integers(max(1, soundfile.info(path).frames - needed)))
        x = soundfile.read(path, needed, start, dtype="float32", always_2d=True)[0]
        y[: len(x)] = x
        y[len(x) :] = 0
        if np.sqrt((x**2).mean()) > HEARD:
            break
    at = np.arange(frames) * step
    return np.stack([np.interp(at, np.arange(needed), channel) for channel in y.T], 1).astype(np.float32)


def sliced(rng: np.random.Generator, x: Audio, drums: bool) -> Audio:
    """Slices of x in another order: a loop of a few that changes now and then, some left out or backwards."""
    length = min(len(x), int(RATE_HZ * np.exp(rng.uniform(np.log(0.12), np.log(0.8 if drums else 2.0)))))
    many = len(x) // length  # what is left at the end stays silent
    y = np.zeros_like(x)
    loop, rests, turns = int(rng.choice([2, 4, 8, 8, 16])), rng.choice([0.0, 0.0, 0.2]), rng.choice([0.0, 0.15])
    order = rng.integers(many, size=loop)
    for i in range(many):
        if i % (4 * loop) == 0:  # a new loop, or one near the old
            fresh = rng.random(loop) < rng.choice([0.3, 1.0])
            order = np.where(fresh, rng.integers(many, size=loop), order)
        if rng.random() >= rests:
            start = int(order[i % loop]) * length
            piece = x[start : start + length + FADE_FRAMES]
            piece = piece[::-1] if rng.random() < turns else piece
            piece = np.stack([faded(channel, len(piece)) for channel in piece.T], 1)
            y[i * length : i * length + len(piece)] += piece[: len(y) - i * length]
    return y


def swept(rng: np.random.Generator, x: Audio) -> Audio:
    """x through a filter, low pass or high pass, that opens and closes slowly."""
    window = torch.hann_window(SWEEP_FFT_FRAMES)
    spectra = torch.stft(torch.from_numpy(x.T.copy()), SWEEP_FFT_FRAMES, window=window, return_complex=True)
    t = np.arange(spectra.shape[-1]) * SWEEP_FFT_FRAMES / 4 / RATE_HZ
    octaves = rng.uniform(0.5, 3) * np.sin(2 * np.pi * (t / rng.uniform(2, 30) + rng.random()))
    cutoff_hz = np.exp(rng.uniform(np.log(300), np.log(5000))) * 2**octaves
    hz = np.linspace(1, RATE_HZ / 2, spectra.shape[1])[:, None]
    ratio = hz / cutoff_hz if rng.random() < 0.7 else cutoff_hz / hz / 8
    gain = torch.from_numpy(1 / np.sqrt(1 + ratio**4)).float()
    y: Audio = torch.istft(spectra * gain, SWEEP_FFT_FRAMES, window=window, length=len(x)).T.numpy()
    return y


def part(rng: np.random.Generator, paths: list[Path], stem: str, frames: int) -> Audio:
    """A new part (frames, 2) of the files of a stem."""
    drums = stem == "drums"
    semitones = rng.uniform(-3, 3) if drums else rng.uniform(-7, 7) if stem == "vocals" else rng.uniform(-12, 9)
    x = passage(rng, paths, frames, semitones)
    kind = rng.choice(["plain", "sliced", "sliced", "backwards", "layers", "layers"])
    if kind == "sliced" or drums:
        x = sliced(rng, x, drums)
    elif kind == "backwards":
        x = x[::-1].copy()
    elif kind == "layers":  # other passages, an interval away or at nearly the same pitch
        for _ in range(rng.integers(1, 3)):
            interval = rng.choice(INTERVALS) if rng.random() < 0.7 else rng.normal(0, 0.15)
            x = x + passage(rng, paths, frames, semitones + interval) * rng.uniform(0.3, 1)
    if rng.random() < 0.3:
        x = swept(rng, x)
    strength = max(HEARD, float(np.sqrt((x**2).mean())))
    return np.asarray(x / strength * 10 ** (rng.normal(0, 4) / 20), dtype=np.float32)


def render(rng: np.random.Generator, files: dict[str, list[Path]], stems: list[str], seconds: float) -> Audio:
    """One piece, (frames, 2); each part but the first may be missing."""
    frames = int(seconds * RATE_HZ)
    stems = list(rng.permutation(np.array(stems, dtype=object)))
    y = sum(part(rng, files[stem], stem, frames) for i, stem in enumerate(stems) if i == 0 or rng.random() < 0.75)
    return np.asarray(y * (PEAK / max(1e-9, np.abs(y).max())), dtype=np.float32)


def main() -> None:
    parser = options_of(__doc__, count=80)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--stems", nargs="+", required=True)
    options = parser.parse_args()
    songs = [stem_files(folder) for folder in sorted(options.songs.glob("*")) if folder.is_dir()]
    files = {stem: [song[stem] for song in songs if stem in song] for stem in options.stems}
    missing = [stem for stem, paths in files.items() if not paths]
    if missing:
        parser.error(f"{options.songs}: no song has the stem {missing[0]}")
    for path in sorted({path for paths in files.values() for path in paths}):
        info = soundfile.info(path)
        if info.samplerate != RATE_HZ or info.channels > 2 or not info.frames:
            parser.error(f"{path}: convert it to {RATE_HZ} Hz and one or two channels, and let it be no empty file")
    write_files(options, "remade", partial(render, files=files, stems=options.stems, seconds=options.seconds))


if __name__ == "__main__":
    main()
