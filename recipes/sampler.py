"""Play voices as a sampler does: chopped into patterns, frozen into chords, or as phrases that come back.

    python recipes/sampler.py VOICES data/sampled --count 150 --seconds 45

VOICES is a folder of <singer>.wav (or .ogg, .flac) with <singer>.json beside it, a list of what is sung on one pitch:
[start_frame, frames, f0_hz]. Each file, sampled_0000.flac and on, is drawn from --seed and its number alone.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
from synthesizers import PEAK, RATE_HZ, Audio, Piece, placed

from waveunet_cli.audio import AUDIO_EXTENSIONS

SEMITONES = 9  # a sample is played at most so far from where it was sung
FADE_FRAMES = 400


class Singer:
    """One singer's recording, mono, and what is sung in it."""

    def __init__(self, path: Path) -> None:
        self._audio: Audio = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(1)
        self._cues: list[tuple[int, int, float]] = json.loads(path.with_suffix(".json").read_text())

    def sample(self, rng: np.random.Generator, seconds: float) -> "Sample":
        """A random stretch, shorter if what is sung is."""
        start, length, f0_hz = self._cues[rng.integers(len(self._cues))]
        frames = min(length, int(seconds * RATE_HZ))
        at = start + int(rng.integers(length - frames + 1))
        return Sample(self._audio[at : at + frames], f0_hz)


class Sample:
    """A piece of a voice, (frames,), sung at `f0_hz`."""

    def __init__(self, audio: Audio, f0_hz: float) -> None:
        self.audio, self.f0_hz = audio, f0_hz

    def at(self, key: float) -> Audio:
        """Played faster or slower for its pitch to be MIDI key `key`, or octaves from it if that is too far."""
        semitones = key - (69 + 12 * np.log2(self.f0_hz / 440))
        while abs(semitones) > SEMITONES:
            semitones -= 12 * np.sign(semitones)
        step = 2 ** (semitones / 12)
        positions = np.arange(0, len(self.audio) - 1, step)
        return np.interp(positions, np.arange(len(self.audio)), self.audio).astype(np.float32)


def faded(x: Audio, frames: int) -> Audio:
    """The first `frames` of x, or all, without clicks at the ends."""
    y = x[:frames].copy()
    fade = np.linspace(0, 1, min(FADE_FRAMES, len(y) // 2), dtype=np.float32)
    y[: len(fade)] *= fade
    y[len(y) - len(fade) :] *= fade[::-1]
    return y


def frozen(x: Audio, frames: int) -> Audio:
    """x over and over for `frames`, each turn fading into the next."""
    turn = len(x) * 2 // 3
    fade = np.linspace(0, 1, len(x) - turn, dtype=np.float32)
    one = x.copy()
    one[: len(fade)] *= np.sqrt(fade)
    one[turn:] *= np.sqrt(1 - fade)
    y = np.zeros(frames + len(x), np.float32)
    for at in range(0, frames, turn):
        y[at : at + len(x)] += one
    return y[:frames]


def render(rng: np.random.Generator, singers: list[Singer], seconds: float) -> Audio:
    """One piece, (frames, 2): one or two parts of one singer each, which rest in some bars."""
    piece = Piece(rng, seconds)
    frames = int(seconds * RATE_HZ)
    bar = int(4 * piece.beat_seconds * RATE_HZ)
    y = np.zeros((frames, 2), np.float32)
    for _ in range(rng.integers(1, 3)):
        part = (_chops, _frozen_chords, _phrases)[rng.integers(3)](rng, piece, singers[rng.integers(len(singers))])
        sounding = np.repeat(np.resize(rng.random(8) < rng.choice([0.6, 0.8, 1.0]), piece.bars + 1), bar)
        part = part[:frames] * np.convolve(sounding, np.ones(FADE_FRAMES) / FADE_FRAMES, "same")[:frames]
        y += placed(rng, part.astype(np.float32), frames) * 10 ** (rng.normal(0, 3) / 20)
    return np.asarray(y * (PEAK / max(1e-9, np.abs(y).max())), dtype=np.float32)


def _room(piece: Piece) -> Audio:
    return np.zeros(int((piece.bars + 3) * 4 * piece.beat_seconds * RATE_HZ), np.float32)


def _add(y: Audio, start: float, x: Audio) -> None:
    y[int(start) : int(start) + len(x)] += x[: max(0, len(y) - int(start))]


def _chops(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """Short samples in a pattern that comes back each bar, each on its note of the chord or all on one."""
    samples = [singer.sample(rng, rng.uniform(0.08, 0.7)) for _ in range(rng.integers(1, 5))]
    step = piece.beat_seconds * RATE_HZ / rng.choice([1, 2, 2, 3, 4])
    steps = round(4 * piece.beat_seconds * RATE_HZ / step)
    which = rng.integers(len(samples), size=steps)
    notes = rng.integers(4, size=steps) if rng.random() < 0.6 else np.zeros(steps, int)
    plays = rng.random(steps) < rng.choice([0.4, 0.7, 1.0])
    follows, held = rng.random() < 0.7, rng.choice([0.5, 0.95, 2.0])
    y = _room(piece)
    for i in range(piece.bars * steps):
        n = i % steps
        if plays[n]:
            key = piece.chord(i // steps if follows else 0)[notes[n]] + 12
            _add(y, i * step, faded(samples[which[n]].at(key), int(held * step)))
    return y


def _frozen_chords(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """A moment of the voice held for bars, on one or more notes of the chord."""
    sample, voices = singer.sample(rng, rng.uniform(0.06, 0.6)), int(rng.integers(1, 4))
    held = int(rng.choice([2, 4, 8]) * piece.beat_seconds * RATE_HZ)
    rise = np.minimum(1, np.arange(held) / (rng.uniform(0.01, 0.8) * RATE_HZ)).astype(np.float32)
    y = _room(piece)
    for i, start in enumerate(range(0, int(piece.bars * 4 * piece.beat_seconds * RATE_HZ), held)):
        for key in piece.chord(i)[:voices]:
            _add(y, start, faded(frozen(sample.at(key + 12), held) * rise, held))
    return y


def _phrases(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """A phrase that comes back every bar or two, each time on the chord's note, and may end in repetitions."""
    sample, every = singer.sample(rng, rng.uniform(0.8, 5.0)), int(rng.choice([1, 2, 2, 4]))
    bar, note = 4 * piece.beat_seconds * RATE_HZ, int(rng.integers(4))
    short, times = int(piece.beat_seconds * RATE_HZ / rng.choice([2, 4])), int(rng.integers(0, 9))
    y = _room(piece)
    for i in range(0, piece.bars, every):
        phrase = sample.at(piece.chord(i)[note] + 12)
        _add(y, i * bar, faded(phrase, int(every * bar)))
        for turn in range(times if len(phrase) > short else 0):
            _add(y, i * bar + min(len(phrase), every * bar) + turn * short, faded(phrase[-short:], short))
    return y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    singers = [
        Singer(path)
        for path in sorted(options.voices.iterdir())
        if path.suffix in AUDIO_EXTENSIONS and path.with_suffix(".json").exists()
    ]
    if not singers:
        parser.error(f"{options.voices}: no <singer>.wav with a <singer>.json beside it")
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        path = options.out / f"sampled_{number:04d}.flac"
        if not path.exists():
            audio = render(np.random.default_rng((options.seed, number)), singers, options.seconds)
            soundfile.write(path, audio, RATE_HZ, subtype="PCM_16")
            print(path, flush=True)


if __name__ == "__main__":
    main()
