"""Pages as files: what is found, what is written, and what bad input gets."""

import base64
import hashlib
import json
import os
import re
import tomllib
from dataclasses import replace
from importlib import resources
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image  # comes with matplotlib

from audio_files import encode_stream
from small_models import TINY, network_of
from waveunet_cli.errors import AudioReadError, AudioWriteError
from waveunet_cli.listen import find_stems, inline_page, write_page
from waveunet_cli.listen.overview import Peaks, Spectrogram
from waveunet_cli.listen.picture import png
from waveunet_cli.listen.stemset import Tracks
from waveunet_cli.networks.checkpoint import save_checkpoint

RATE = 8000
PLAYER = resources.files("waveunet_cli.listen") / "player"


def noise(seed=0, frames=RATE, channels=2, gain=0.2):
    return np.random.default_rng(seed).uniform(-gain, gain, (frames, channels)).astype(np.float32)


def write(path, samples, rate_hz=RATE, subtype="FLOAT"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype)
    return path


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "song" / "vocals.wav", noise(1))
    write(tmp_path / "song" / "rest.wav", noise(2))
    return tmp_path / "song"


@pytest.fixture
def separated(tmp_path, monkeypatch, waveunet):
    """Two songs that were separated, whose stems sum to them; the folder of the stems."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    config = replace(TINY, output="difference")
    save_checkpoint(tmp_path / "tiny.safetensors", config, network_of(config).state_dict())
    for number, name in enumerate(("one", "two")):
        write(tmp_path / "songs" / f"{name}.wav", noise(number))
    assert waveunet("separate", "songs", "-n", "tiny.safetensors", "-q").code == 0
    return tmp_path / "separated"


def chunks(folder):
    """What the scripts of a page hold: of each chunk a list of (samples, sample rate)."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.js"))):
        assert path.name == f"{number:05}.js"
        text = path.read_text(encoding="ascii")
        tracks = json.loads(re.fullmatch(rf"waveunetChunk\({number},(.*)\);\n", text)[1])
        found.append([soundfile.read(BytesIO(base64.b64decode(flac)), dtype="float32") for _, flac in tracks])
        for (gain, _), (samples, _) in zip(tracks, found[-1], strict=True):
            samples *= gain
    return found


def data_of(page):
    return json.loads(re.search(r'id="song">(.*)</script>', page.read_text(encoding="utf-8"))[1])


def test_what_is_not_ours_is_what_was_published():
    vendored = tomllib.loads((PLAYER / "VENDORED.toml").read_text())
    for library in vendored.values():
        for name, (_, sha256) in library["files"].items():
            assert hashlib.sha256((PLAYER / name).read_bytes()).hexdigest() == sha256


def test_the_sound_is_the_stems(tmp_path):
    frames = 9 * RATE + 5
    vocals, rest = noise(1, frames), noise(2, frames, channels=1, gain=2.0)
    write(tmp_path / "vocals.wav", vocals)
    write(tmp_path / "rest.wav", rest)
    page = write_page(*find_stems(tmp_path, tmp_path))
    assert page.path == tmp_path / "listen.html"
    assert page.seconds == frames / RATE
    heard = chunks(tmp_path / "listen")
    assert [len(each) for each in heard] == [2, 2, 2], "the mixture is their sum"
    for number, true in enumerate((rest, vocals)):
        made = np.concatenate([chunk[number][0].reshape(-1, true.shape[1]) for chunk in heard])
        assert np.abs(made - true).max() <= 2.0 / 65536 * 1.01
    assert len(page.path.read_bytes()) < 300_000


def test_sixteen_bits_stay_exact(tmp_path):
    levels = np.random.default_rng(0).integers(-32768, 32768, (RATE, 2)).astype(np.int16)
    write(tmp_path / "vocals.wav", levels, subtype="PCM_16")
    write_page(*find_stems(tmp_path, tmp_path))
    ((made, _),) = chunks(tmp_path / "listen")[0]
    assert np.array_equal(made * 32768, levels)


@pytest.mark.parametrize("count", [2, 6, 12])
def test_a_page_is_small(tmp_path, count):
    for number in range(count):
        write(tmp_path / f"stem{number}.wav", noise(number, 4 * RATE))
    page = write_page(*find_stems(tmp_path, tmp_path))
    assert len(page.path.read_bytes()) < 300_000


def test_peaks_and_the_mixture_of_a_page(folder):
    write(folder / "mixture.wav", noise(3))
    page = write_page(*find_stems(folder, folder))
    data = data_of(page.path)
    peaks = [np.array(each) for each in data["peaks"]]
    files = [folder / f"{name}.wav" for name in ("mixture", "rest", "vocals")]
    for found, file in zip(peaks, files, strict=True):
        assert found.max() == pytest.approx(np.abs(soundfile.read(file)[0]).max(), abs=1e-3)
    assert data["frames"] == RATE
    assert data["tracks"] == 3
    assert [len(each) for each in chunks(folder / "listen")] == [3]


def test_pages_of_separated_songs(separated, waveunet):
    ran = waveunet("listen", separated)
    assert ran.code == 0, ran.err
    pages = [separated / "tiny" / name / "listen.html" for name in ("one", "two")]
    assert ran.stems == [*pages, separated / "index.html"]
    for number, page in enumerate(pages):
        (chunk,) = chunks(page.with_name("listen"))
        assert len(chunk) == 2
        assert np.abs(sum(samples for samples, _ in chunk) - noise(number)).max() < 1e-3
        assert f"<h1>{page.parent.name}</h1>" in page.read_text(encoding="utf-8")
    index = (separated / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<li><a href="(.*?)">(.*?)</a>', index)
    assert links == [("tiny/one/listen.html", "one"), ("tiny/two/listen.html", "two")]


def test_pages_of_files_that_hold_all_stems(separated, waveunet):
    song = write(Path("songs/one.wav"), noise(1, 44_100), rate_hz=44_100)
    options = ("-n", "tiny.safetensors", "-q", "--format", "stem", "--subtype", "ALAC_16", "-o", "dj", "--page")
    ran = waveunet("separate", song, *options)
    folder = Path("dj/tiny/one")
    assert (ran.code, ran.stems[-1]) == (0, folder / "listen.html"), ran.err
    copy = Path("bought.stem.mp4")
    copy.write_bytes((folder / "one.stem.mp4").read_bytes())
    assert waveunet("listen", copy).stems == [Path("listen bought.html")]
    assert waveunet("listen", folder / "one.stem.mp4").stems == [folder / "listen.html"]
    for page in (folder / "listen.html", Path("listen bought.html")):
        stems = [np.concatenate(track) for track in zip(*(
            [samples for samples, _ in chunk[:2]] for chunk in chunks(page.with_suffix(""))
        ), strict=True)]  # fmt: skip
        assert np.abs(sum(stems) - noise(1, 44_100)).max() < 1e-3
        text = page.read_text(encoding="utf-8")
        assert re.findall("<h2>(.*)</h2>", text) == ["mixture", "accompaniment", "vocals"]
    assert "bought.stem.mp4" in text


def test_the_mixture_is_the_track_that_was_separated(separated, waveunet):
    with av.open("songs/film.mov", "w") as film:
        streams = [film.add_stream("pcm_s16le", rate=RATE, layout="stereo") for _ in range(2)]
        for seed, stream in enumerate(streams):
            encode_stream(film, stream, noise(seed), RATE)
    ran = waveunet("separate", "songs/film.mov", "-n", "tiny.safetensors", "-q", "--track", "2", "-o", "out")
    assert ran.code == 0, ran.err
    with Tracks(find_stems(Path("out"), Path())[0]) as tracks:
        ((_, mixture),) = tracks.blocks(RATE)
    assert np.abs(mixture - noise(1)).max() < 1e-4


@pytest.mark.thorough
def test_a_picture_whose_format_is_not_named_is_a_png(separated, waveunet):
    ran = waveunet("separate", "songs/one.wav", "-n", "tiny.safetensors", "--picture", "--page")
    assert ran.code == 0, ran.err
    assert (separated / "tiny/one/spectrograms.png").exists()


def test_separate_writes_pages_and_pictures(separated, waveunet):
    options = ("separate", "songs", "-n", "tiny.safetensors", "--picture", "svg", "--page")
    for _ in range(2):  # the second time all songs are skipped
        ran = waveunet(*options)
        assert ran.code == 0, ran.err
        folders = [separated / "tiny" / name for name in ("one", "two")]
        written = [*(folder / "listen.html" for folder in folders), separated / "index.html"]
        assert [separated.parent / path for path in ran.stems] == [
            *written,
            *(folder / "spectrograms.svg" for folder in folders),
        ]
        for path in written:
            path.unlink()
    write(Path("songs/three.wav"), noise(3), rate_hz=2000)
    ran = waveunet(*options, "-q")
    assert ran.code == 1
    assert ran.err.startswith("Error: separated/tiny/three/")
    assert "browsers do not play 2000 Hz" in ran.err
    assert (separated / "tiny" / "three" / "spectrograms.svg").exists()
    ran = waveunet(*options, "-o", "memory://out")
    assert (ran.code, ran.out) == (2, "")


def test_the_page_of_a_song_is_found_by_the_song(separated, waveunet):
    ran = waveunet("listen", "songs/two.wav")
    assert ran.stems == [Path("separated/tiny/two/listen.html")]
    copy = Path("songs/two.wav").rename("renamed.wav")
    assert waveunet("listen", copy).stems == [Path("separated/tiny/two/listen.html")]
    write(Path("other.wav"), noise(7))
    ran = waveunet("listen", "other.wav")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Error: other.wav: no stems of this song in separated; run waveunet separate first, or name --out\n"
    )


def test_a_page_is_written_again_only_if_something_changed(folder):
    page = write_page(*find_stems(folder, folder)).path
    before = page.stat().st_mtime_ns
    write_page(*find_stems(folder, folder))
    assert page.stat().st_mtime_ns == before
    write(folder / "vocals.wav", noise(5))
    os.utime(folder / "vocals.wav", (1, 1))
    write_page(*find_stems(folder, folder))
    assert page.stat().st_mtime_ns != before


def test_old_sound_goes_and_foreign_files_stay(folder):
    for stem in ("vocals", "rest"):
        write(folder / f"{stem}.wav", noise(1, 20 * RATE))
    write_page(*find_stems(folder, folder))
    (folder / "listen" / "notes.txt").write_text("mine")
    for stem in ("vocals", "rest"):
        write(folder / f"{stem}.wav", noise(1))
    write_page(*find_stems(folder, folder))
    assert sorted(path.name for path in (folder / "listen").iterdir()) == ["00000.js", "notes.txt"]
    assert sorted(path.name for path in folder.iterdir()) == ["listen", "listen.html", "rest.wav", "vocals.wav"]


def test_songs_of_one_folder_have_pages_of_their_own(separated, waveunet):
    options = ("-n", "tiny.safetensors", "-q", "-o", "flat", "--filename", "{track} {stem}.{ext}")
    assert waveunet("separate", "songs", *options).code == 0
    ran = waveunet("listen", "flat")
    assert [path.name for path in ran.stems] == ["listen one.html", "listen two.html", "index.html"]
    assert data_of(Path("flat/listen two.html"))["folder"] == "listen%20two"
    assert Path("flat/listen two/00000.js").is_file()


def test_a_mixture_that_changed_is_said_and_passed_over(separated, waveunet):
    write(Path("songs/one.wav"), noise(9, 2 * RATE))
    ran = waveunet("listen", "separated/tiny/one")
    assert ran.code == 0
    assert (
        "songs/one.wav: has 16000 frames at 8000 Hz, its stems 8000 at 8000 Hz; the page plays the sum of the stems"
        in ran.err
    )


def test_more_channels_are_heard_in_stereo(tmp_path):
    write(tmp_path / "all.wav", noise(1, channels=6))
    page = write_page(*find_stems(tmp_path, tmp_path)).path
    assert chunks(tmp_path / "listen")[0][0][0].shape == (RATE, 2)
    assert "heard in stereo, the files have 6 channels" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "RF64", "W64"])
def test_what_no_browser_plays_is_heard(tmp_path, container, subtype):
    samples = noise(1)
    soundfile.write(tmp_path / "vocals.wav", samples, RATE, subtype, format=container)
    write_page(*find_stems(tmp_path, tmp_path))
    ((made, rate_hz),) = chunks(tmp_path / "listen")[0]
    assert np.abs(made - samples).max() < 2e-5
    assert rate_hz == RATE


def failing(waveunet, *arguments):
    ran = waveunet("listen", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: ")
    assert ran.err.count("\n") == 1
    return ran.err


def test_bad_input_is_one_line(folder, waveunet, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: no stems in this folder" in failing(waveunet, tmp_path / "empty")
    assert "nowhere: no such file or folder" in failing(waveunet, tmp_path / "nowhere")
    write(folder / "vocals.wav", noise(1, RATE - 1))
    said = failing(waveunet, folder)
    assert "vocals.wav: has 7999 frames at 8000 Hz, rest.wav has 8000 at 8000 Hz; separate the song again" in said
    (folder / "vocals.wav").write_bytes(b"RIFF")
    assert "vocals.wav" in failing(waveunet, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["rest.wav", "vocals.wav"]


def test_a_missing_stem_and_the_other_songs(separated, waveunet):
    (separated / "tiny" / "one" / "vocals.wav").unlink()
    ran = waveunet("listen", separated)
    assert ran.code == 1
    assert ran.err == f"Error: {separated}/tiny/one/vocals.wav: the stem is missing; separate the song again\n"
    assert ran.stems == [separated / "tiny" / "two" / "listen.html"]


def test_rates_that_browsers_refuse(tmp_path):
    write(tmp_path / "vocals.wav", noise(1), rate_hz=2000)
    with pytest.raises(AudioReadError, match="browsers do not play 2000 Hz"):
        write_page(*find_stems(tmp_path, tmp_path))


def test_silence_and_no_samples(tmp_path):
    write(tmp_path / "a" / "vocals.wav", np.zeros((100, 1), np.float32))
    text = write_page(*find_stems(tmp_path / "a", tmp_path)).path.read_text(encoding="utf-8")
    for picture in re.findall(r'src="data:image/png;base64,(.*?)"', text):
        pixels = Image.open(BytesIO(base64.b64decode(picture)))
        assert np.unique(np.asarray(pixels.convert("RGB")).reshape(-1, 3), axis=0).tolist() == [[8, 6, 22]], "dark"
    write(tmp_path / "b" / "vocals.wav", np.zeros((0, 1), np.float32))
    with pytest.raises(AudioReadError, match="holds no samples"):
        write_page(*find_stems(tmp_path / "b", tmp_path))


def test_a_page_that_cannot_be_written(folder):
    (folder / "listen").write_text("a file")
    with pytest.raises(AudioWriteError, match=r"listen\.html: cannot be written"):
        write_page(*find_stems(folder, folder))
    assert sorted(path.name for path in folder.iterdir()) == ["listen", "rest.wav", "vocals.wav"]


def test_hostile_names_are_escaped(tmp_path):
    name = "<script>alert(1)<|script> 'q' \"w\" %41 & #? $title"
    write(tmp_path / name / f"{name}.wav", noise(1))
    text = write_page(*find_stems(tmp_path / name, tmp_path)).path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;|script&gt; &#x27;q&#x27; &quot;w&quot; %41 &amp; #? $title" in text
    assert (
        'href="%3Cscript%3Ealert%281%29%3C%7Cscript%3E%20%27q%27%20%22w%22%20%2541%20%26%20%23%3F%20%24title.wav"'
        in text
    )


def test_peaks_do_not_depend_on_the_blocks():
    samples = noise(1, 10_007)
    whole, parts = Peaks(10_007, 100), Peaks(10_007, 100)
    whole.push(samples)
    for start in range(0, 10_007, 777):
        parts.push(samples[start : start + 777])
    found = whole.finish()
    assert np.array_equal(found, parts.finish())
    assert len(found) == 100
    assert found[3] == np.abs(samples[3 * 101 : 4 * 101]).max()


@pytest.mark.parametrize("frames", [10, 3_000, 100_000])
def test_spectrograms_do_not_depend_on_the_blocks(frames):
    samples = noise(1, frames)
    whole, parts = (Spectrogram(frames, RATE, 50, 32) for _ in range(2))
    whole.push(samples)
    for start in range(0, frames, 777):
        parts.push(samples[start : start + 777])
    found = whole.finish()
    assert found.shape == (32, 50)
    np.testing.assert_allclose(found, parts.finish(), atol=1e-3)


@pytest.mark.parametrize("frequency_hz", [100, 440, 1000, 3500])
def test_a_sine_is_where_and_as_loud_as_it_is(frequency_hz):
    sine = np.sin(2 * np.pi * frequency_hz * np.arange(4 * RATE) / RATE, dtype=np.float64)[:, None].astype(np.float32)
    spectrogram = Spectrogram(len(sine), RATE, 20, 48)
    spectrogram.push(sine)
    found = spectrogram.finish()[:, :-1]  # the last window may reach beyond the end
    band = found.mean(axis=1).argmax()
    low, high = spectrogram.edges_hz[band : band + 2]
    assert low / 1.15 <= frequency_hz <= high * 1.15
    assert found.max() == pytest.approx(0, abs=6)


def test_a_long_song_is_not_put_into_a_notebook(folder, monkeypatch):
    (found,) = find_stems(folder, folder)
    assert inline_page(found).startswith("<iframe")
    monkeypatch.setattr("waveunet_cli.listen.page.MAX_INLINE_SECONDS", 1.9)
    assert inline_page(found) == f"<p>song, 0:01: <code>waveunet listen {folder}</code> writes its page.</p>"


def test_a_picture_is_a_png():
    levels = np.linspace(-80, 0, 30).reshape(5, 6).astype(np.float32)
    picture = Image.open(BytesIO(png(levels, 0)))
    assert picture.size == (6, 5)
    colours = np.asarray(picture.convert("RGB")).astype(int)
    assert tuple(colours[-1, 0]) == (8, 6, 22), "the first row is at the bottom, the quietest is darkest"
    assert tuple(colours[0, -1]) == (252, 246, 190)


def test_tracks_close_what_they_opened(folder):
    (found,) = find_stems(folder, folder)
    with Tracks(found) as tracks:
        assert (tracks.frames, tracks.sample_rate_hz, tracks.channels) == (RATE, RATE, 2)
        blocks, mixture = next(tracks.blocks(100))
        assert blocks["rest"].shape == mixture.shape == (100, 2)
