"""Songs and stems at addresses: in memory, in files, and on an S3 server of this machine."""

import json
import subprocess
import sys
import time
import urllib.request
from io import BytesIO

import numpy as np
import pytest
import soundfile

from faulty_server import serving

fsspec = pytest.importorskip("fsspec")
RATE = 8000


@pytest.fixture
def run(waveunet, here):
    for index, name in enumerate(("a.wav", "cd/b.wav", "cd/.hidden.wav", "notes.txt")):
        path = here / "m" / name
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
    assert (ran.code, ran.err.split(";")[0]) == (0, "not taken for songs because of their extensions: 1 .txt")
    names = [f"tiny/{track}/{stem}.wav" for track in ("a", "cd/b") for stem in ("accompaniment", "vocals")]
    assert ran.out.splitlines() == [f"{out}/{name}" for name in names]
    for name in names:
        assert store.cat_file(f"{folder}/{name}") == (tmp_path / "here" / name).read_bytes()
    files = [path for path in store.find(folder) if not path.endswith(".wav")]
    assert len(files) == 2
    assert all(".waveunet-" in path and path.endswith(".json") for path in files)
    assert json.loads(store.cat_file(files[0]))["input"].endswith(f"{root}/a.wav")

    assert "2 of 2 songs skipped" in run(source, "-o", out).err
    store.rm_file(f"{folder}/{names[0]}")  # a stem
    fs.put_file(str(tmp_path / "m/a.wav"), f"{root}/cd/b.wav")  # a song
    assert len(run(source, "-o", out).out.splitlines()) == 4
    same = [soundfile.read(BytesIO(store.cat_file(f"{folder}/{names[number]}")))[0] for number in (0, 2)]
    assert np.array_equal(*same)
    assert "2 of 2 songs skipped" in run(source, "-o", out, "--overwrite", "never").err


def test_in_memory(run, tmp_path, memory):
    check_a_batch(run, tmp_path, "memory://music", "memory://stems")


def test_addresses_of_files_are_paths(run, tmp_path):
    ran = run(f"file://{tmp_path}/m", "-o", f"file://{tmp_path}/out")
    assert ran.out.splitlines()[:2] == [f"{tmp_path}/out/tiny/a/{stem}.wav" for stem in ("accompaniment", "vocals")]
    assert "2 of 2 songs skipped" in run("m", "-o", "out").err


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
    assert "Error: nowhere://x: cannot be reached (Protocol not known: nowhere); check what is before ://" in ran.err
    assert run("memory://music", "--dry-run").code == 2


def failing_after(function, calls):
    """The function for that many calls, then a broken connection."""
    made = []

    def called(*arguments, **options):
        made.append(arguments)
        if len(made) > calls:
            raise OSError("connection lost")
        return function(*arguments, **options)

    return called


@pytest.mark.parametrize("step", ["put_file", "cp_file", "rm_file"])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_an_upload_that_was_broken_off_is_done_again(run, tmp_path, memory, monkeypatch, step, calls):
    """After whichever step it broke: the next run takes the files that are there for what they are, its own."""
    assert run("m/a.wav", "-o", "memory://whole").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), step, failing_after(getattr(type(memory), step), calls))
        ran = run("m/a.wav", "-o", "memory://stems")
    if (step, calls) != ("put_file", 2):  # there are two stems; the manifest is no upload of a file
        assert ran.code == 1
        assert "connection lost" in ran.err
    ran = run("m/a.wav", "-o", "memory://stems")
    assert ran.code == 0
    assert left(memory, "/stems") == left(memory, "/whole")
    assert "skipped" in run("m/a.wav", "-o", "memory://stems").err


def left(fs, folder):
    """The files of a folder; of manifests only the names."""
    return {path.removeprefix(folder): fs.cat_file(path) if path.endswith(".wav") else b"" for path in fs.find(folder)}


def test_a_storage_that_does_not_answer_loses_nothing(run, tmp_path, memory, monkeypatch):
    memory.pipe_file("/stems/tiny/a/vocals.wav", b"mine")

    def silent(self, path, **options):
        raise OSError(f"{path}: no answer")

    for method in ("info", "ls", "cat_file"):
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), method, silent)
            ran = run("m/a.wav", "-o", "memory://stems")
        assert ran.code == 1
        (line,) = ran.err.splitlines()
        assert line.startswith("Error: memory://stems/tiny/a/")
        assert memory.cat_file("/stems/tiny/a/vocals.wav") == b"mine"


def test_songs_that_cannot_be_listed(run, memory, monkeypatch):
    memory.makedirs("/music")

    def silent(self, path, **options):
        raise OSError("no answer")

    monkeypatch.setattr(type(memory), "find", silent)
    ran = run("memory://music", "-o", "stems")
    assert (ran.code, ran.err) == (1, "Error: memory://music: cannot be listed (no answer); check the address\n")


def test_a_song_that_is_exchanged_while_it_is_fetched(run, tmp_path, memory, monkeypatch):
    memory.put_file(str(tmp_path / "m/a.wav"), "/music/a.wav")
    get_file = type(memory).get_file

    def exchanged(self, *arguments, **options):
        get_file(self, *arguments, **options)
        self.pipe_file("/music/a.wav", b"another song")

    monkeypatch.setattr(type(memory), "get_file", exchanged)
    ran = run("memory://music/a.wav", "-o", "stems")
    assert (ran.code, ran.err) == (1, "Error: memory://music/a.wav: was changed while it was read; separate it again\n")


def test_what_knows_no_addresses(run, memory, monkeypatch):
    monkeypatch.setattr("waveunet_cli.library.batch.find_spec", lambda name: name)  # as if Ray were installed
    memory.pipe_file("/music/a.wav", b"")
    for arguments in (["memory://music"], ["m", "-o", "memory://stems"]):
        for option in (["--dry-run"], ["--engine", "ray"]):
            ran = run(*arguments, *option)
            assert ran.code == 2
            assert "--dry-run and --engine ray know only files and folders of this machine" in ran.err


def test_without_fsspec(run, monkeypatch):
    monkeypatch.setattr("waveunet_cli.library.storage.find_spec", lambda name: None)
    ran = run("s3://music")
    assert (ran.code, ran.err) == (
        2,
        "Error: s3://music: an address needs fsspec; install it with: pip install fsspec\n",
    )


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("http", "aiohttp"), ("https", "aiohttp")])
def test_the_package_that_an_address_needs_is_named(run, monkeypatch, scheme, package):
    for name in ("s3fs", "aiohttp"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("fsspec.implementations.http", "s3fs.core"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    ran = run(f"{scheme}://music/a.wav")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.endswith(f"; install it with: pip install {package}\n")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_songs_on_the_web(run, tmp_path):
    pytest.importorskip("aiohttp")
    assert run("m/a.wav", "-o", "here").code == 0
    with serving() as server:
        server.files["/music/a.wav"] = (tmp_path / "m/a.wav").read_bytes()
        ran = run(server.url("/music/a.wav"), "-o", "there")
        assert (ran.code, ran.err, len(ran.stems)) == (0, "", 2)
        for path in ran.stems:
            assert path.read_bytes() == (tmp_path / "here" / path.relative_to("there")).read_bytes()
        assert "skipped" in run(server.url("/music/a.wav"), "-o", "there").err
        server.files["/music/a.wav"] = (tmp_path / "m/cd/b.wav").read_bytes()
        assert len(run(server.url("/music/a.wav"), "-o", "there").stems) == 2
        ran = run(server.url("/none.wav"), "-o", "there")
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert "/none.wav: cannot be looked for (404" in ran.err
        ran = run("m", "-o", server.url("/stems"))
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "stems cannot be written to a page of the web; choose another --out" in ran.err
        gone = server.url("/music/a.wav")
    assert "cannot be looked for (Cannot connect to host" in run(gone, "-o", "there").err


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
