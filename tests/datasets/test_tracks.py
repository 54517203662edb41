from pathlib import Path

import pytest
import torch

from training_songs import RATE_HZ, write_songs, write_stem
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Data, Track, find_tracks
from waveunet_cli.errors import ConfigError

VOICE = ("accompaniment", "vocals")


@pytest.mark.parametrize("folder", ["", "train"])
def test_finds_songs_and_sums_the_accompaniment(tmp_path: Path, folder: str) -> None:
    write_songs(tmp_path / folder)
    (tmp_path / folder / "a" / "mixture.wav").write_bytes((tmp_path / folder / "a" / "other.wav").read_bytes())
    tracks, left_out = find_tracks(Data(tmp_path), VOICE)
    assert [Path(track.name).name for track in tracks] == ["a", "b", "c"]
    assert left_out == []
    assert [path.name for path in tracks[0].sources["accompaniment"]] == ["drums.wav", "other.wav"]
    x = Reader(RATE_HZ, 2).read(tracks[0], VOICE, 0, 100)
    stems = Reader(RATE_HZ, 2).read(
        Track("", {p.stem: (p,) for p in (tmp_path / folder / "a").iterdir()}, 4000, RATE_HZ),
        ("drums", "other", "vocals"), 0, 100,
    )  # fmt: skip
    torch.testing.assert_close(x, torch.stack([stems[0] + stems[1], stems[2]]))


def test_reads_the_ccmixter_layout(tmp_path: Path) -> None:
    for name, seed in (("mix", 0), ("source-01", 1), ("source-02", 2)):
        write_stem(tmp_path / "song" / f"{name}.wav", seed=seed)
    (track,), _ = find_tracks(Data(tmp_path), VOICE)
    assert {source: [path.name for path in paths] for source, paths in track.sources.items()} == {
        "accompaniment": ["source-01.wav"],
        "vocals": ["source-02.wav"],
    }


def test_takes_loose_files_as_one_source(tmp_path: Path) -> None:
    write_stem(tmp_path / "hum.wav")
    write_stem(tmp_path / "choir.flac", frames=77)
    tracks, _ = find_tracks(Data(tmp_path, stem="vocals"), VOICE)
    assert [(list(track.sources), track.frames) for track in tracks] == [(["vocals"], 77), (["vocals"], 4000)]
    with pytest.raises(ConfigError, match="'kazoo' is none of the model's sources"):
        find_tracks(Data(tmp_path, stem="kazoo"), VOICE)


def test_names_and_leaves_out_what_cannot_be_used(tmp_path: Path) -> None:
    write_songs(tmp_path, ["good", "excluded"])
    (write_songs(tmp_path, ["mute"]) / "mute" / "vocals.wav").unlink()
    write_stem(write_songs(tmp_path, ["short"]) / "short" / "drums.wav", frames=3999)
    write_stem(write_songs(tmp_path, ["fast"]) / "fast" / "drums.wav", rate_hz=16_000)
    (write_songs(tmp_path, ["torn"]) / "torn" / "drums.wav").write_bytes(b"RIFF")
    write_stem(write_songs(tmp_path, ["empty"]) / "empty" / "drums.wav", frames=0)
    tracks, left_out = find_tracks(Data(tmp_path, exclude=("excluded",)), VOICE)
    assert [Path(track.name).name for track in tracks] == ["good"]
    for line, said in zip(
        left_out,
        ["header counts no frames", "8000 Hz, drums.wav|16000 Hz", "stem missing: vocals", "3999 frames", "torn"],
        strict=True,
    ):
        assert any(part in line for part in said.split("|"))
        assert "\n" not in line


def test_refuses_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        find_tracks(Data(tmp_path / "nowhere"), VOICE)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ConfigError, match="no song with the stems accompaniment, vocals"):
        find_tracks(Data(tmp_path), VOICE)


@pytest.mark.parametrize("stem", [None, "vocals"])
def test_hidden_files_and_folders_are_none(tmp_path: Path, stem: str | None) -> None:
    """macOS leaves `._vocals.wav` beside vocals.wav on foreign disks; it is no audio."""
    write_songs(tmp_path, ["song"])
    write_songs(tmp_path, [".trash"])
    root = tmp_path / "song" if stem else tmp_path
    for name in ("._vocals.wav", "._notes.wav"):
        (tmp_path / "song" / name).write_bytes(b"\0\5\26\7")
    tracks, left_out = find_tracks(Data(root, stem=stem), VOICE)
    assert left_out == []
    assert [Path(track.name).name for track in tracks] == (["drums", "other", "vocals"] if stem else ["song"])
    if not stem:
        assert [path.name for path in tracks[0].sources["accompaniment"]] == ["drums.wav", "other.wav"]


@pytest.mark.parametrize("second", ["vocals.flac", "Vocals.aiff", "source-02.wav"])
def test_two_files_for_one_stem_are_named(tmp_path: Path, second: str) -> None:
    write_songs(tmp_path, ["good", "two"])
    write_stem(tmp_path / "two" / second)
    tracks, left_out = find_tracks(Data(tmp_path), VOICE)
    assert [Path(track.name).name for track in tracks] == ["good"]
    assert len(left_out) == 1
    assert "holds vocals, and so does" in left_out[0]
    assert second in left_out[0]


def test_of_two_loose_files_with_one_name_the_second_is_left_out_with_a_line(tmp_path: Path) -> None:
    for name in ("hum.wav", "hum.flac", "choir.wav"):
        write_stem(tmp_path / name)
    tracks, left_out = find_tracks(Data(tmp_path, stem="vocals"), VOICE)
    assert [path.name for track in tracks for path in track.files] == ["choir.wav", "hum.flac"]
    assert len(left_out) == 1
    assert "hum.wav: a file of this name is used already" in left_out[0]


FOUR = ("vocals", "drums", "bass", "other")


def test_songs_with_an_accompaniment_know_the_sum_of_the_other_sources(tmp_path: Path) -> None:
    for stem in ("vocals", "accompaniment"):
        write_stem(tmp_path / "split" / f"{stem}.wav")
    for stem in (*FOUR, "accompaniment"):
        write_stem(tmp_path / "whole" / f"{stem}.wav")
    write_stem(tmp_path / "mute" / "accompaniment.wav")
    (split, whole), left_out = find_tracks(Data(tmp_path), FOUR, sums=True)
    assert split.parts(FOUR) == {"vocals": ("vocals",), "accompaniment": ("drums", "bass", "other")}
    assert (split.covers(FOUR), split.covers(("drums",)), "drums" in split.sources) == (True, True, False)
    assert whole.parts(FOUR) == {source: (source,) for source in FOUR}
    assert "stem missing" in left_out[0]
    (only,), left_out = find_tracks(Data(tmp_path), FOUR)
    assert (Path(only.name).name, len(left_out)) == ("whole", 2)
    assert not only.covers((*FOUR, "kazoo"))
