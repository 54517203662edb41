"""Text on the terminal. Results go to stdout, all else to stderr."""

import os
import sys

import click

from waveunet_cli.text import plain


def say(text: str, *, err: bool = False) -> None:
    """Print a line, or several. What a terminal would obey instead of showing it becomes a question mark."""
    click.echo(plain(text), err=err)


def say_failed(error: Exception) -> None:
    """Print why something failed, on one line of stderr."""
    say(f"Error: {error}".replace("\n", "?"), err=True)


def say_path(line: str) -> None:
    """Print a line that holds a path: bytes as they are, since a path need not be text in the terminal's encoding."""
    click.echo(os.fsencode(line) if hasattr(sys.stdout, "buffer") else line)
