"""The README says what the program says."""

import runpy
from pathlib import Path

import click
import pytest

from waveunet_cli.cli import group

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(command=group, name="waveunet"):
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            yield from commands(command.get_command(context, child), f"{name} {child}")


def test_models_and_reference_are_up_to_date():
    updated = runpy.run_path(str(ROOT / "scripts" / "reference.py"))["updated"]
    assert updated(README) == README, "run: python scripts/reference.py"


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_has_its_reference(name):
    assert f"### `{name}`\n" in README


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value))
def test_every_command_and_option_has_help(name, command):
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]}"


def test_files_that_the_readme_names_exist():
    for path in ("scripts/demo", "scripts/test", "constraints.txt", "examples/francium.png"):
        assert path in README
        assert (ROOT / path).is_file()
