"""Songs of hours: flat memory, exact ends, and files beyond what WAV can count."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from small_models import TINY, model_of
from waveunet_cli.audio import OutputFormat, StemWriter
from waveunet_cli.separator import Separator

RATE = 1000


def resident_bytes():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run_through(seconds, block_frames=60_000):
    """Separate a song that is made as it is read and thrown away as it comes out; the growth in bytes after a tenth."""
    separator = Separator(model_of(replace(TINY, sample_rate=RATE, output="difference")), device="cpu")
    frames = seconds * RATE + 1
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((block_frames, 1)).astype(np.float32) * 0.1
    starts = range(0, frames, block_frames)
    blocks = (noise[: frames - start] for start in starts)
    done, early_bytes = 0, None
    for stems in separator.stream(blocks, RATE):
        done += len(stems["vocals"])
        if early_bytes is None and done > frames / 10:
            early_bytes = resident_bytes()
    assert done == frames
    return resident_bytes() - early_bytes


def test_an_hour_in_flat_memory():
    assert run_through(3600) < 24 << 20  # held, the song alone would be 14 MB and its stems 29 MB


@pytest.mark.slow
def test_ten_hours_in_flat_memory():
    assert run_through(36_000) < 24 << 20  # 144 and 288 MB


@pytest.mark.slow
@pytest.mark.parametrize("is_announced", [True, False])
def test_beyond_four_gigabytes(tmp_path, is_announced):
    frames, block = (1 << 28) + 100_000, np.full((1 << 20, 4), 0.25, np.float32)
    output = OutputFormat("wav", "FLOAT")
    path = tmp_path / "vocals.wav"
    with StemWriter({"vocals": path}, 44_100, 4, output, expected_frames=frames if is_announced else None) as writer:
        for start in range(0, frames, len(block)):
            writer.write({"vocals": block[: frames - start]})
        assert writer.commit().frames == frames
    with soundfile.SoundFile(path) as sound:
        assert sound.frames == frames > 0
        assert path.stat().st_size > 1 << 32
        sound.seek(frames - 10)
        np.testing.assert_array_equal(sound.read(20, dtype="float32"), block[:10])
