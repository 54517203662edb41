"""Text on the terminal. Results go to stdout, all else to stderr."""

import click

from waveunet_cli.text import plain


def say(text: str, *, err: bool = False) -> None:
    """Print a line, or several. What a terminal would obey instead of showing it becomes a question mark."""
    click.echo(plain(text), err=err)


def say_failed(error: Exception) -> None:
    """Print why something failed, on one line of stderr."""
    say(f"Error: {error}".replace("\n", "?"), err=True)
