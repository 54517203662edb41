"""What may import what, what --help must not load, and that everything public is named and explained."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import waveunet_cli
from waveunet_cli.cli import group

PACKAGE = Path(waveunet_cli.__file__).parent

# Each room imports only rooms of lines above its own, and its own.
HOUSE = [
    ["errors", "events", "files"],
    ["devices"],
    ["audio", "networks"],
    ["importers", "streaming"],
    ["hub"],
    ["library"],
    ["separator"],
    ["datasets"],
    ["training", "evaluate"],
    ["cli"],
    ["__main__"],
]
LEVEL = {subject: level for level, subjects in enumerate(HOUSE) for subject in subjects}
NO_TORCH = ["errors", "files", "audio", "events"]


def imports(path):
    """The modules a file imports, by full name, wherever in it; not what is for type checkers only."""
    tree = ast.parse(path.read_text())
    package = ["waveunet_cli", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def subject_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_flow_one_way(path):
    subject = subject_of(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("waveunet_cli.")}
    used = {name for name in used if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()} - {subject}
    against = {name for name in used if LEVEL[name] > LEVEL[subject]}
    assert not against, f"{subject} is below {against}"


def test_subjects_of_one_line_do_not_import_each_other_in_circles():
    edges = {subject: set() for subject in LEVEL}
    for path in FILES:
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "waveunet_cli" and len(parts) > 1 and parts[1] in LEVEL:
                edges[subject_of(path)].add(parts[1])
    done = []
    while len(done) < len(edges):
        free = [subject for subject in edges if subject not in done and edges[subject] <= {subject, *done}]
        assert free, f"circle among {set(edges) - set(done)}"
        done += free


@pytest.mark.parametrize("subject", NO_TORCH)
def test_what_knows_no_torch(subject):
    files = [path for path in FILES if subject_of(path) == subject]
    assert files
    assert not [path for path in files if any(name.split(".")[0] == "torch" for name in imports(path))]


def test_only_the_command_line_prints():
    assert not [
        path
        for path in FILES
        if subject_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["separate", "--help"], ["models", "--help"], ["models", "list"], []]
)
def test_help_loads_nothing_heavy(arguments, tmp_path):
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
        "from waveunet_cli.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path), "WAVEUNET_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment},
    )
    assert done.returncode == (0 if arguments else 2), done.stderr
    said, _, modules = done.stdout.strip().rpartition("\n")
    assert (said + done.stderr).strip()
    loaded = {name.split(".")[0] for name in json.loads(modules)}
    assert "waveunet_cli" in loaded
    assert not loaded & {"torch", "numba", "resampy", "scipy", "librosa"}


def test_all_names_are_sorted_public_and_there():
    assert waveunet_cli.__all__ == sorted(waveunet_cli.__all__)
    for name in waveunet_cli.__all__:
        assert getattr(waveunet_cli, name).__name__ == name
    errors = {name for name in vars(waveunet_cli) if name.endswith("Error")}
    assert errors | waveunet_cli._LAZY.keys() == set(waveunet_cli.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'separate_everything'"):
        waveunet_cli.separate_everything  # noqa: B018


def test_the_error_tree_is_drawn_as_it_is():
    from waveunet_cli import errors

    names = [word for word in errors.__doc__.split() if word.endswith("Error")]
    classes = {name: thing for name, thing in vars(errors).items() if isinstance(thing, type)}
    assert sorted(names) == sorted(classes)
    for name, thing in classes.items():
        assert issubclass(thing, errors.WaveUNetError)
        assert name in waveunet_cli.__all__
        assert thing.__doc__


def commands(command, path=()):
    yield " ".join(path) or "waveunet", command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


COMMANDS = dict(commands(group))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name):
    command = COMMANDS[name]
    assert command.help
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


def test_an_unknown_command_is_a_usage_error(waveunet):
    ran = waveunet("divide", "song.wav")
    assert ran.code == 2
    assert "No such command 'divide'" in ran.err


def test_the_version(waveunet):
    assert waveunet("--version").out == f"waveunet, version {waveunet_cli.__version__}\n"
