"""What may import what, what --help must not load, and that everything public is named and explained."""

import ast
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile

import waveunet_cli
from small_models import TINY, model_of
from waveunet_cli.cli import SPINS, group, loading_torch, main
from waveunet_cli.networks.checkpoint import save_checkpoint

PACKAGE = Path(waveunet_cli.__file__).parent

ARCHITECTURE = PACKAGE.parents[1] / "docs" / "architecture.md"


def import_table():
    """The rooms in the order of the table of docs/architecture.md, and whether each imports torch."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text.partition("<!-- who may import whom -->\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \|", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) - 2, "a row of the table is not understood"
    return {room: torch == "yes" for room, torch in rows}


IMPORTS_TORCH = import_table()
ROOMS = list(IMPORTS_TORCH)


def package_of(path):
    return ["waveunet_cli", *path.relative_to(PACKAGE).parent.parts]


def origin(node, package):
    """The full name of the module that `from … import` takes names from."""
    above = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def imports(path):
    """The modules a file imports, by full name, wherever in it; not what is for type checkers only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = origin(node, package_of(path))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(path):
    """The room a file is in: a folder of the package, or a file beside these."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def test_the_table_names_every_room_once():
    assert sorted(ROOMS) == sorted({room_of(path) for path in FILES})


@each_file
def test_imports_flow_one_way(path):
    room = room_of(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("waveunet_cli.")} & {*ROOMS}
    against = used - {*ROOMS[: ROOMS.index(room) + 1]}
    assert not against, f"{room} stands above {against} in the table of docs/architecture.md"


@pytest.mark.parametrize("room", ROOMS)
def test_what_imports_torch(room):
    files = [path for path in FILES if room_of(path) == room]
    assert IMPORTS_TORCH[room] == any(name.split(".")[0] == "torch" for path in files for name in imports(path))


def private(name):
    return name.startswith("_") and not name.endswith("__")


def private_uses(tree, package):
    """The private names of other modules that a module's code mentions: imported, or read from an imported module."""
    modules = {}  # what a name stands for in this module
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = origin(node, package)
            for alias in node.names:
                if module.split(".")[0] == "waveunet_cli" and private(alias.name):
                    yield f"{module}.{alias.name}"
                modules[alias.asname or alias.name] = f"{module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            module = modules.get(ast.unparse(node.value), "")
            if is_module(module):
                yield f"{module}.{node.attr}"


def is_module(name):
    parts = name.split(".")
    place = PACKAGE.joinpath(*parts[1:])
    return parts[0] == "waveunet_cli" and (place.is_dir() or place.with_suffix(".py").is_file())


@each_file
def test_nothing_private_is_used_elsewhere(path):
    assert not list(private_uses(ast.parse(path.read_text()), package_of(path)))


@pytest.mark.parametrize(
    "code",
    [
        "from waveunet_cli.files import _secret",
        "from waveunet_cli import files\nfiles._secret()",
        "import waveunet_cli.files\nwaveunet_cli.files._secret()",
        "import waveunet_cli.files as f\nf._secret = 1",
        "from ..files import _secret",
        "from .. import files\nx = files._secret",
    ],
)
def test_private_uses_are_found(code):
    assert list(private_uses(ast.parse(code), ["waveunet_cli", "audio"])) == ["waveunet_cli.files._secret"]
    assert not list(private_uses(ast.parse(code.replace("_secret", "open")), ["waveunet_cli", "audio"]))


def test_only_the_command_line_prints():
    assert not [
        path
        for path in FILES
        if room_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["--version"], ["separate", "--help"], ["listen", "--help"], ["plot", "--help"]),
        *(["models", "--help"], ["models", "list"], []),
    ],
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
    assert not loaded & {"torch", "numba", "resampy", "scipy", "librosa", "av", "mutagen", "matplotlib", "PIL"}
    assert not [name for name in json.loads(modules) if name.startswith("waveunet_cli.listen")]


def test_a_song_loads_only_what_it_needs_and_waits_briefly_for_threads(tmp_path, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    save_checkpoint(tmp_path / "tiny.safetensors", TINY, model_of(TINY).network.state_dict())
    soundfile.write(tmp_path / "song.wav", np.zeros((100, 1)), 8000)
    code = (
        "import atexit, gc, json, sys\n"
        "def last(): print('\\n' + json.dumps([gc.isenabled(), gc.get_freeze_count(), sorted(sys.modules)]))\n"
        "atexit.register(last)\n"
        "from waveunet_cli.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "separate", "song.wav", "-n", "./tiny.safetensors", "-q", "-d", "cpu"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr or "GOMP_" not in done.stderr  # torch's OpenMP may be another
    collects, frozen, modules = json.loads(done.stdout.splitlines()[-1])
    assert collects
    assert frozen > 100_000  # torch's, in which the last search for garbage would take its time
    assert not {name.split(".")[0] for name in modules} & {"fsspec", "numba", "ray", "requests", "resampy", "scipy"}
    families = {f"waveunet_cli.networks.{name}" for name in ("keras_port", "mss", "pytorch_port", "spectrogram_u_net")}
    assert "waveunet_cli.networks.wave_u_net.network" in modules
    assert not families & {*modules}


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_who_says_how_long_threads_wait_is_heard(name, monkeypatch):
    for other in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "5")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ[name] == "5"
    assert {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() == {name}


def test_torch_that_is_there_already_is_not_frozen():
    before = gc.get_freeze_count()
    with loading_torch():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before


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


def test_commands_print_through_one_file():
    """cli/terminal.py takes from texts what a terminal would obey."""
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        if path.name != "terminal.py":
            assert not re.search(r"click\.s?echo|tqdm\.write|\bprint\(", path.read_text(encoding="utf-8")), path
