"""Which files are songs, and that no two of them ever share a path."""

import itertools
import os
import random
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waveunet_cli.errors import ConfigError
from waveunet_cli.library.find import find_songs, require_apart, require_distinct
from waveunet_cli.library.manifest import SongOutputs
from waveunet_cli.library.names import TEMPLATE, distinct_tracks, stem_paths
from waveunet_cli.library.song import Song
from waveunet_cli.library.storage import located


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*inputs, out="separated"):
    found = find_songs(map(located, inputs), located(out))
    return found.songs, found.problems


def tracks(*inputs, out="separated"):
    songs, problems = found(*inputs, out=out)
    assert not problems
    return {song.file.path.as_posix(): song.track for song in songs}


def problem(*inputs, out="separated"):
    songs, problems = found(*inputs, out=out)
    assert not songs
    (error,) = problems
    assert "\n" not in str(error)
    return str(error)


def outputs(*paths):
    """The outputs of songs with one stem each."""
    return [SongOutputs({"vocals": Path(path)}) for path in paths]


# --- names


def test_a_file_goes_by_its_name(here):
    touch("deep/song.wav")
    assert tracks("deep/song.wav") == {"deep/song.wav": "song"}


def test_a_folder_is_mirrored(here):
    touch("music/one.wav", "music/cd/two.FLAC", "music/cd/a.b.Mp3", "music/notes.txt", "music/cover.jpg")
    assert tracks("music") == {
        "music/one.wav": "one",
        "music/cd/two.FLAC": "cd/two",
        "music/cd/a.b.Mp3": "cd/a.b",
    }


def test_the_same_name_twice_keeps_its_extension(here):
    touch("music/a.wav", "music/a.flac", "music/b.wav")
    assert tracks("music") == {"music/a.wav": "a.wav", "music/a.flac": "a.flac", "music/b.wav": "b"}
    assert tracks("music/a.wav", "music/a.flac") == {"music/a.wav": "a.wav", "music/a.flac": "a.flac"}


def test_several_folders_keep_their_names(here):
    touch("x/01.wav", "y/01.wav", "loose.wav")
    assert tracks("x", "y", "loose.wav") == {"x/01.wav": "x/01", "y/01.wav": "y/01", "loose.wav": "loose"}


def test_folders_of_the_same_name_keep_more_of_theirs(here):
    touch("a/cd/01.wav", "b/cd/01.wav")
    assert tracks("a/cd", "b/cd") == {"a/cd/01.wav": "a/cd/01.wav", "b/cd/01.wav": "b/cd/01.wav"}
    assert tracks("a/cd/01.wav", "b/cd/01.wav") == {
        "a/cd/01.wav": "a/cd/01.wav",
        "b/cd/01.wav": "b/cd/01.wav",
    }


def test_the_current_folder_and_the_one_above(here, monkeypatch):
    touch("music/one.wav", "two.wav")
    monkeypatch.chdir("music")
    assert tracks(".") == {"one.wav": "one"}
    assert tracks("..") == {"../music/one.wav": "music/one", "../two.wav": "two"}
    assert set(tracks(".", "../two.wav").values()) == {"music/one", "two"}


def test_a_file_named_twice_is_one_song(here):
    touch("music/one.wav")
    Path("link.wav").symlink_to("music/one.wav")
    for inputs in (["music", "music/one.wav"], ["music/one.wav", here / "music"], ["music", "link.wav"]):
        assert len(tracks(*inputs)) == 1


def test_above_a_storage_there_are_no_more_names(here):
    files = [PurePosixPath("bucket/01.wav"), Path("/x/bucket/01.wav")]
    assert distinct_tracks(files, [None, None]) == ["bucket/01.wav", "x/bucket/01.wav"]


@pytest.mark.parametrize(
    ("name", "track"),
    [
        ("song..wav", "song"),
        ("song .wav", "song"),
        (" .wav", "_"),
        ("[1] {stem} (live) 100%.wav", "[1] {stem} (live) 100%"),
        ("ü – 日本語 🎵.wav", "ü – 日本語 🎵"),
        ("-n.wav", "-n"),
        ("a\nb.wav", "a\nb"),
        ("song.WAV", "song"),
        ("no extension", "no extension"),
    ],
)
def test_odd_names(here, name, track):
    touch(f"music/{name}")
    assert tracks(f"music/{name}") == {f"music/{name}": track}
    path = stem_paths(Path("out"), TEMPLATE, "m", track, ["vocals"], "wav")["vocals"]
    path.parent.mkdir(parents=True)
    path.touch()


def test_a_name_of_dots_only(here):
    touch("music/..wav")
    assert tracks("music/..wav") == {"music/..wav": "_"}


def test_bytes_that_are_no_text(here):
    name = os.fsdecode(b"caf\xe9.wav")
    touch(f"music/{name}")
    assert list(tracks("music")) == [f"music/{name}"]


NAMES = ["a", "A", "b", "a.wav", "é", unicodedata.normalize("NFD", "é"), "a (1)", "a.", "_"]
FILES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "x/", "X/", "y/", "y/x/", "y/a/"]),
    st.sampled_from(NAMES),
    st.sampled_from([".wav", ".WAV", ".flac"]),
)


@settings(deadline=None, max_examples=60)
@given(st.sets(FILES, min_size=1, max_size=10), st.randoms(use_true_random=False), st.data())
def test_no_two_songs_share_a_path_in_any_order(tmp_path_factory, names, rng, data):
    root = tmp_path_factory.mktemp("songs")
    before = Path.cwd()
    os.chdir(root)
    try:
        touch(*names)
        folders = {str(parent) for name in names for parent in Path(name).parents}
        chosen = data.draw(st.lists(st.sampled_from(sorted(names | folders)), min_size=1, max_size=5))
        songs, problems = found(*chosen)
        assert not problems
        keys = [unicodedata.normalize("NFC", song.track).casefold() for song in songs]
        assert len(set(keys)) == len(keys)
        for one, other in itertools.permutations(keys, 2):  # nor is a stem's file where another's folder must be
            assert not other.startswith(f"{one}/vocals.wav")
        assert all(song.track and ".." not in song.track.split("/") for song in songs)
        shuffled = chosen * 2
        rng.shuffle(shuffled)
        assert found(*shuffled) == (songs, [])
    finally:
        os.chdir(before)


def test_songs_come_in_the_order_of_their_tracks(here):
    names = [f"music/{n:02}.wav" for n in range(20)]
    random.Random(0).shuffle(names)
    touch(*names)
    assert list(tracks("music")) == sorted(names)


# --- what is left out


def test_hidden_files_and_the_output_are_left_out(here):
    touch("m/a.wav", "m/.hidden.wav", "m/._a.wav", "m/.git/b.wav", "m/separated/vocals/a/vocals.wav", "m/sub/._c.flac")
    assert tracks("m", out="m/separated") == {"m/a.wav": "a"}
    assert tracks("m", out=here / "m" / "separated") == {"m/a.wav": "a"}
    Path("link").symlink_to("m/separated")
    assert tracks("m", out="link") == {"m/a.wav": "a"}
    assert "separated/vocals/a/vocals" in tracks("m").values()


def test_the_output_folder_is_no_input(here):
    touch("separated/vocals/a/vocals.wav", "separated/vocals/a/.waveunet-0123456789ab.json")
    assert problem("separated") == "separated: is the output folder; choose another --out"
    assert problem("separated/vocals").startswith("separated/vocals: no audio files in this folder")
    assert tracks("separated/vocals/a/vocals.wav") == {"separated/vocals/a/vocals.wav": "vocals"}


def test_a_folder_of_songs_may_lie_in_the_output_folder(here):
    touch("album/a.wav", "vocals/a/vocals.wav", "vocals/a/.waveunet-0123456789ab.json")
    assert tracks("album", out=".") == {"album/a.wav": "a"}
    require_apart([located("album"), located("album/a.wav")], located("."), outputs("vocals/a/vocals.wav"))
    require_apart([located(".")], located("separated"), outputs("separated/a/vocals.wav"))
    with pytest.raises(ConfigError, match="written among the songs"):
        require_apart([located("album")], located("."), outputs("album/a/vocals.wav"))


def test_links_to_folders_are_not_followed(here):
    touch("m/a.wav")
    Path("m/again").symlink_to(here / "m")
    assert tracks("m") == {"m/a.wav": "a"}


def test_links_to_nowhere_are_kept_to_be_reported(here):
    Path("m").mkdir()
    Path("m/self.wav").symlink_to("self.wav")
    Path("m/gone.wav").symlink_to("gone")
    assert set(tracks("m").values()) == {"self", "gone"}
    assert tracks("m/self.wav") == {"m/self.wav": "self"}


def test_what_is_not_there(here):
    touch("empty/notes.txt")
    assert problem("none.wav") == "none.wav: no such file or folder; check the path"
    assert problem("x" * 300).endswith(": cannot be looked for (File name too long); check the path")
    assert problem("empty").startswith("empty: no audio files in this folder; name one with songs")


def test_folders_that_may_not_be_entered(here):
    touch("m/a.wav", "m/closed/b.wav")
    Path("m/closed").chmod(0)
    here.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may enter everything
    try:
        songs, problems = found("m", "m/closed/b.wav")
    finally:
        os.seteuid(user)
        Path("m/closed").chmod(0o755)
    assert [song.track for song in songs] == ["a"]
    assert [str(error) for error in problems] == [
        "m/closed/b.wav: cannot be looked for (Permission denied); check the permissions of the folders above",
        "m/closed: cannot be searched (Permission denied); check permissions",
    ]


# --- templates


def test_the_default_template():
    paths = stem_paths(Path("out"), TEMPLATE, "m4", "cd/song", ["vocals", "drums"], "flac")
    assert paths == {stem: Path(f"out/m4/cd/song/{stem}.flac") for stem in ("vocals", "drums")}


@pytest.mark.parametrize(
    "template",
    [
        *("{track}.wav", "x", "", "{stem}/{artist}", "{stem", "{stem}}", "{0}/{stem}", "{}{stem}", "{stem.x}"),
        *("{stem[0]}", "{stem:.1}", "{stem!r}", "{track:d}/{stem}", "/{stem}", "../{stem}", "{track}/../../{stem}"),
    ],
)
def test_bad_templates(template):
    with pytest.raises(ConfigError, match="file name template '") as caught:
        stem_paths(Path("out"), template, "m", "t", ["vocals"], "wav")
    assert "\n" not in str(caught.value)


def test_targets_must_differ(here):
    touch("a.wav", "b.wav")
    songs = [Song(located("a.wav"), "a"), Song(located("b.wav"), "b")]
    require_distinct(songs, outputs("out/a.wav", "out/b.wav"))
    with pytest.raises(ConfigError, match="two stems would be written here"):
        require_distinct(songs, outputs("out/a.wav", "out/A.wav"))
    with pytest.raises(ConfigError, match="is a song to be separated"):
        require_distinct(songs, outputs(here / "b.wav"))
