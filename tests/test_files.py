"""Files that appear complete or not at all."""

import errno
import os

import pytest

from waveunet_cli.errors import ConfigError
from waveunet_cli.files import require_folder, to_disk, whole_file


def test_a_file_takes_its_name_once_it_is_whole_and_on_the_disk(tmp_path, monkeypatch):
    path, seen = tmp_path / "scores.json", []
    path.write_text("older")
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((path.read_text(), part.read_text())))
    with whole_file(path) as part:
        assert part.parent == tmp_path
        part.write_text("newer")
        assert path.read_text() == "older"
    assert seen == [("older", "newer")]
    assert [file.read_text() for file in tmp_path.iterdir()] == ["newer"]


def interrupted(path):
    with whole_file(path) as part:
        part.write_text("half of it")
        raise KeyboardInterrupt


@pytest.mark.parametrize("there", [True, False])
def test_what_fails_leaves_what_was_there(tmp_path, there):
    path = tmp_path / "scores.json"
    if there:
        path.write_text("older")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"] * there


def failing(number):
    def fsync(_):
        raise OSError(number, os.strerror(number))

    return fsync


def test_a_disk_that_fails_late_is_heard(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), whole_file(path) as part:
        part.write_text("all of it")
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_keeps_nothing_back_need_not_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    with whole_file(tmp_path / "a", tmp_path / "of-this-name") as part:
        assert part == tmp_path / "of-this-name"
        part.write_text("all of it")
    to_disk(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "all of it"


def test_what_is_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("nowhere")
    require_folder(tmp_path)
    require_folder(tmp_path / "new" / "deeper")
    for name in ("file", "loop", "broken"):
        for path in (tmp_path / name, tmp_path / name / "deeper" / "still"):
            with pytest.raises(ConfigError, match=f"/{name}: is no folder, so nothing can be written there; choose"):
                require_folder(path)
