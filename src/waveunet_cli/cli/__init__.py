"""The command line: `waveunet COMMAND …`. Commands load when they are asked for; --help never imports torch."""

import ctypes
import errno
import gc
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import click

import waveunet_cli
from waveunet_cli.cli.console import standard_streams
from waveunet_cli.cli.terminal import say, say_failed
from waveunet_cli.errors import ConfigError, DeviceError, ModelNotFoundError, WaveUNetError

COMMANDS = {
    "separate": "Separate songs into stems.",
    "listen": "Write pages to listen to separated songs.",
    "plot": "Draw separated songs as spectrograms.",
    "models": "List, fetch, check and import models.",
    "train": "Train a network on a data set.",
    "evaluate": "Score separations of a test set.",
}

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

M_ARENA_MAX = -8  # of glibc's mallopt
# How often a thread of torch's team (GNU OpenMP) looks out for the others before it sleeps, instead of 300 000 times.
# Who looks out keeps a processor busy. If another program needs that, the thread that all wait for may not get it.
SPINS = "30000"


@contextmanager
def loading_torch() -> Iterator[None]:
    """Let torch load without a search for garbage among all that it defines, at that time and ever after.

    The last search, when the process ends, takes a fifth of the time in which torch loads. And let all threads share
    one heap, for each heap keeps what is free in it: some 10 MB of 430.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        libc.mallopt(M_ARENA_MAX, 1)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Commands(click.Group):
    """Finds command NAME in waveunet_cli.cli.NAME, as `command`, when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(waveunet_cli.__version__, "-V", "--version", prog_name="waveunet")
def group() -> None:
    """Separate songs into stems with the Wave-U-Net."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console command. Exit codes: 0 all done, 1 something failed, 2 usage, 130 interrupted.

    May be called in any thread, with any standard output and standard error, or none.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch loads
    with standard_streams() as printed:
        code = _exit_code(arguments)
        if printed.error is not None and printed.error.errno != errno.EPIPE:  # who closed a pipe has read enough
            say(f"Error: standard output: cannot be written ({printed.error.strerror}); what it says is cut", err=True)
            code = code or EXIT_FAILED
    sys.exit(code)


def _exit_code(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _require_no_empty(arguments)
        # Outside its standalone mode Click leaves errors to us and returns the code given to Exit.
        return group.main(arguments, prog_name="waveunet", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # the help
        return error.exit_code
    except click.ClickException as error:
        say_failed(ConfigError(_wrong_usage(error, arguments)))
        return error.exit_code
    except (ConfigError, DeviceError, ModelNotFoundError) as error:
        say_failed(error)
        return EXIT_USAGE
    except WaveUNetError as error:
        say_failed(error)
        return EXIT_FAILED
    except OSError as error:
        if error.filename is None:
            raise
        # such as any file in a folder that may not be entered
        say_failed(OSError(f"{error.filename}: cannot be used ({error.strerror}); check the path and its permissions"))
        return EXIT_FAILED
    except (KeyboardInterrupt, click.Abort):
        say("Interrupted; no half-written file is left.", err=True)
        return EXIT_INTERRUPTED


def _require_no_empty(arguments: Sequence[str]) -> None:
    """Raise ConfigError for an argument that is an empty text: as a path it would be the folder that one is in."""
    for place, argument in enumerate(arguments):
        if not argument or re.fullmatch(r"--[\w-]+=", argument):
            raise ConfigError(
                f"waveunet: {argument or f'argument {place + 1}'} is empty; give it a value, or leave it out (is a "
                "variable of the shell unset?)"
            )


def _wrong_usage(error: click.ClickException, arguments: Sequence[str]) -> str:
    """What is wrong with the arguments, on one line. Our own messages have their remedy behind a semicolon."""
    message = " ".join(error.format_message().split()).removesuffix(".")
    asked: click.Command | None = group
    path = ["waveunet"]
    for word in arguments:
        asked = asked.get_command(click.Context(asked), word) if isinstance(asked, click.Group) else None
        if asked is None:
            break
        path.append(word)
    where = " ".join(path)
    if "; " in message:
        return f"{where}: {message}"
    message = re.sub(r"\.? \(?D(id you mean .*\?)\)?$", r"; d\1", message)
    return f"{where}: {message}{' See' if message.endswith('?') else '; see'} '{where} --help'"
