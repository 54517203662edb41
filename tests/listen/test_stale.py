"""Pages that are there already, when stems change, songs come and go, and files of others have their names."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from waveunet_cli.errors import AudioWriteError
from waveunet_cli.listen import find_stems, made, remove_misleading, write_index, write_page

RATE = 8000
FLAT = ("-o", "flat", "--filename", "{track} {stem}.{ext}")


def write(path, seed=0, frames=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(seed).uniform(-0.2, 0.2, (frames, 2))
    soundfile.write(path, sound, RATE, "PCM_16")
    return path


def pages(folder):
    """The pages of a folder, which all have their sound, and no other sound."""
    found = sorted(path.name for path in Path(folder).glob("*.html"))
    sound = {path.name for path in Path(folder).iterdir() if path.is_dir()}
    assert sound == {name.removesuffix(".html") for name in found} - {"index"}
    return found


def test_a_page_goes_when_its_stems_are_separated_again(run, here):
    song = write(here / "song.wav")
    folder = run(song, "--page").stems[-1].parent
    assert pages(folder) == ["listen.html"]
    run(song)
    assert pages(folder) == ["listen.html"], "nothing has changed"
    write(song, 1)
    ran = run(song)
    assert ran.err == f"{folder}/listen.html: was of other stems, and is removed; waveunet listen writes a new one\n"
    assert pages(folder) == []


def test_a_song_separated_otherwise_has_the_page_of_the_last(run, here, waveunet):
    """Both write vocals.wav into the same folder; the first set of stems is no set any more."""
    song = write(here / "song.wav")
    folder = run(song, "--page").stems[-1].parent
    ran = run(song, "--two-stems", "vocals", "--subtype", "PCM_24", "--page")
    assert ran.stems[-1] == folder / "listen.html"
    assert pages(folder) == ["listen.html"]
    assert sorted(made(folder / "listen.html").stems) == ["no_vocals.wav", "vocals.wav"]
    assert waveunet("listen", folder).stems == [folder / "listen.html"]
    for stem in folder.glob("*.wav"):  # a copy has other times
        os.utime(stem, (1, 1))
    assert [sorted(found.stems) for found in find_stems(folder, here)] == [["no_vocals", "vocals"]]


def test_stems_that_two_separations_wrote_alike_have_one_page(run, here, waveunet):
    """With and without a mix, the stems are the same bytes: neither set has become invalid."""
    song = write(here / "song.wav")
    folder = run(song).stems[-1].parent
    run(song, "--mix", "vocals=0")
    run(song, "--format", "flac")
    for _ in range(2):
        ran = waveunet("listen", folder)
        names = [path.name for path in ran.stems if path.name != "index.html"]
        assert (len(names), ran.err) == (2, "")
        assert sorted([*names, "index.html"]) == pages(folder)


def test_a_folder_that_holds_more_songs_than_before(run, here, waveunet):
    run(write(here / "one.wav", 1), *FLAT)
    assert waveunet("listen", "flat").stems == [Path("flat/listen.html")]
    run(write(here / "two.wav", 2), *FLAT)
    ran = waveunet("listen", "flat")
    assert pages("flat") == ["index.html", "listen one.html", "listen two.html"]
    assert ran.err.startswith("flat/listen.html: was of other stems, and is removed")
    for path in [*Path("flat").glob("two*"), *Path("flat").glob(".waveunet*")]:
        if path.suffix == ".wav" or "two.wav" in path.read_text():
            path.unlink()
    ran = waveunet("listen", "flat")
    assert pages("flat") == ["index.html", "listen two.html", "listen.html"], "sound that is nowhere else stays"
    index = Path("flat/index.html").read_text()
    assert "listen.html" in index
    assert "two" not in index, "no link to a song that is gone"


def test_pages_beside_songs(run, here):
    for seed, name in enumerate(("a", "b")):
        write(here / "music" / f"{name}.wav", seed)
    assert run("music", "--beside", "--page").code == 0
    assert pages("music") == ["listen a.html", "listen b.html"]
    write(here / "music" / "a.wav", 5)
    ran = run("music", "--beside")
    assert "listen a.html: was of other stems" in ran.err
    assert pages("music") == ["listen b.html"]


def test_files_of_others_are_not_replaced(here, waveunet):
    for name in ("one", "two"):
        write(here / "songs" / name / "vocals.wav")
    for name in ("songs/index.html", "songs/one/listen.html"):
        (here / name).write_text("<p>mine")
    with pytest.raises(AudioWriteError, match=r"one/listen.html: is there and is no page of waveunet; move it away"):
        write_page(*find_stems(here / "songs" / "one", here))
    assert not (here / "songs/one/listen").exists()
    (here / "songs/one/listen.html").unlink()
    write_page(*find_stems(here / "songs" / "one", here))
    assert remove_misleading(here / "songs" / "one") == []
    with pytest.raises(AudioWriteError, match=r"songs/index.html: is there and is no page of waveunet"):
        write_index(here / "songs", [])
    assert (here / "songs/index.html").read_text() == "<p>mine"


@pytest.mark.parametrize("said", ["", "{", "[]", "3", "{&quot;../../x&quot;:3}", "{&quot;vocals.wav&quot;:null}"])
def test_a_page_with_a_damaged_head_is_no_error(here, said):
    write(here / "song" / "vocals.wav")
    page = write_page(*find_stems(here / "song", here)).path
    text = page.read_text()
    start = text.index('stems" content="') + len('stems" content="')
    page.write_text(text[:start] + said + text[text.index('"', start) :])
    remove_misleading(here / "song")
    assert write_page(*find_stems(here / "song", here)).path == page
