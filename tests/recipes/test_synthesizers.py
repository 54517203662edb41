"""The rendering of synthesizers, for training."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
synthesizers = SimpleNamespace(**runpy.run_path(str(ROOT / "recipes" / "synthesizers.py")))


def patch(**sounds):
    made = synthesizers.Patch(np.random.default_rng(0), sustained=True)
    vars(made).update(
        {"wave": "saw", "detune_cents": 0.0, "vibrato_cents": 0.0, "sweep": 0.0, "cutoff_hz": 4000} | sounds
    )
    return made


@pytest.mark.parametrize("key", [57, 69])
def test_a_note_has_harmonics_of_its_pitch_and_nothing_else(key):
    frames = 44_100
    note = patch().play(np.full(frames, key, np.float32), frames)
    spectrum = np.abs(np.fft.rfft(note * np.hanning(frames)))  # a bin a Hz
    hz = 440 * 2 ** ((key - 69) / 12)
    assert np.argmax(spectrum) == pytest.approx(hz, abs=1)
    far = np.abs(np.arange(len(spectrum)) / hz - np.round(np.arange(len(spectrum)) / hz)) * hz > 20
    assert (spectrum[far] ** 2).sum() < 1e-3 * (spectrum**2).sum()


def test_the_filter_takes_what_lies_above_it():
    frames, key = 44_100, np.full(44_100, 57, np.float32)
    dark, bright = (np.abs(np.fft.rfft(patch(cutoff_hz=hz).play(key, frames))) ** 2 for hz in (600, 6000))
    assert dark[2000:].sum() / dark.sum() < 0.05 * bright[2000:].sum() / bright.sum()


def test_a_swarm_sounds_around_the_notes_of_its_chords():
    rng = np.random.default_rng(4)
    piece = synthesizers.Piece(rng, 3.0)
    bar = synthesizers.swarm(rng, piece)[: int(4 * piece.beat_seconds * 44_100)]
    spectrum = np.abs(np.fft.rfft(bar * np.hanning(len(bar))))
    hz = np.fft.rfftfreq(len(bar), 1 / 44_100)
    near = np.zeros(len(hz), bool)
    for key in piece.chord(0):
        for harmonic in range(1, 41):
            for octave in (0, 12):
                away = 12 * np.log2(np.maximum(hz, 1) / (harmonic * 440 * 2 ** ((key + octave - 69) / 12)))
                near |= np.abs(away) < 0.7
    strongest = spectrum**2 > 1e-3 * (spectrum**2).max()
    assert (spectrum[near] ** 2).sum() > 0.9 * (spectrum**2).sum()
    assert strongest.sum() > 20  # not one tone a note
    assert near[hz < 600].mean() < 0.7  # by chance it would be so much


def test_a_piece_has_the_kinds_of_parts_that_are_asked_for(monkeypatch):
    heard = []
    parts = synthesizers.render.__globals__["PARTS"]
    for name in parts:
        monkeypatch.setitem(parts, name, lambda rng, piece, name=name: heard.append(name) or np.ones(99, np.float32))
    synthesizers.render(np.random.default_rng(0), 1.0, ("lead", "swarm"))
    assert sorted(heard) == ["lead", "swarm"]


def test_a_file_depends_on_seed_and_number_only(tmp_path, recipe):
    def files(name, count):
        recipe("synthesizers", tmp_path / name, "--count", count, "--seconds", 3)
        return [soundfile.read(path)[0] for path in sorted((tmp_path / name).iterdir())]

    two, again = files("a", 2), files("b", 1)
    assert np.array_equal(two[0], again[0])
    assert not np.array_equal(*two)
    for audio in two:
        assert audio.shape == (3 * 44_100, 2)
        assert np.abs(audio).max() == pytest.approx(synthesizers.PEAK, abs=1e-3)
        assert np.sqrt((audio**2).mean()) > 0.02
