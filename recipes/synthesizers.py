"""Render arpeggios, leads, chords and gated pads of synthesizers: accompaniment that a network mistakes for a voice.

    python recipes/synthesizers.py data/synthesizers --count 220 --seconds 45
    python recipes/synthesizers.py data/swarms --count 80 --kinds swarm swarm arpeggio lead

Each file, synth_0000.flac and on, is drawn from --seed and its number alone. A sound is a sum of harmonics below the
Nyquist frequency, as a subtractive synthesizer's filter would leave them; then come gate, echo and reverberation.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from waveunet_cli.files import whole_file
from waveunet_cli.training import augment

RATE_HZ = 44_100
HIGHEST_HZ = 16_000
INAUDIBLE = 3e-3  # strength of a harmonic, the first having 1
MODES = ((0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 9, 10), (0, 1, 3, 5, 7, 8, 10))
PEAK = 0.9
KINDS = ("arpeggio", "arpeggio", "lead", "chords")  # of the parts of a piece

Audio = NDArray[np.float32]


class Patch:
    """One sound of a synthesizer: its spectrum, filter and envelope."""

    def __init__(self, rng: np.random.Generator, sustained: bool) -> None:
        self.wave = rng.choice(["saw", "square", "triangle", "bell"])
        self.detune_cents = rng.choice([0.0, 0.0, 6.0, 14.0])
        self.cutoff_hz = float(np.exp(rng.uniform(np.log(500), np.log(9000))))
        self.sweep = rng.uniform(0.0, 4.0)  # octaves that the filter opens at the start of a note
        self.sweep_seconds = rng.uniform(0.03, 0.4)
        self.attack_seconds = rng.uniform(0.02, 0.4) if sustained else rng.uniform(0.001, 0.02)
        self.decay_seconds = (
            rng.uniform(1.0, 6.0) if sustained else float(np.exp(rng.uniform(np.log(0.05), np.log(0.8))))
        )
        self.vibrato_cents = rng.choice([0.0, 0.0, 15.0, 40.0])
        self.vibrato_hz = rng.uniform(4.0, 7.0)

    def strength(self, harmonic: int) -> float:
        """Of a harmonic, before the filter."""
        if self.wave == "bell":
            return float(np.exp(-0.7 * (harmonic - 1)))
        if self.wave != "saw" and harmonic % 2 == 0:
            return 0.0
        return 1 / harmonic if self.wave != "triangle" else 1 / harmonic**2

    def play(self, semitones: Audio, held_frames: int) -> Audio:
        """A note whose pitch (MIDI key, a value a frame) is given; it is let go after `held_frames`: (frames,)."""
        frames = len(semitones)
        t = np.arange(frames) / RATE_HZ
        bend = self.vibrato_cents / 100 * np.sin(2 * np.pi * self.vibrato_hz * t) * np.minimum(1, t / 0.3)
        y = np.zeros(frames, np.float32)
        cutoff_hz = (self.cutoff_hz * 2 ** (self.sweep * np.exp(-t / self.sweep_seconds))).astype(np.float32)
        for cents in (-self.detune_cents, self.detune_cents) if self.detune_cents else (0.0,):
            hz = (440 * 2 ** ((semitones + bend + cents / 100 - 69) / 12)).astype(np.float32)
            turns = np.cumsum(hz, dtype=np.float64) / RATE_HZ
            for harmonic in range(1, 1 + min(40, int(HIGHEST_HZ / float(hz.max())))):
                strength = self.strength(harmonic)
                if strength / np.hypot(1, (harmonic * hz.min() / cutoff_hz.max()) ** 2) > INAUDIBLE:
                    filtered = strength / np.sqrt(1 + (harmonic * (hz / cutoff_hz)) ** 4)
                    y += filtered * np.sin((2 * np.pi * (harmonic * turns % 1)).astype(np.float32))
        let_go = np.exp(-np.maximum(0, np.arange(frames) - held_frames) / (0.03 * RATE_HZ))
        envelope = np.minimum(1, t / self.attack_seconds) * np.exp(-t / self.decay_seconds) * let_go
        note: Audio = (y * envelope).astype(np.float32)
        return note


class Piece:
    """Four chords, a bar of four beats each, over and over for some seconds."""

    def __init__(self, rng: np.random.Generator, seconds: float) -> None:
        self.beat_seconds = 60 / rng.uniform(80, 150)
        self._key, self._mode = int(rng.integers(45, 57)), MODES[rng.integers(len(MODES))]
        self._degrees = rng.integers(0, 7, 4).tolist()
        self.bars = int(seconds / (4 * self.beat_seconds)) + 1

    def pitch(self, degree: int) -> int:
        """MIDI key of a degree of the scale, 0 being the key note."""
        return self._key + 12 * (degree // 7) + self._mode[degree % 7]

    def chord(self, bar: int) -> list[int]:
        """MIDI keys of a bar's chord, its root again on top."""
        return [self.pitch(self._degrees[bar % 4] + step) for step in (0, 2, 4, 7)]


def render(rng: np.random.Generator, seconds: float, kinds: Sequence[str] = KINDS) -> Audio:
    """One piece, (frames, 2): two or three parts of these kinds over one progression of chords."""
    piece = Piece(rng, seconds)
    parts = [PARTS[kind](rng, piece) for kind in rng.permutation(np.array(kinds, dtype=object))[: rng.integers(2, 4)]]
    frames = int(seconds * RATE_HZ)
    y = sum(placed(rng, part[:frames], frames) * 10 ** (rng.normal(0, 3) / 20) for part in parts)
    return np.asarray(y * (PEAK / np.abs(y).max()), dtype=np.float32)


def arpeggio(rng: np.random.Generator, piece: Piece) -> Audio:
    patch, octave = Patch(rng, sustained=False), 12 * int(rng.integers(0, 3))
    step_frames = int(piece.beat_seconds * RATE_HZ / rng.choice([2, 3, 4]))
    steps = int(4 * piece.beat_seconds * RATE_HZ / step_frames)
    pattern = rng.integers(0, 8, rng.choice([3, 4, 6, 8, 16]))
    rests = rng.random(len(pattern)) < rng.choice([0.0, 0.2, 0.4])
    long_frames = 4 * step_frames

    @cache
    def note(key: int) -> Audio:
        return patch.play(np.full(long_frames, key, np.float32), step_frames)

    y = np.zeros(piece.bars * steps * step_frames + long_frames, np.float32)
    for i in range(piece.bars * steps):
        if not rests[i % len(pattern)]:
            keys = piece.chord(i // steps)
            which = int(pattern[i % len(pattern)])
            at = i * step_frames
            y[at : at + long_frames] += note(keys[which % 4] + octave + 12 * (which // 4))
    return y


def lead(rng: np.random.Generator, piece: Piece) -> Audio:
    patch, glide_seconds = Patch(rng, sustained=True), rng.choice([0.005, 0.05, 0.15])
    y, degree = np.zeros(int((4 * piece.bars + 8) * piece.beat_seconds * RATE_HZ), np.float32), int(rng.integers(7, 15))
    at, last = 0.0, float(piece.pitch(degree))
    while at < 4 * piece.bars:
        beats = float(rng.choice([0.5, 0.5, 1, 1, 2, 4]))
        degree = int(np.clip(degree + rng.integers(-3, 4), 3, 20))
        held = int(beats * piece.beat_seconds * RATE_HZ)
        if rng.random() < 0.8:
            t = np.arange(held + RATE_HZ // 8) / RATE_HZ
            key = piece.pitch(degree)
            start = int(at * piece.beat_seconds * RATE_HZ)
            y[start : start + len(t)] += patch.play(
                (key + (last - key) * np.exp(-t / glide_seconds)).astype(np.float32), held
            )
            last = float(key)
        at += beats
    return y


def chords(rng: np.random.Generator, piece: Piece) -> Audio:
    patch, held = Patch(rng, sustained=True), int(4 * piece.beat_seconds * RATE_HZ)
    octave = 12 * int(rng.integers(0, 2))

    @cache
    def note(key: int) -> Audio:
        return patch.play(np.full(held + held // 4, key + octave, np.float32), held)

    y = np.zeros((piece.bars + 1) * held, np.float32)
    for bar in range(piece.bars):
        for key in piece.chord(bar)[: rng.integers(2, 5)]:
            y[bar * held : bar * held + held + held // 4] += note(key)
    if rng.random() < 0.5:  # a gate in the rhythm of the piece
        step = int(piece.beat_seconds * RATE_HZ / rng.choice([2, 4]))
        open_ = np.repeat(rng.random(16) < 0.6, step).astype(np.float32)
        gate = np.resize(np.convolve(open_, np.ones(200) / 200, "same"), len(y))
        y *= gate.astype(np.float32)
    return y


def swarm(rng: np.random.Generator, piece: Piece) -> Audio:
    """Chords of many voices out of tune, in a band of frequencies, which swell in the rhythm of the piece."""
    held, octave, tuning = int(4 * piece.beat_seconds * RATE_HZ), 12 * int(rng.integers(0, 2)), rng.uniform(8, 60)
    patches = [Patch(rng, sustained=True) for _ in range(rng.integers(4, 8))]
    for patch in patches:
        vars(patch).update(vars(patches[0]) | {"detune_cents": 0.0, "vibrato_hz": patch.vibrato_hz})
    cents = rng.normal(0, tuning / 2, len(patches))

    latest, lasting = RATE_HZ // 100, held + held // 4

    @cache
    def note(key: int) -> Audio:
        late = rng.integers(0, latest, len(patches))  # so that their phases differ
        voices = [
            patch.play(np.full(lasting + latest, key + octave + c / 100, np.float32), held)[n : n + lasting]
            for patch, c, n in zip(patches, cents, late, strict=True)
        ]
        return np.sum(voices, 0)

    y = np.zeros((piece.bars + 1) * held, np.float32)
    size = int(rng.integers(2, 5))
    for bar in range(piece.bars):
        for key in piece.chord(bar)[:size]:
            y[bar * held : bar * held + lasting] += note(key)
    hz = np.fft.rfftfreq(len(y), 1 / RATE_HZ)
    low_hz = np.exp(rng.uniform(np.log(80), np.log(700)))
    y = np.fft.irfft(np.fft.rfft(y) / np.hypot(1, low_hz / np.maximum(hz, 1)) ** 2, len(y)).astype(np.float32)
    beats = np.arange(len(y)) / (piece.beat_seconds * RATE_HZ)
    swell = 1 - rng.uniform(0, 0.9) * (0.5 + 0.5 * np.cos(2 * np.pi * beats * rng.choice([0.5, 1, 2, 4])))
    return np.asarray(y * swell, dtype=np.float32)


PARTS = {"arpeggio": arpeggio, "lead": lead, "chords": chords, "swarm": swarm}


def placed(rng: np.random.Generator, x: Audio, frames: int) -> Audio:
    """A mono part as (frames, 2): its place, and perhaps echo and reverberation."""
    y = torch.zeros(2, augment.fast_length(frames))
    left = rng.uniform(0.3, 0.7)
    power = float(np.sqrt((x**2).mean())) + 1e-9
    y[:, : len(x)] = torch.from_numpy(x / power) * torch.tensor([[left], [1 - left]])
    spectrum = torch.fft.rfft(y)
    if rng.random() < 0.5:
        spectrum = spectrum * augment.echo(rng, 2, y.shape[-1], RATE_HZ)
    if rng.random() < 0.6:
        spectrum = spectrum * augment.reverberation(rng, 2, y.shape[-1], RATE_HZ)
    stereo: Audio = torch.fft.irfft(spectrum, y.shape[-1])[:, :frames].T.numpy()
    return stereo


def options_of(description: str | None, count: int) -> argparse.ArgumentParser:
    """What every script that renders such files is asked; `write_files` takes it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def write_files(options: argparse.Namespace, prefix: str, render: Callable[[np.random.Generator], Audio]) -> None:
    """Render the files that are not there yet, each from a generator of its own."""
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        path = options.out / f"{prefix}_{number:04d}.flac"
        if not path.exists():
            with whole_file(path) as part:
                audio = render(np.random.default_rng((options.seed, number)))
                soundfile.write(part, audio, RATE_HZ, subtype="PCM_16", format="FLAC")
            print(path, flush=True)


def main() -> None:
    parser = options_of(__doc__, count=120)
    parser.add_argument("--kinds", nargs="+", choices=PARTS, default=KINDS, help="of which a piece has two or three")
    options = parser.parse_args()
    write_files(options, "synth", lambda rng: render(rng, options.seconds, options.kinds))


if __name__ == "__main__":
    main()
