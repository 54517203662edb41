"""`waveunet models`: what it prints, where, and with which exit code."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from golden_files import golden
from tf1_bundle import tensors_of, write_bundle
from waveunet_cli.cli import main
from waveunet_cli.cli.models import command
from waveunet_cli.networks.checkpoint import save_checkpoint
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.wave_u_net.config import M5

GOLDEN = golden("tf/M5")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVEUNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WAVEUNET_MODELS", raising=False)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")


@pytest.fixture
def run(capsys):
    """Run `waveunet models …`; returns exit code, stdout, stderr."""

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main(["models", *map(str, args)])
        return (end.value.code, *capsys.readouterr())

    return run


def test_the_table_has_a_line_a_model(run):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "STEMS", "RATE", "SIZE", "WHERE", "LICENCE", "QUALITY", "(SDR)"]
    (vocals,) = [line for line in lines if line.startswith("vocals ")]
    assert vocals.split()[1:7] == ["accompaniment,vocals", "22.05k", "stereo", "21", "MB", "embedded"]
    (m4,) = [line for line in lines if line.startswith("m4 ")]
    assert "available" in m4
    assert "vocals 4.46, accompaniment 10.69 dB (MUSDB18 test, median over all frames)" in m4


def test_json_says_the_same_to_programs(run):
    described = {model["name"]: model for model in json.loads(run("list", "--json")[1])}
    assert described["vocals"]["where"] == "embedded"
    assert Path(described["vocals"]["path"]).is_file()
    assert described["m4"]["path"] is None
    assert described["m4"]["size_bytes"] == 123160696 + 6094
    assert json.loads(run("info", "m4", "--json")[1]) == described["m4"]


def test_info_shows_licence_attribution_and_what_was_not_seen(run):
    code, out, _ = run("info", "vocals")
    assert code == 0
    assert "licence: MIT" in out
    assert "sample rate in Hz: 22050" in out
    assert "Spleeter 2stems by Deezer Research, MIT" in out
    assert "None" not in run("info", "m5-highsr")[1]
    assert "verified: False" in run("info", "m5-highsr")[1]


def test_listing_imports_neither_torch_nor_an_http_client():
    script = (
        "import sys\nfrom waveunet_cli.cli import main\n"
        "try: main(['models', 'list'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'requests', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stderr.strip() == "[]"


def test_import_list_path_verify_remove(run):
    code, out, err = run("import", GOLDEN, "--name", "mine", "--sample-rate", "16000", "--stems", "band, voice")
    assert (code, out) == (0, "")
    assert "band, voice, 16000 Hz" in err
    (line,) = [line for line in run("list")[1].splitlines() if line.startswith("mine ")]
    assert line.split()[1:3] == ["band,voice", "16k"]
    assert "imported" in line
    assert "installed: origin" in run("info", "mine")[1]
    path = Path(run("path", "mine")[1].strip())
    assert path.is_file()
    assert run("verify") == (0, "4stems: ok\nmine: ok\nvocals: ok\n", "")

    path.write_bytes(path.read_bytes()[:-1] + b"?")
    code, out, err = run("verify")
    assert (code, out) == (1, "4stems: ok\nvocals: ok\n")
    assert err.startswith("Error: mine.safetensors has sha256")
    assert run("remove", "mine") == (0, "", "")
    assert not path.exists()


def test_a_damaged_record_or_card_stops_no_list(run, tmp_path):
    assert run("import", GOLDEN, "--name", "mine")[0] == 0
    assert run("import", GOLDEN, "--name", "other")[0] == 0
    (tmp_path / "cache" / "models" / "mine.json").write_text("{}")
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "bad.toml").write_text("<html>")
    code, out, err = run("list", "--registry", cards)
    assert code == 1
    assert {"vocals", "m4", "other"} <= {line.split()[0] for line in out.splitlines()}
    bad, mine = err.splitlines()
    assert bad.startswith(f"Error: {cards}/bad.toml: is no TOML")
    assert mine.startswith(f"Error: {tmp_path}/cache/models/mine.json: missing: name, stems, ")
    assert "waveunet models remove mine" in mine
    code, out, err = run("verify")
    assert (code, out) == (1, "4stems: ok\nother: ok\nvocals: ok\n")
    assert "mine.json: missing: name" in err
    assert len(json.loads(run("list", "--json")[1])) == len(run("list")[1].splitlines()) - 1


def ours(folder):
    config = replace(M5, levels=1, filters=2)
    save_checkpoint(folder / "a.safetensors", config, build_network(config).state_dict())
    return folder / "a.safetensors"


@pytest.mark.parametrize(
    ("kind", "option", "readers"),
    [
        ("ours", ["--stems", "a,b"], "TensorFlow 1 checkpoint, Spleeter, Keras port, PyTorch port, MSS_WaveUNet"),
        ("ours", ["--sample-rate", "8000"], "TensorFlow 1 checkpoint"),
        ("ours", ["--padding", "same"], "TensorFlow 1 checkpoint"),
        ("bundle", ["--stride", "4"], "PyTorch port"),
        ("port", ["--activation", "linear"], "TensorFlow 1 checkpoint"),
        ("keras", ["--padding", "valid"], "TensorFlow 1 checkpoint"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_an_option_that_a_format_does_not_read_is_refused(run, tmp_path, kind, option, readers, beside):
    path = tmp_path / "a.safetensors"
    if kind == "ours":
        ours(tmp_path)
    elif kind == "bundle":
        path = write_bundle(tmp_path / "m-1", tensors_of(replace(M5, levels=1, filters=2)))
    else:
        path = tmp_path / "model"
        found = "keras/shallow/model.h5" if kind == "keras" else "pytorch/joint_learned/model"
        path.write_bytes(golden(found).read_bytes())
    name, value = option[0].removeprefix("--").replace("-", "_"), option[1]
    if beside:
        written = value if value.isdigit() else value.split(",") if "," in value else f'"{value}"'
        path.with_name(f"{path.name}.waveunet.toml").write_text(f"{name} = {written}")
    code, out, err = run("import", path, "--name", "mine", *([] if beside else option))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"the option {name} ({option[0]}) is for {readers}" in err
    assert run("path", "mine")[0] == 2


@pytest.mark.parametrize("name", ["a\x1b[2Jb.pt", "a\x9bb.pt", "a\u202etp.exe", "a\nb.pt"])
def test_names_never_command_the_terminal(run, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    code, out, err = run("import", tmp_path / name, "--name", "mine")
    assert (code, out) == (1, "")
    assert err.removesuffix("\n").isprintable()


def test_downloading_offline_fails_for_each_model_and_says_so(run):
    code, out, err = run("download", "m4", "m6", "vocals")
    assert (code, out) == (1, "")
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert [line.split()[1] for line in errors] == ["m4:", "m6:"]
    assert all("network is switched off" in line for line in errors)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["download"], "by their names, or by --all; give one"),
        (["download", "m4", "--all"], "by their names, or by --all; give one"),
        (["info", "m44"], "did you mean"),
        (["path", "nonesuch"], "no such model"),
        (["import", "x"], "--name"),
        (["import", "x", "--name", "mine", "--stems", "a"], "two or more"),
        (["import", "x", "--name", "mine", "--stems", "a,a"], "two or more"),
        (["import", "x", "--name", "mine", "--sample-rate", "1"], "sample_rate: found 1; expected a whole number from"),
        (["import", "x", "--name", "mine", "--stride", "4.5"], "--stride"),
        (["import", "x", "--name", "mine", "--stems", "a,../b"], "stems: found ('a', '../b'); expected two or more"),
        (["info", "a\nb"], r"'a\nb': no such model"),
        (["remove", "../models"], "no such model"),
        (["list", "--registry", "http://[bad/"], "neither a folder"),
        (["import", "x", "--name", "Mine"], "lower-case"),
        (["list", "--registry", "/nonesuch"], "neither a folder"),
    ],
)
def test_usage_errors_exit_with_2(run, arguments, complaint):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["path", "m4"], ["verify", "m4"], ["remove", "m4"]])
def test_a_model_that_is_not_here_is_an_error_in_one_line(run, arguments):
    code, out, err = run(*arguments)
    assert code in (1, 2)
    assert out == ""
    assert err.startswith("Error: m4: ")
    assert err.count("\n") == 1


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def damaged(folder, kind):
    tensors, kernel = tensors_of(replace(M5, levels=1, filters=2)), "separator/conv1d/kernel"
    if kind == "NaN":
        tensors[kernel][3] = np.nan
    elif kind == "float64":
        tensors[kernel] = tensors[kernel].astype(np.float64)
    elif kind == "pickle":
        (folder / "model").write_bytes(pickle.dumps({"model_state_dict": Trap(folder / "it ran")}))
        return folder / "model"
    prefix = write_bundle(folder / "m-1", tensors)
    if kind == "truncated":
        data = folder / "m-1.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:-1])
    return prefix


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("NaN", "holds NaN"),
        ("float64", "no whole float32 tensor"),
        ("truncated", "truncated or of another checkpoint"),
        ("pickle", "nothing in it was run"),
    ],
)
def test_what_is_not_what_it_claims_is_refused_in_one_line_and_never_run(run, tmp_path, kind, complaint):
    code, out, err = run("import", damaged(tmp_path, kind), "--name", "mine")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert complaint in err
    assert not (tmp_path / "it ran").exists()
    assert run("path", "mine")[0] == 2


def test_every_option_and_command_has_help():
    for sub in command.commands.values():
        assert sub.help, sub.name
        assert all(option.help for option in sub.params if isinstance(option, click.Option)), sub.name
