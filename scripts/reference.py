"""Write what the program says of itself into the pages: README.md's table of models, and all of docs/cli.md.

python scripts/reference.py
"""

from collections.abc import Iterator
from pathlib import Path

import click

from waveunet_cli.audio import subtype_table
from waveunet_cli.cli import group
from waveunet_cli.cli.models import row
from waveunet_cli.hub import Entry
from waveunet_cli.hub.registry import folder_cards, shipped_folder

ROOT = Path(__file__).parent.parent
WIDTH = 100  # columns of the help texts
CLI_HEAD = """# Every command and option

Below is what `waveunet COMMAND --help` prints. `python scripts/reference.py` writes this page, and a test compares it
with the program.

| environment variable | what it does |
|---|---|
| `WAVEUNET_CACHE` | names the folder that holds downloaded and imported models |
| `WAVEUNET_MODELS` | names a folder or an address with model cards of your own, as `--registry` does |
| `WAVEUNET_OFFLINE=1` | forbids the use of the network, as `--offline` does |
| `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` | name the proxy for downloads, and the hosts that need none |
| `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE` | name the certificates that downloads trust |

A model card is a TOML file that says where a model comes from and what it is; `models/m4.toml` is an example.

## Sample formats

Without `--subtype` the stems get the sample format that is nearest to the song's own.

"""


def pages() -> dict[Path, str]:
    """The text that each page should have, by its path."""
    readme = ROOT / "README.md"
    return {
        readme: _with_part(readme.read_text(encoding="utf-8"), "models", _models()),
        ROOT / "docs" / "cli.md": CLI_HEAD + subtype_table() + _commands_help(),
    }


def _with_part(text: str, name: str, part: str) -> str:
    """The text with `part` between the comments `<!-- name -->` and `<!-- end of name -->`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = text.partition(begin)
    return before + begin + part + end + rest.partition(end)[2]


def _models() -> str:
    rows = [row(Entry(name, "", None, card, None)) for name, card in folder_cards(shipped_folder()).good.items()]
    lines = [
        f"| `{name}` | {stems.replace(',', ', ')} | {rate} | {size} | {quality} | {licence} |"
        for name, stems, rate, size, _, licence, quality in rows
    ]
    head = "| name | stems | rate | size | published SDR | licence |"
    return "\n".join([head, "|---" * 6 + "|", *lines, ""])


def _commands_help() -> str:
    return "".join(f"\n## `{name}`\n\n```\n{text}\n```\n" for name, text in _commands("waveunet", group, None))


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
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
