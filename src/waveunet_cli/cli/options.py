"""Options that several commands share."""

import click


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names of stems, as in vocals,drums."""
    if value is None:
        return None
    found = tuple(name.strip() for name in value.split(","))
    if not all(found):
        raise click.BadParameter(f"{value!r} holds an empty name; write one name or several, as in vocals,drums")
    return found


name_option = click.option(
    "-n",
    "--name",
    default="vocals",
    show_default=True,
    help="Model: a name that `waveunet models list` shows, or the path of a checkpoint.",
)
device_option = click.option(
    "-d",
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]|mps",
    help="Device to compute on; auto is a GPU if there is one.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Precision of the convolutions; auto is bfloat16 if the hardware has instructions for it, else float32.",
)
registry_option = click.option(
    "--registry",
    metavar="FOLDER|URL",
    help="Where model cards of your own are: a folder, or an address of a folder with an index.toml."
    "  [default: $WAVEUNET_MODELS]",
)
offline_option = click.option(
    "--offline", is_flag=True, default=None, help="Do not use the network.  [default: $WAVEUNET_OFFLINE]"
)
