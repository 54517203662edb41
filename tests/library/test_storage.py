"""What may be replaced, what is done, and what is found: the same on a disk, at file:// and in memory."""

import json

import numpy as np
import pytest
import soundfile

from waveunet_cli.library.find import find_songs
from waveunet_cli.library.storage import located

fsspec = pytest.importorskip("fsspec")
STORAGES = ("disk", "file", "memory")


class Place:
    """A folder on one of the storages, named as a user would, and what a test does there behind the program's back."""

    def __init__(self, storage, tmp_path):
        self.address = {"disk": str(tmp_path), "file": f"file://{tmp_path}", "memory": "memory:/"}[storage] + "/place"
        self.fs, self.root = fsspec.url_to_fs(self.address)

    def __truediv__(self, name):
        return f"{self.address}/{name}"

    def write(self, name, data):
        path = f"{self.root}/{name}"
        self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(path, data)

    def remove(self, name):
        self.fs.rm_file(f"{self.root}/{name}")

    def read(self):
        """Every file by its name."""
        return {path.removeprefix(f"{self.root}/"): self.fs.cat_file(path) for path in self.fs.find(self.root)}

    def manifests(self):
        return [name for name in self.read() if name.endswith(".json")]


@pytest.fixture
def songs(here):
    """Songs a.wav and b.wav as bytes, beside a small model."""
    for index, name in enumerate(("a", "b")):
        noise = np.random.default_rng(index).standard_normal((3000, 2)) * 0.1
        soundfile.write(here / f"{name}.wav", noise, 8000)
    return {name: (here / f"{name}.wav").read_bytes() for name in ("a", "b")}


@pytest.fixture
def run(waveunet, songs):
    return lambda *arguments: waveunet("separate", "-n", "tiny.safetensors", "-d", "cpu", "-j", "1", *arguments)


@pytest.fixture(params=STORAGES)
def place(request, songs, tmp_path):
    yield Place(request.param, tmp_path)
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def refused(ran, words, code=1):
    assert (ran.code, ran.out) == (code, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("Error: ")
    assert words in line


# --- what may be replaced


def test_a_song_is_never_replaced_by_its_own_stem(run, songs, place):
    place.write("vocals.wav", songs["a"])
    for overwrite in ("changed", "never", "always"):
        ran = run(place / "vocals.wav", "-o", place / "", "--filename", "{stem}.wav", "--overwrite", overwrite)
        refused(ran, "vocals.wav: is a song to be separated; choose another --out or --filename", code=2)
    assert place.read() == {"vocals.wav": songs["a"]}


def test_nor_if_song_and_stems_are_named_in_different_ways(run, songs, tmp_path):
    (tmp_path / "vocals.wav").write_bytes(songs["a"])
    for song, out in (("vocals.wav", f"file://{tmp_path}"), (f"file://{tmp_path}/vocals.wav", ".")):
        ran = run(song, "-o", out, "--filename", "{stem}.wav", "--overwrite", "always")
        refused(ran, "vocals.wav: is a song to be separated", code=2)
    assert (tmp_path / "vocals.wav").read_bytes() == songs["a"]


@pytest.mark.parametrize("overwrite", ["changed", "never"])
def test_a_file_of_the_users_is_replaced_only_with_overwrite_always(run, place, overwrite):
    place.write("tiny/a/vocals.wav", b"mine")
    refused(
        run("a.wav", "-o", place / "", "--overwrite", overwrite),
        "vocals.wav: is there, and is no stem of a.wav; choose another --out or --filename, or replace it with "
        "--overwrite always",
    )
    assert place.read() == {"tiny/a/vocals.wav": b"mine"}
    assert run("a.wav", "-o", place / "", "--overwrite", "always").code == 0
    assert place.read()["tiny/a/vocals.wav"] != b"mine"


def test_a_file_of_the_users_is_kept_in_whatever_folder_a_template_leads_to(run, place):
    template = ["--filename", "{stem}/{track}.wav"]
    place.write("vocals/a.wav", b"mine")
    refused(run("a.wav", "-o", place / "", *template), "vocals/a.wav: is there, and is no stem of a.wav")
    place.remove("vocals/a.wav")
    assert run("a.wav", "-o", place / "", *template).code == 0
    assert len(run("a.wav", "-o", place / "", *template, "--clip", "clamp").out.splitlines()) == 2  # its own stems


def test_stems_of_another_song_are_kept(run, songs, place):
    place.write("songs/one.wav", songs["a"])
    place.write("songs/two.wav", songs["b"])
    options = ["-o", place / "out", "--filename", "{stem}.wav"]
    assert run(place / "songs/one.wav", *options).code == 0
    before = place.read()
    for more in ([], ["--two-stems", "vocals"]):
        refused(run(place / "songs/two.wav", *options, *more), "is a stem of ")
        assert place.read() == before


DAMAGED = {
    "empty": "",
    "no JSON": "\0",
    "a list": "[1]",
    "deep": "[" * 100_000,
    "of no version": "{}",
    "of a newer version": '{"format": 2, "input": "/another/song.wav"}',
    "of other types": {"paths": 5},  # a whole manifest, in which this field is another
    "of other stems": {"paths": {"vocals": "another.wav"}},
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_stems_whose_manifest_cannot_be_read_are_kept(run, songs, place, damage):
    """Nobody can say which song they are of."""
    assert run("a.wav", "-o", place / "", "--filename", "{stem}.wav").code == 0
    (name,) = place.manifests()
    text = DAMAGED[damage]
    if isinstance(text, dict):
        text = json.dumps(json.loads(place.read()[name]) | text)
    place.write(name, text.encode())
    before = place.read()
    for song in ("b.wav",) if "other" in damage else ("b.wav", "a.wav"):  # some still name a.wav
        refused(
            run(song, "-o", place / "", "--filename", "{stem}.wav"),
            f"accompaniment.wav: is there, and {name} does not tell of which song; choose another --out",
        )
        assert place.read() == before
    for stem in ("accompaniment.wav", "vocals.wav"):
        place.remove(stem)
    assert run("a.wav", "-o", place / "", "--filename", "{stem}.wav").code == 0  # there is nothing to lose
    assert json.loads(place.read()[name])["format"] == 1


def test_a_newer_manifest_that_names_the_song_lets_it_be_done_again(run, place):
    assert run("a.wav", "-o", place / "").code == 0
    (name,) = place.manifests()
    newer = json.loads(place.read()[name]) | {"format": 2}
    place.write(name, json.dumps(newer).encode())
    ran = run("a.wav", "-o", place / "")
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)


# --- what is done


def test_done_is_what_the_manifest_says(run, songs, place):
    place.write("songs/[1] a.wav", songs["a"])  # brackets, which some of fsspec takes for a pattern
    batch = [place / "songs", "-o", place / "out"]
    assert run(*batch).out.splitlines() == [
        f"{place.address.removeprefix('file://')}/out/tiny/[1] a/{stem}.wav" for stem in ("accompaniment", "vocals")
    ]
    before = place.read()
    assert "skipped" in run(*batch).err
    assert place.read() == before
    assert not [name for name in before if name.endswith((".part", ".lock"))]
    vocals = "out/tiny/[1] a/vocals.wav"
    place.write(vocals, before[vocals])  # touched: the same bytes
    assert "skipped" in run(*batch).err
    assert "skipped" in run(*batch, "--overwrite", "never").err
    place.write(vocals, before[vocals][:-1] + b"x")
    assert run(*batch).code == 0
    place.remove(vocals)
    assert run(*batch, "--overwrite", "never").code == 0
    assert place.read()[vocals] == before[vocals]
    assert len(run(*batch, "--clip", "clamp").out.splitlines()) == 2


# --- what is found


def found(*inputs, out):
    found = find_songs(map(located, inputs), located(out))
    return {song.track for song in found.songs}, [str(problem) for problem in found.problems]


def test_hidden_files_the_output_and_stems_are_no_songs(songs, place):
    for name in ("a.wav", ".b.wav", "cd/._c.wav", "cd/c.wav", ".cache/d.wav", "out/tiny/e.wav", "notes.txt"):
        place.write(f"m/{name}", b"")
    assert found(place / "m", out=place / "m/out") == ({"a", "cd/c"}, [])
    assert found(place / "m", out="elsewhere") == ({"a", "cd/c", "out/tiny/e"}, [])
    place.write("m/out/tiny/.waveunet-0123456789ab.json", b"")
    place.write("m/out/album/f.wav", b"")
    assert found(place / "m/out/album", out=place / "m/out") == ({"f"}, [])
    assert found(place / "m/out/album", place / "m/out/tiny", out=place / "m/out")[0] == {"f"}


def test_files_of_other_kinds_are_counted_once(songs, place):
    names = ("a.wav", "cover.jpg", "cd/b.JPG", "cd/notes", ".x.jpg", "out/c.jpg", "own/d.jpg", "own/named.xyz")
    for name in (*names, "stems/.waveunet-0123456789ab.json"):
        place.write(f"m/{name}", b"")
    inputs = [located(place / name) for name in ("m", "m/cd", "m/own/named.xyz")]
    assert find_songs(inputs, located(place / "m/out")).left_out == {".jpg": 3, "": 1}


def test_what_cannot_be_found(songs, place):
    place.write("m/notes.txt", b"")
    kind = "address" if "memory" in place.address else "path"
    name = place.address.removeprefix("file://")
    assert found(place / "none", place / "m", out=place / "out") == (
        set(),
        [
            f"{name}/none: no such file or folder; check the {kind}",
            f"{name}/m: no audio files in this folder; name one with songs, or a file",
        ],
    )
    assert found(place / "m", out=place / "m")[1] == [f"{name}/m: is the output folder; choose another --out"]


def test_stems_among_the_songs_are_refused(run, songs, place):
    place.write("album/a.wav", songs["a"])
    ran = run(place / "album", "-o", place / "", "--filename", "album/{stem}.wav")
    refused(ran, "a stem would be written among the songs; choose another --out", code=2)


def test_songs_of_different_storages_are_told_apart(songs, place):
    place.write("m/a.wav", b"")
    assert found(place / "m", "a.wav", out="out")[0] == {"m/a", "a"}
    assert found(place / "m/a.wav", place / "m", place / "m/a.wav", out="out")[0] == {"a"}


def test_a_song_that_is_exchanged_while_it_is_read(run, songs, place, monkeypatch):
    place.write("a.wav", songs["a"])

    def exchanged(self, paths, lock):
        place.write("a.wav", songs["b"] + b"more")
        return landing(self, paths, lock)

    storage = type(located("out").storage)
    landing = storage.landing
    monkeypatch.setattr(storage, "landing", exchanged)
    refused(run(place / "a.wav", "-o", "out"), "a.wav: was changed while it was read; separate it again")
