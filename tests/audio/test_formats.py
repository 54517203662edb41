"""Every file people have, decoded whole, in the right channel order, at the right time; docs/formats.md says the same.

PYTHONPATH=src:tests python tests/audio/test_formats.py     writes docs/formats.md from what is measured
"""

import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

import format_oddities  # noqa: F401 - adds its sections
from audio_files import has, music, speakers
from format_cases import SECTIONS, Case
from waveunet_cli.audio import AudioReader, layout
from waveunet_cli.audio.sndfile import SndfileSource
from waveunet_cli.errors import AudioReadError

CASES = [(title, case) for title, cases in SECTIONS.items() for case in cases]
DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
HEAD = "| file | made by | decoded by | frames | channels | time | tags |\n|---|---|---|---|---|---|---|\n"
TEXT = """# Files that were tried

Every row is a test, and this page is written by the tests (`PYTHONPATH=src:tests python tests/audio/test_formats.py`).
What comes out has as many frames as the best decoder of the format gives, in the order of channels of WAVE, from the
same instant; otherwise there is a one-line error.

Who decodes is decided by the content. **libsndfile** takes PCM in any container, FLAC, and Vorbis in Ogg: it counts
these to the frame (FFmpeg's count is wrong for Vorbis of a single page and at the seams of chained Vorbis) and finds
damage by FLAC's check sums. **FFmpeg** (its libraries, through PyAV) takes everything else, and whatever libsndfile
fails to open: it counts MP3 without an Info tag, which libsndfile guesses, and always decodes Opus at 48 kHz. Where
the two differ, the format's own numbers decide.

- *frames*: of the source that was encoded, and what comes out beyond it, which the format does not tell from music.
- *channels*: in the order in which they come out; each was found by its own sound.
- *time*: `=` to the bit as the source; else by how many frames later than in the source the sound comes, which no
  number in the file tells (the delay of an encoder). A minus sign: its start is not in the file.
- *tags*: what stood in the file when it was tried.
"""


def read(path, block_frames=4099):
    with AudioReader(path) as reader:
        decoder = "libsndfile" if isinstance(reader._links._source, SndfileSource) else "ffmpeg"
        blocks = [np.empty((0, reader.info.channels), np.float32), *reader.blocks(block_frames)]
        return np.concatenate(blocks), reader.info, decoder


def by_ffmpeg(path):
    """What FFmpeg alone makes of a file, packets that it cannot decode left out: a reference."""
    packer = av.AudioResampler("flt")
    blocks = []
    with av.open(str(path), metadata_errors="replace") as file:
        for packet in file.demux(audio=0):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            blocks += [part.to_ndarray() for frame in frames for part in packer.resample(frame)]
        channels = file.streams.audio[0].codec_context.channels
    return np.concatenate(blocks, axis=1).reshape(-1, channels)


def match(found, source):
    """For each channel of the source the channel that is most like it, and by how many frames that is later."""
    size = 1 << (len(found) + len(source)).bit_length()
    spectra = [np.fft.rfft(x, size, axis=0) for x in (found, source)]
    norms = np.sqrt((found**2).sum(0)[:, None] * (source**2).sum(0)) + 1e-9
    likeness = np.empty((found.shape[1], source.shape[1]))
    lags = np.empty(likeness.shape, int)
    for i in range(found.shape[1]):
        for j in range(source.shape[1]):
            correlation = np.fft.irfft(spectra[0][:, i] * spectra[1][:, j].conj(), size)
            lags[i, j] = int(np.argmax(correlation))
            likeness[i, j] = correlation[lags[i, j]] / norms[i, j]
    lag = lags[0, 0] if lags[0, 0] < size // 2 else lags[0, 0] - size
    return likeness.argmax(axis=0).tolist(), lag


def row(case: Case, folder: Path) -> str:
    """The line of the table, after everything was checked."""
    source = music(case.frames, case.channels, case.rate)
    path = case.make(folder, source)
    if case.error:
        with pytest.raises(AudioReadError) as caught:
            read(path)
        message = str(caught.value)
        assert case.error in message
        assert "\n" not in message
        reason = message.removeprefix(f"{path}: ").replace("|", "")
        return f"| {case.name} | {case.by} | | *{reason}* | | | |\n"

    found, info, decoder = read(path)
    np.testing.assert_array_equal(found, read(path, 65_536)[0])
    assert decoder == case.decoder
    assert info.sample_rate_hz == case.rate
    assert info.channels == found.shape[1] == case.channels
    whole = np.tile(source, (case.repeats, 1))
    if info.frames is not None and case.repeats == 1:
        assert info.frames == len(found)
    if case.judge == "source":
        assert len(found) == len(whole)
    elif case.judge == "ffmpeg":
        reference = by_ffmpeg(path)
        assert found.shape == reference.shape
        np.testing.assert_allclose(found, reference, atol=1e-5)
    elif case.judge == "libsndfile":
        assert len(found) == soundfile.info(path).frames >= len(whole)
    else:
        assert len(found) == case.judge
    names = speakers(case.layout)
    if case.exact:
        np.testing.assert_array_equal(found, whole)
        time = "="
    else:
        order, lag = match(found[: len(source) + max(0, case.late) + 9000], source)
        assert order == list(range(case.channels))
        assert abs(lag - case.late) <= case.within, lag
        time = f"{lag:+d}".replace("-", "−") if lag else "0"
        if case.repeats > 1:
            assert match(found[-len(source) :], source)[1] in range(-case.within, case.within + 1)
    if info.channel_mask:
        assert layout.same_speakers(info.channel_mask, layout.mask_of(names))
    beyond = len(found) - len(whole)
    frames = str(len(source)) + (f" × {case.repeats}" if case.repeats > 1 else "")
    frames += f" {'+' if beyond > 0 else '−'} {abs(beyond)}" if beyond else ""
    return f"| {case.name} | {case.by} | {decoder} | {frames} | {' '.join(names)} | {time} | {case.tags} |\n"


def cases():
    for title, case in CASES:
        marks = [pytest.mark.slow] if case.slow else []
        if case.needs:
            marks.append(pytest.mark.skipif(not has(case.needs), reason=f"{case.needs} is not installed"))
        yield pytest.param(case, marks=marks, id=f"{title}: {case.name}, {case.layout}, {case.by}")


@pytest.mark.parametrize("case", list(cases()))
def test_a_file_is_decoded_as_docs_say(case, tmp_path):
    assert row(case, tmp_path) in DOCS.read_text(encoding="utf-8"), "run: python tests/audio/test_formats.py"


def test_there_are_enough():
    assert len(CASES) >= 150
    assert DOCS.read_text(encoding="utf-8").count("\n|") - 2 * len(SECTIONS) == len(CASES)


def main():
    missing = sorted({case.needs for _, case in CASES if case.needs and not has(case.needs)})
    assert not missing, f"install {missing}"
    lines = [TEXT]
    for title, cases in SECTIONS.items():
        lines.append(f"\n## {title}\n\n{HEAD}")
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                lines.append(row(case, Path(folder)))
    DOCS.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
