"""The command line: `waveunet COMMAND …`. Commands load when they are asked for; --help never imports torch."""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

import waveunet_cli
from waveunet_cli.cli.terminal import say_failed
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
    """The console command. Exit codes: 0 all done, 1 something failed, 2 usage, 130 interrupted."""
    try:
        # Outside its standalone mode Click leaves errors to us and returns the code given to Exit.
        code = group.main(arguments, prog_name="waveunet", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (ConfigError, DeviceError, ModelNotFoundError) as error:
        say_failed(error)
        code = EXIT_USAGE
    except WaveUNetError as error:
        say_failed(error)
        code = EXIT_FAILED
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; no half-written file is left.", err=True)
        code = EXIT_INTERRUPTED
    sys.exit(code)
