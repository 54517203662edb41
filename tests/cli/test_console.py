"""The command wherever it runs: without a console, in a thread, in another program, with an output that is gone."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batch_songs import song
from waveunet_cli.cli import console, main

SEPARATE = ["separate", "-n", "tiny.safetensors", "-d", "cpu", "-j", "1"]
STEMS = ("accompaniment", "vocals")
COMMAND = f"{sys.executable} -m waveunet_cli {' '.join(SEPARATE)}"


@pytest.fixture(autouse=True)
def here(here):
    """An empty folder with a small model and two songs of two blocks."""
    for name in ("a", "ë"):
        song(here / "m" / f"{name}.wav")
    return here


def stems(*tracks, out="separated"):
    return [f"{out}/tiny/{track}/{stem}.wav" for track in tracks for stem in STEMS]


def parts(folder):
    return [path for path in Path(folder).rglob("*") if path.suffix in (".part", ".lock")]


def code_of(arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code


def shell(command, **environment):
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, env={**os.environ, **environment}, timeout=120, check=False
    )


# --- no console


def test_closed_streams():
    """What a library writes to standard error would be in a stem, had the stem's file got the number 2."""
    program = "import os; from waveunet_cli.cli.console import standard_streams as streams\nwith streams(): {}"
    done = shell(f'{sys.executable} -c "{program.format("print(os.open(os.devnull, 0))")}" 2>&- <&-')
    assert int(done.stdout) > 2
    done = shell(f"{COMMAND} m <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert all(Path(path).is_file() for path in stems("a", "ë"))


@pytest.mark.parametrize("options", [[], ["--progress", "json"], ["-v"]])
def test_streams_that_are_none(monkeypatch, options):
    """As under pythonw, and in services of Windows."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert code_of([*SEPARATE, "m", *options]) == 0
    assert code_of([*SEPARATE, "none.wav", *options]) == 1
    assert code_of(["separate"]) == 2
    assert code_of(["models", "list"]) == 0
    assert (sys.stdout, sys.stderr) == (None, None)
    assert all(Path(path).is_file() for path in stems("a", "ë"))


def test_streams_that_were_closed(monkeypatch):
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO())
        stream.close()
        monkeypatch.setattr(sys, name, stream)
    assert code_of([*SEPARATE, "m"]) == 0


# --- inside another program


class Bare:
    """All that contextlib.redirect_stdout needs."""

    def __init__(self):
        self.text = ""
        self.closed = False

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(type(text))
        self.text += text

    def flush(self):
        pass

    def getvalue(self):
        return self.text


@pytest.mark.parametrize("kind", [io.StringIO, Bare])
def test_redirected_streams_of_text(kind):
    out, err = kind(), kind()
    Path("m/ë.wav").rename(os.fsdecode(b"m/\xe9.wav"))  # no text in any encoding
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert code_of([*SEPARATE, "m", "none.wav", "-v"]) == 1
        assert code_of([*SEPARATE, "m", "--dry-run", "--overwrite", "always"]) == 0
    printed = out.getvalue().splitlines()
    assert printed[:4] == stems("a", os.fsdecode(b"\xe9"))
    assert "× real time" in printed[-1]
    assert "Error: none.wav: no such file or folder; check the path\n" in err.getvalue()


def test_sound_needs_streams_of_bytes(monkeypatch, capsys):
    for stream in (None, io.StringIO("RIFF")):
        monkeypatch.setattr(sys, "stdin", stream)
        assert code_of([*SEPARATE, "-"]) == 1
        assert capsys.readouterr().err == "Error: standard input: there is none, or it is text; name a file\n"
    with contextlib.redirect_stdout(io.StringIO()):
        assert code_of([*SEPARATE, "m/a.wav", "--stdout", "vocals"]) == 2
    assert "--stdout: standard output takes only text here" in capsys.readouterr().err
    with printing_to(monkeypatch, "stdout", full_disk()):
        assert code_of([*SEPARATE, "m/a.wav", "--stdout", "vocals"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "Error: standard output: cannot be written (No space left on device); what it says is cut"
    with printing_to(monkeypatch, "stdout", unread_pipe()):
        assert code_of([*SEPARATE, "m/a.wav", "--stdout", "vocals"]) == 0


def test_a_stream_gets_its_own_back(capfd):
    before = sys.stdout, sys.stderr
    assert code_of([*SEPARATE, "m"]) == 0
    assert (sys.stdout, sys.stderr) == before
    print("still open")
    assert capfd.readouterr().out.endswith("still open\n")


def test_off_the_main_thread():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    codes = []

    def run():
        try:
            main([*SEPARATE, "m"])
        except SystemExit as left:
            codes.append(left.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert all(Path(path).is_file() for path in stems("a", "ë"))


def test_interrupts_end_with_the_command():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert code_of([*SEPARATE, "m"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# --- standard output is gone


def test_a_reader_that_has_read_enough():
    done = shell(f"{COMMAND} m | head -n 1; echo ${{PIPESTATUS[0]}}")
    assert done.stdout.decode().splitlines() == [stems("a")[0], "0"]
    assert done.stderr == b""
    assert all(Path(path).is_file() for path in stems("a", "ë"))


def unread_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def full_disk():
    return Path("/dev/full").open("w")


@contextlib.contextmanager
def printing_to(monkeypatch, name, stream):
    with monkeypatch.context() as patched:
        patched.setattr(sys, name, stream)
        yield
    stream.close()  # nothing is left in its buffer, which would fail now


@pytest.mark.parametrize(
    "arguments",
    [
        [*SEPARATE, "m"],
        [*SEPARATE, "m", "--progress", "json"],
        [*SEPARATE, "m", "--dry-run"],
        ["models", "list"],
        ["models", "info", "vocals"],
        ["--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_an_output_that_is_gone(monkeypatch, capsys, arguments):
    """The work is done all the same. That a disk is full is an error; that nobody reads on is none."""
    line = "Error: standard output: cannot be written (No space left on device); what it says is cut"
    with printing_to(monkeypatch, "stdout", full_disk()):
        assert code_of(arguments) == 1
    *before, last = capsys.readouterr().err.splitlines()
    assert last == line
    assert not before or "json" in arguments
    with printing_to(monkeypatch, "stdout", unread_pipe()):
        assert code_of(arguments) == 0
    assert line not in capsys.readouterr().err
    assert all(Path(path).is_file() for path in stems("a", "ë")) or "m" not in arguments or "--dry-run" in arguments


@pytest.mark.parametrize("stream", [full_disk, unread_pipe])
def test_standard_error_is_gone(monkeypatch, capsys, stream):
    for options in ([], ["--progress", "json"], ["-v"]):
        with printing_to(monkeypatch, "stderr", stream()):
            assert code_of([*SEPARATE, "m", "none.wav", "--overwrite", "always", *options]) == 1
        assert capsys.readouterr().out.splitlines() == stems("a", "ë")


def test_a_stream_that_takes_a_part():
    class Slow(io.RawIOBase):
        taken = b""

        def write(self, data):
            self.taken += bytes(data[:3])
            return min(3, len(data))

    slow = Slow()
    assert console.Printed(slow).write(b"0123456789") == 10
    assert slow.taken == b"0123456789"


# --- code pages


@pytest.mark.parametrize("page", ["cp437", "cp1252", "ascii", "cp932"])
def test_code_pages_that_lack_characters(monkeypatch, page):
    """What Windows uses for redirected output lacks × or ë."""
    for out, arguments in (("a", ["m"]), ("b", ["m", "--dry-run"]), ("c", ["m", "none_ë.wav", "-v"])):
        printed = io.BytesIO(), io.BytesIO()
        for name, stream in zip(("stdout", "stderr"), printed, strict=True):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, page))
        assert code_of([*SEPARATE, "-o", out, *arguments]) == (1 if "-v" in arguments else 0)
        said = [stream.getvalue() for stream in printed]
        assert said[0].count(b"\n") == (3 if "--dry-run" in arguments else 4)
        assert "ë".encode() in said[0]  # a path's own bytes
        text = "utf-8" if page == "ascii" else page  # click mends that one
        assert ("×".encode(text, "backslashreplace") in said[0]) == ("--dry-run" in arguments)
        assert ("ë".encode(text, "backslashreplace") in said[1]) == ("-v" in arguments)


# --- drives and systems with fewer abilities


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("options", [[], ["--progress", "json"]])
def test_a_drive_without_locks(waveunet, monkeypatch, number, options):
    """As network drives are mounted: it is said once, and nothing stays behind."""
    import fcntl

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    ran = waveunet(*SEPARATE, "m", *options)
    text = "separated: this drive has no locks; let only one batch at a time write there"
    assert (ran.code, ran.out.splitlines()) == (0, stems("a", "ë"))
    said = [json.loads(line).get("text") for line in ran.err.splitlines()] if options else ran.err.splitlines()
    assert said.count(text) == 1
    assert len(said) == 1 or options
    assert not parts("separated")
    assert "2 of 2 songs skipped" in waveunet(*SEPARATE, "m").err


def test_what_a_killed_process_left_is_removed_without_locks(waveunet, monkeypatch):
    test_a_drive_without_locks(waveunet, monkeypatch, errno.ENOLCK, [])
    folder = Path("separated/tiny/a")
    (manifest,) = folder.glob(".waveunet-*.json")
    manifest.with_suffix(".lock").touch()
    manifest.with_name(f"{manifest.stem}-123.part").touch()
    assert waveunet(*SEPARATE, "m/a.wav").code == 0
    assert not parts("separated")


def test_other_errors_of_a_lock_are_errors(waveunet, monkeypatch):
    import fcntl

    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    ran = waveunet(*SEPARATE, "m/a.wav")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "Input/output error" in ran.err


def test_a_system_that_deletes_no_held_lock(waveunet, monkeypatch):
    """Windows: a file that is open cannot be unlinked. POSIX systems say what is open by flock."""
    import fcntl

    unlink = Path.unlink
    refused = []

    def as_windows(path, missing_ok=False):
        if path.suffix == ".lock" and path.exists():
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    refused.append(path)
                    raise PermissionError(errno.EACCES, "used by another process", str(path)) from None
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", as_windows)
    ran = waveunet(*SEPARATE, "m")
    assert (ran.code, ran.out.splitlines(), ran.err) == (0, stems("a", "ë"), "")
    assert len(refused) == 2
    assert not parts("separated")
    assert "2 of 2 songs skipped" in waveunet(*SEPARATE, "m").err


def test_a_system_without_what_only_posix_has(waveunet, monkeypatch):
    for name in ("pread", "pwrite", "preadv", "pwritev", "sched_getaffinity", "posix_fadvise", "sysconf", "mkfifo"):
        monkeypatch.delattr(os, name)
    for container in ("wav", "ogg"):
        ran = waveunet(*SEPARATE, "m", "--format", container)
        assert (ran.code, ran.err, len(ran.stems)) == (0, "", 4)
