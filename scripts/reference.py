"""Write into README.md what the program says of itself: tables of models and of sample formats, and every help.

python scripts/reference.py
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from waveunet_cli.audio import subtype_table
from waveunet_cli.cli import group
from waveunet_cli.cli.models import _row
from waveunet_cli.hub import Entry
from waveunet_cli.hub.registry import folder_cards, shipped_folder

WIDTH = 100  # columns of the help texts
README = Path(__file__).parent.parent / "README.md"


def updated(text: str) -> str:
    """The README's text with its generated parts as they should be."""
    for name, part in (("models", _models()), ("subtypes", subtype_table()), ("reference", _reference())):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, new=f"{begin}{part}{end}": new, text, flags=re.DOTALL)
    return text


def _models() -> str:
    cards = folder_cards(shipped_folder())
    rows = [_row(Entry(name, "", None, card, None)) for name, card in cards.items()]
    lines = [
        f"| `{name}` | {stems.replace(',', ', ')} | {rate} | {size} | {quality} | {licence} |"
        for name, stems, rate, size, _, licence, quality in rows
    ]
    head = "| name | stems | rate | size | published SDR | licence |"
    return "\n".join([head, "|---" * 6 + "|", *lines, ""])


def _reference() -> str:
    commands = _commands("waveunet", group, None)
    return "".join(f"### `{name}`\n\n```\n{help_text}\n```\n\n" for name, help_text in commands)


def _commands(name: str, command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    settings = {"max_content_width": WIDTH, "terminal_width": WIDTH, **command.context_settings}
    context = click.Context(command, info_name=name.split()[-1], parent=parent, **settings)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _commands(f"{name} {child}", found, context)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
