"""Shared fixtures: one core for torch, and the command line run inside this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

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
