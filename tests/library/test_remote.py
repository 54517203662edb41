"""Songs and stems at addresses: in memory, in files, and on an S3 server of this machine."""

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from small_models import TINY, network_of
from waveunet_cli.networks.checkpoint import save_checkpoint

fsspec = pytest.importorskip("fsspec")
RATE = 8000


@pytest.fixture
def run(waveunet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    config = replace(TINY, output="difference")
    save_checkpoint(tmp_path / "tiny.safetensors", config, network_of(config).state_dict())
    for index, name in enumerate(("a.wav", "cd/b.wav", "cd/.hidden.wav", "notes.txt")):
        path = tmp_path / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(index).standard_normal((4000, 2)) * 0.1
        soundfile.write(path, samples, RATE, format="WAV")
    return lambda *arguments: waveunet("separate", "-n", "tiny.safetensors", "-d", "cpu", "-j", "1", *arguments)


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def check_a_batch(run, tmp_path, source, out):
    """Upload, separate, compare with a local run; again, and again after something changed."""
    fs, root = fsspec.url_to_fs(source)
    fs.put(f"{tmp_path}/m/", f"{root}/", recursive=True)
    store, folder = fsspec.url_to_fs(out)
    assert run("m", "-o", "here").code == 0
    ran = run(source, "-o", out)
    assert (ran.code, ran.err) == (0, "")
    names = [f"tiny/{track}/{stem}.wav" for track in ("a", "cd/b") for stem in ("accompaniment", "vocals")]
    assert ran.out.splitlines() == [f"{out}/{name}" for name in names]
    for name in names:
        assert store.cat_file(f"{folder}/{name}") == (tmp_path / "here" / name).read_bytes()
    files = [path for path in store.find(folder) if not path.endswith(".wav")]
    assert len(files) == 2
    assert all(".waveunet-" in path and path.endswith(".json") for path in files)
    assert json.loads(store.cat_file(files[0]))["input"] == f"{source}/a.wav"

    assert "2 of 2 songs skipped" in run(source, "-o", out).err
    store.rm_file(f"{folder}/{names[0]}")  # a stem
    fs.put_file(str(tmp_path / "m/a.wav"), f"{root}/cd/b.wav")  # a song
    assert len(run(source, "-o", out).out.splitlines()) == 4
    assert store.cat_file(f"{folder}/{names[2]}") == store.cat_file(f"{folder}/{names[0]}")
    assert "2 of 2 songs skipped" in run(source, "-o", out, "--overwrite", "never").err


def test_in_memory(run, tmp_path, memory):
    check_a_batch(run, tmp_path, "memory://music", "memory://stems")


def test_addresses_of_files_are_paths(run, tmp_path):
    ran = run(f"file://{tmp_path}/m", "-o", f"file://{tmp_path}/out")
    assert ran.out.splitlines()[:2] == [f"{tmp_path}/out/tiny/a/{stem}.wav" for stem in ("accompaniment", "vocals")]
    assert "2 of 2 songs skipped" in run("m", "-o", "out").err


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_song_is_never_replaced_by_its_own_stem(run, tmp_path, memory, scheme):
    folder = tmp_path / "own" if scheme == "file" else "/own"
    fs = fsspec.filesystem(scheme)
    fs.makedirs(str(folder), exist_ok=True)
    fs.put_file(str(tmp_path / "m/a.wav"), f"{folder}/vocals.wav")
    before = fs.cat_file(f"{folder}/vocals.wav")
    for more in ((), ("--overwrite", "always")):
        ran = run(f"{scheme}://{folder}/vocals.wav", "-o", f"{scheme}://{folder}", "--filename", "{stem}.{ext}", *more)
        assert ran.code == 2
        assert "is a song to be separated; choose another --out or --filename" in ran.err
    assert fs.cat_file(f"{folder}/vocals.wav") == before


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_what_is_no_stem_of_the_song_is_replaced_only_when_asked(run, tmp_path, memory, scheme):
    folder = tmp_path / "stems" if scheme == "file" else "/stems"
    fs = fsspec.filesystem(scheme)
    fs.makedirs(f"{folder}/tiny/a", exist_ok=True)
    fs.pipe_file(f"{folder}/tiny/a/vocals.wav", b"mine")
    ran = run("m/a.wav", "-o", f"{scheme}://{folder}")
    assert ran.code == 1
    assert "is there, and is no stem of" in ran.err
    assert fs.cat_file(f"{folder}/tiny/a/vocals.wav") == b"mine"
    assert run("m/a.wav", "-o", f"{scheme}://{folder}", "--overwrite", "always").code == 0
    assert fs.cat_file(f"{folder}/tiny/a/vocals.wav") != b"mine"
    ran = run("m/cd/b.wav", "-o", f"{scheme}://{folder}", "--filename", "tiny/a/{stem}.{ext}")  # another song's stems
    assert ran.code == 1
    assert "is a stem of" in ran.err


def test_from_memory_to_a_folder_and_back(run, tmp_path, memory):
    memory.put_file(str(tmp_path / "m/a.wav"), "/music/a.wav")
    ran = run("memory://music/a.wav", "-o", "there")
    assert ran.code == 0
    assert (tmp_path / "there/tiny/a/vocals.wav").is_file()
    assert not list(tmp_path.rglob("*.part"))
    assert run("m", "-o", "memory://stems").out.splitlines()[0] == "memory://stems/tiny/a/accompaniment.wav"


def test_what_goes_wrong(run, tmp_path, memory):
    memory.pipe_file("/music/bad.wav", b"no song")
    memory.put_file(str(tmp_path / "m/a.wav"), "/music/a.wav")
    ran = run("memory://music", "memory://none.wav", "-o", "memory://stems")
    assert ran.code == 1
    assert len(ran.out.splitlines()) == 2
    assert "Error: memory://none.wav: no such file or folder; check the address" in ran.err
    assert "bad.wav: no audio that libsndfile or ffmpeg can read" in ran.err
    ran = run("nowhere://x", "-o", "memory://stems")
    assert ran.code == 2
    assert "Error: nowhere://x: cannot be reached (Protocol not known: nowhere); install what it needs" in ran.err
    assert run("memory://music", "--dry-run").code == 2


def test_an_upload_that_fails_is_done_again(run, tmp_path, memory, monkeypatch):
    def broken(*_):
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "mv", broken)
        ran = run("m/a.wav", "-o", "memory://stems")
    assert ran.code == 1
    assert "memory://stems: the transfer failed (connection lost); try again" in ran.err
    assert [path.endswith(".part") for path in memory.find("/stems")] == [True]
    assert run("m/a.wav", "-o", "memory://stems").code == 0
    assert not [path for path in memory.find("/stems") if path.endswith(".part")]


@pytest.fixture
def s3(monkeypatch):
    """An empty S3 server: moto's."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    port = 50_321
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(address).close()
            break
        except OSError:
            time.sleep(0.2)
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    yield
    server.terminate()
    server.wait()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_on_s3(run, tmp_path, s3):
    fs = fsspec.filesystem("s3")
    fs.mkdir("music")
    fs.mkdir("stems")
    check_a_batch(run, tmp_path, "s3://music/album", "s3://stems/out")
