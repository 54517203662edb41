"""Shared fixtures: one core for torch and numpy, and the command line run inside this process."""

import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy loads

import pytest
import torch

from small_models import TINY, network_of
from waveunet_cli.networks.checkpoint import save_checkpoint
from waveunet_cli.networks.family import Model

torch.set_num_threads(1)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def stems(self) -> list[Path]:
        return [Path(line) for line in self.out.splitlines()]


@pytest.fixture
def waveunet(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `waveunet …` in this process: exit code, standard output, standard error. Exceptions pass through."""
    from waveunet_cli.cli import main

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return Ran(code, said.out, said.err)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty but for a small model, tiny.safetensors; no test in it may use the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    config = replace(TINY, output="difference")
    save_checkpoint(tmp_path / "tiny.safetensors", config, network_of(config).state_dict())
    return tmp_path


@pytest.fixture
def run(waveunet: Callable[..., Ran], here: Path) -> Callable[..., Ran]:
    """Run `waveunet separate …` in that folder with its model."""
    return lambda *arguments: waveunet("separate", "-n", "tiny.safetensors", "-d", "cpu", *arguments)


@pytest.fixture
def imported(waveunet: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """A checkpoint taken through `waveunet models import`, with options, then opened by name; its cache is its own."""
    from waveunet_cli.hub import load_model

    monkeypatch.setenv("WAVEUNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    monkeypatch.delenv("WAVEUNET_MODELS", raising=False)

    def imported(path: Path, *options: object, name: str = "mine") -> Model:
        ran = waveunet("models", "import", path, "--name", name, *options)
        assert (ran.code, ran.out) == (0, ""), ran.err
        return load_model(name)

    return imported


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What a script of benchmarks/ defines; if arguments are given, after its main() has run with them."""
    return scripts_of("benchmarks", monkeypatch)


def scripts_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    folder = Path(__file__).parents[1] / name
    monkeypatch.syspath_prepend(str(folder))  # they import each other

    def run(name: str, *arguments: object) -> dict[str, Any]:
        defined = runpy.run_path(str(folder / f"{name}.py"))
        if arguments:
            monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
            defined["main"]()
        return defined

    return run
