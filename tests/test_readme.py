"""The pages say what the program says: tables, commands, examples, links, and the names of files."""

import re
import runpy
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile

from small_models import TINY, network_of
from waveunet_cli.cli import group
from waveunet_cli.networks.checkpoint import save_checkpoint

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "waveunet_cli"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def named(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page, language):
    """The code blocks of a page, those of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_what_is_generated_is_up_to_date():
    for path, text in runpy.run_path(str(ROOT / "scripts" / "reference.py"))["pages"]().items():
        assert path.read_text(encoding="utf-8") == text, "run: python scripts/reference.py"


def test_the_readme_is_short_and_begins_with_use():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert any("waveunet separate song" in line for line in lines[:15])


def test_the_architecture_is_one_screen():
    assert len((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()) <= 100


def anchors(page):
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@named(PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@named([page for page in PAGES if page.name != "CHANGELOG.md"])  # it tells of files that are gone
def test_files_that_a_page_names_exist(page):
    """In backticks: a path in the repository, or below src/waveunet_cli."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"`((?:\w[\w.-]*/)+[\w.-]*|\w+\.(?:py|toml|md|txt))`", text):
        assert any((root / name).exists() for root in (ROOT, PACKAGE)), name


def commands_shown():
    """The words of every line `waveunet …` in the pages' code."""
    lines = [line for page in PAGES for block in blocks(page, "") for line in block.splitlines()]
    lines = [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("waveunet ")]


@pytest.mark.parametrize("words", commands_shown(), ids=" ".join)
def test_commands_that_a_page_shows_are_understood(words):
    """Parsed, not run."""
    command, context = group, click.Context(group)
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, name
    command.make_context(name, words, parent=context)


@pytest.mark.parametrize("code", blocks(ROOT / "README.md", "python"))
def test_python_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "vocals.safetensors", TINY, network_of(TINY).state_dict())
    noise = 0.1 * np.random.default_rng(0).standard_normal((3000, 2))
    soundfile.write("song.flac", noise, 8000)
    Path("albums").mkdir()
    soundfile.write("albums/song.wav", noise, 8000)
    exec(code.replace('Separator("vocals"', 'Separator("vocals.safetensors"'), {})
