"""A batch on a real Ray cluster of this machine."""

import contextlib
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 8000
LONG = 400  # seconds


@pytest.fixture
def here(here, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for index, seconds in enumerate((LONG, 3, 1, LONG, 2, 1)):
        samples = np.random.default_rng(index).standard_normal(seconds * RATE) * 0.3
        (here / "m").mkdir(exist_ok=True)
        soundfile.write(here / "m" / f"{index}.wav", samples, RATE)
    return here


@pytest.fixture
def cluster():
    """A Ray cluster of two nodes with one core each; a line on its standard input adds a third."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    command = [sys.executable, Path(__file__).with_name("ray_nodes.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as nodes:
        nodes.address = nodes.stdout.readline().strip()
        yield nodes


def batch(*arguments):
    command = [sys.executable, "-m", "waveunet_cli", "separate", "-n", "tiny.safetensors", "-d", "cpu", "m"]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def stems(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in Path(out).rglob("*.wav")}


def workers_of(cluster):
    """The processes of the cluster's actors: Ray titles them so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                raylet = parent_of(int(folder.name))
                if cluster.pid in (raylet, parent_of(raylet)):
                    found.append(int(folder.name))
    return found


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_a_worker_dies_and_one_is_added(here, cluster):
    plain = batch("-o", "here", "-j", "1", "-q")
    plain.communicate()
    assert plain.returncode == 0
    ray = ["--engine", "ray", "--ray-address", cluster.address, "--worker-cores", "1"]
    process = batch("-o", "there", *ray, "--progress", "json")
    while not list(here.glob("there/**/.waveunet-*.part")):  # somebody is in the middle of a song
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    victims = workers_of(cluster)
    assert victims
    os.kill(victims[0], 9)
    cluster.stdin.write("one more\n")
    cluster.stdin.flush()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert len(out.splitlines()) == 12
    assert stems("there") == stems("here")
    assert not [path for path in here.glob("there/**/.*") if path.suffix != ".json"]  # neither locks nor parts
    told = [json.loads(line) for line in err.splitlines()]
    assert [event["event"] for event in (told[0], told[-1])] == ["batch_start", "summary"]
    assert told[-1]["done"] == 6
    assert any(event["event"] == "progress" for event in told)
    again = batch("-o", "there", *ray, "-q", "--progress", "json")
    _, err = again.communicate()
    assert json.loads(err.splitlines()[-1])["skipped"] == 6  # the same manifests, whatever engine


@pytest.mark.slow
def test_a_batch_on_a_cluster_is_interrupted_cleanly(here, cluster):
    process = batch("-o", "there", "--engine", "ray", "--ray-address", cluster.address, "--worker-cores", "1")
    while not list(here.glob("there/**/.waveunet-*.part")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Interrupted; no half-written file is left." in err
    assert not list(here.glob("there/**/.waveunet-*.part"))


@pytest.mark.slow
def test_a_cluster_started_here_with_a_bad_song(here):
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    (here / "m/3.wav").write_text("no song")
    (here / "m/0.wav").unlink()
    process = batch("--engine", "ray", "--worker-cores", "1")
    out, err = process.communicate()
    assert process.returncode == 1
    assert len(out.splitlines()) == 8
    assert "Error: m/3.wav: no audio that libsndfile or ffmpeg can read" in err
    process = batch("--engine", "ray", "--worker-cores", "10000")
    out, err = process.communicate()
    assert process.returncode == 2
    assert "Error: a worker needs 10000 CPU, the Ray cluster has " in err
    assert "Traceback" not in err


def test_without_ray(here, waveunet, monkeypatch):
    monkeypatch.setattr("waveunet_cli.library.batch.find_spec", lambda name: None)
    ran = waveunet("separate", "-n", "tiny.safetensors", "m", "--engine", "ray")
    assert ran.code == 2
    assert "Error: --engine ray needs Ray; install it with: pip install ray" in ran.err
