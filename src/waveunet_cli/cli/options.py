"""Options that several commands share."""

import click

name_option = click.option(
    "-n", "--name", default="vocals", show_default=True, help="A model's name or the path of a checkpoint."
)
device_option = click.option(
    "-d", "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]|mps", help="Where to compute."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Of the convolutions; auto is bfloat16 where the hardware has it.",
)
registry_option = click.option(
    "--registry",
    metavar="FOLDER|URL",
    help="Model cards of your own: a folder, or an address with an index.toml.  [default: $WAVEUNET_MODELS]",
)
offline_option = click.option(
    "--offline", is_flag=True, default=None, help="Never use the network.  [default: $WAVEUNET_OFFLINE]"
)
