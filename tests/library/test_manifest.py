"""What is done again and what is not, and which files are never replaced."""

import json
import os
from pathlib import Path

import pytest

from batch_songs import contents, song
from small_models import TINY, model_of, network_of
from waveunet_cli.devices import choose_placement
from waveunet_cli.errors import AudioReadError, AudioWriteError
from waveunet_cli.events import Progress
from waveunet_cli.library.manifest import Request, SongOutputs
from waveunet_cli.library.storage import BusyError, Disk, Located
from waveunet_cli.networks.checkpoint import save_checkpoint
from waveunet_cli.separator import Separator


def test_what_changed_is_done_again(run, here):
    path = song(here / "song.wav")
    stems = here / "separated/tiny/song"

    def why(*options):
        (line, _) = run("song.wav", "--dry-run", *options).out.splitlines()
        skipped = "skipped" in run("song.wav", *options).err
        reason = line.removeprefix("song.wav: ").partition(",")[0]
        assert skipped == (reason == "stems are there")
        return reason

    assert why() == "new"
    assert why() == "stems are there"
    os.utime(path)
    os.utime(stems / "vocals.wav", (1, 1))
    before = next(stems.glob("*.json")).read_text()
    assert why() == "stems are there"  # the same bytes
    assert next(stems.glob("*.json")).read_text() != before  # next time, without reading them
    song(path, seed=1)
    assert why() == "input changed"
    (stems / "vocals.wav").write_bytes((stems / "vocals.wav").read_bytes()[:-1] + b"x")
    assert why() == "stems changed"
    (stems / "vocals.wav").unlink()
    assert why() == "stems missing"
    assert why("--clip", "clamp") == "settings changed"
    assert why("--clip", "clamp", "--segment", "0.1") == "stems are there"
    assert why("--two-stems", "vocals") == "new"
    for damage in ("{}", '{"format": 2}'):  # of another version, which still names the song
        values = json.loads(damage) | {"input": str(path.absolute())}
        for manifest in stems.glob("*.json"):
            manifest.write_text(json.dumps(values))
        assert why() == "manifest unreadable"
    save_checkpoint(here / "tiny.safetensors", TINY, network_of(TINY, seed=1).state_dict())
    assert why() == "model changed"
    assert why("--overwrite", "always") == "asked for"


def test_a_manifest_tells_the_precision_that_was_used(run, here):
    song(here / "song.wav")
    run("song.wav", "--precision", "float32")
    manifest = next(here.rglob(".waveunet-*.json"))
    assert json.loads(manifest.read_text())["settings"]["precision"] == "float32"
    assert "skipped" in run("song.wav", "--precision", "float32").err
    assert run("song.wav", "--precision", "bfloat16", "--dry-run").out.startswith("song.wav: settings changed")
    run("song.wav")  # auto: the manifest tells what it meant
    chosen = str(choose_placement("cpu").dtype).removeprefix("torch.")
    assert json.loads(manifest.read_text())["settings"]["precision"] == chosen
    assert "skipped" in run("song.wav", "--precision", chosen).err


def test_files_that_are_not_the_songs_stems_are_never_replaced(run, here):
    stems = here / "out/tiny/song"
    stems.mkdir(parents=True)
    (stems / "vocals.wav").write_text("mine")
    song(here / "one/song.wav")
    song(here / "two/song.wav", seed=1)
    ran = run("one/song.wav", "-o", "out")
    assert ran.code == 1
    assert "vocals.wav: is there, and is no stem of one/song.wav; choose another --out" in ran.err
    assert [path.name for path in stems.iterdir()] == ["vocals.wav"]
    assert run("one/song.wav", "-o", "out", "--overwrite", "always").code == 0
    before = contents(here / "out")
    for more in ([], ["--two-stems", "vocals"]):
        ran = run("two/song.wav", "-o", "out", *more)
        assert ran.code == 1
        assert "one/song.wav, not of two/song.wav; choose another --out" in ran.err
        assert contents(here / "out") == before
    (here / "one").rename(here / "moved")
    assert "skipped" in run("moved/song.wav", "-o", "out").err


def test_a_folder_is_no_stem_whatever_its_name(run, here):
    song(here / "song.wav")
    for stem in ("accompaniment", "vocals"):
        (here / f"out/tiny/song/{stem}.wav").mkdir(parents=True)
    for overwrite in ("changed", "never", "always"):
        ran = run("song.wav", "-o", "out", "--overwrite", overwrite)
        assert (ran.code, ran.out) == (1, "")
        assert "accompaniment.wav: is a folder; choose another" in ran.err


def test_a_song_that_cannot_be_compared_is_taken_for_another(run, here):
    run(song(here / "one.wav"), "-o", "out", "--filename", "{stem}.wav")

    class Silent(Disk):
        def glance(self, path):
            raise PermissionError(f"{path}: no answer")

    stems = SongOutputs({stem: Path(f"out/{stem}.wav") for stem in ("accompaniment", "vocals")})
    with pytest.raises(AudioWriteError, match=r"one\.wav, not of two\.wav"):
        stems.why_again(Located(Path("two.wav"), Silent()), Request("", {}))


def test_a_song_that_changes_while_it_is_read(here, monkeypatch):
    path = song(here / "song.wav", frames=20_000)
    monkeypatch.setattr("waveunet_cli.library.song.READ_FRAMES", 1000)

    def touch(event):
        if isinstance(event, Progress):
            os.utime(path, (1, 1))

    with pytest.raises(AudioReadError, match=r"song\.wav: was changed while it was read; separate it again"):
        Separator(model_of(TINY)).separate_file(path, on_event=touch)
    assert not Path("separated").exists()


def test_manifests_of_stems_in_one_folder_differ(here):
    places = [SongOutputs({stem: here / f"{track}_{stem}.wav" for stem in ("a", "b")}) for track in "xy"]
    assert places[0].manifest != places[1].manifest
    assert SongOutputs({stem: Path(f"x_{stem}.wav") for stem in ("a", "b")}).key == places[0].key


def test_a_song_that_another_process_has(here):
    place = SongOutputs({"vocals": here / "out" / "vocals.wav"})
    with place.claim(), pytest.raises(BusyError), place.claim(wait=False):
        pass
    assert not (here / "out").exists()


def test_what_a_killed_process_left_is_removed(run, here):
    song(here / "song.wav")
    assert run("song.wav").code == 0
    whole = contents(here / "separated")
    folder = here / "separated/tiny/song"
    (manifest,) = folder.glob(".waveunet-*.json")
    key = manifest.stem.removeprefix(".waveunet-")
    for suffix in (".lock", "-123.part"):
        (folder / f".waveunet-{key}{suffix}").touch()
    (folder / ".waveunet-0123456789ab-1.part").touch()  # another song's, whose lock nobody here holds
    assert "skipped" in run("song.wav").err
    assert contents(here / "separated") == whole | {"tiny/song/.waveunet-0123456789ab-1.part": b""}
