"""Text on the terminal; no other module prints. Results go to stdout, all else to stderr.

What a terminal would obey instead of showing it becomes a question mark: names, tags and messages come from outside.
"""

import os
import sys

import click

from waveunet_cli.text import in_line, plain


def say(text: str, *, err: bool = False) -> None:
    """Print a line, or several."""
    click.echo(plain(text), err=err)


def say_failed(error: Exception) -> None:
    """Print why something failed, on one line of stderr."""
    say(in_line(f"Error: {error}"), err=True)


def say_above_bar(text: str) -> None:
    """Print one line on stderr, above the bar if there is one."""
    from tqdm import tqdm  # not needed by most commands

    tqdm.write(in_line(text), file=sys.stderr)


def say_path(line: str) -> None:
    """Print a line that holds a path, as it is for who reads it; if it is no text, its bytes are printed."""
    if getattr(sys.stdout, "isatty", bool)():
        click.echo(in_line(line))
    else:
        click.echo(os.fsencode(line) if hasattr(sys.stdout, "buffer") else line)
