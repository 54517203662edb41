"""Options that several commands share."""

import re

import click


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A time in a song: seconds, minutes:seconds, or hours:minutes:seconds."""
    if value is None:
        return None
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", value):
        raise click.BadParameter(f"{value!r} is no time; write 62.5, 1:02.5 or 0:01:02.5")
    return float(sum(float(part) * 60**power for power, part in enumerate(reversed(value.split(":")))))


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names of stems, as in vocals,drums."""
    if value is None:
        return None
    found = tuple(name.strip() for name in value.split(","))
    if not all(found):
        raise click.BadParameter(f"{value!r} holds an empty name; write one name or several, as in vocals,drums")
    return found


def factors(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, float]:
    """Stems with their levels, in dB or as factors, as in vocals=-12dB,drums=0."""
    found: dict[str, float] = {}
    for each in value.split(",") if value else ():
        told = re.fullmatch(r"\s*(.+?)\s*=\s*([+-]?(?:\d+\.?\d*|\.\d+|inf))\s*(dB)?\s*", each, re.IGNORECASE)
        if told is None:
            raise click.BadParameter(f"{each!r} is no stem with its level; write vocals=-12dB or drums=0")
        if told[1] in found:
            raise click.BadParameter(f"{told[1]} has two levels; give it one")
        level = min(float(told[2]), 6000.0)  # beyond what a mix may have, and in dB within what a float can hold
        found[told[1]] = 10 ** (level / 20) if told[3] else level
    return found


def kilobits(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A bit rate such as 192k."""
    if value is None:
        return None
    told = re.fullmatch(r"(\d{1,4})k|(\d{1,4})000", value, re.IGNORECASE)
    if told is None:
        raise click.BadParameter(f"{value!r} is no bit rate; write 192k")
    return int(told[1] or told[2])


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
