"""Options of `waveunet separate` that are fields of library.target.Target: how stems are named and written."""

import re
from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from waveunet_cli.audio import CONTAINERS
from waveunet_cli.library.names import BESIDE_TEMPLATE, TEMPLATE


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A time in a song: seconds, minutes:seconds, or hours:minutes:seconds."""
    if value is None:
        return None
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", value):
        raise click.BadParameter(f"{value!r} is no time; write 62.5, 1:02.5 or 0:01:02.5")
    return float(sum(float(part) * 60**power for power, part in enumerate(reversed(value.split(":")))))


def factors(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, float]:
    """Stems with their levels, in dB or as factors, as in vocals=-12dB,drums=0."""
    found: dict[str, float] = {}
    for each in value.split(",") if value else ():
        told = re.fullmatch(
            r"\s*(.+?)\s*=\s*([+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf))\s*(dB)?\s*", each, re.IGNORECASE
        )
        if told is None:
            raise click.BadParameter(f"{each!r} is no stem with its level; write vocals=-12dB or drums=0")
        if told[1] in found:
            raise click.BadParameter(f"{told[1]} has two levels; give it one")
        level = min(float(told[2]), 6000.0 if told[3] else 1e308)  # no infinity: Target says what a mix may have
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


_OPTIONS = (
    click.option(
        "--filename",
        help=f"Template of a stem's path below its folder.  [default: {TEMPLATE}; with --beside {BESIDE_TEMPLATE}]",
    ),
    click.option(
        "--start",
        "start_seconds",
        callback=seconds,
        default="0",
        metavar="TIME",
        help="Begin at this time of the song, such as 62.5 or 1:02.5. The network still hears the music before it, so "
        "the stems are that part of the whole song's stems.",
    ),
    click.option("--end", "end_seconds", callback=seconds, metavar="TIME", help="End at this time of the song."),
    click.option(
        "--format",
        "container",
        type=click.Choice(list(CONTAINERS)),
        default="wav",
        show_default=True,
        help="File format of the stems. stem is one file of all stems, .stem.mp4, for DJ software.",
    ),
    click.option(
        "--subtype",
        help="Sample format of the stems, such as PCM_16, PCM_24 or FLOAT.  [default: the nearest to the input's]",
    ),
    click.option(
        "--bitrate",
        "kbits",
        callback=kilobits,
        metavar="RATE",
        help="Bit rate of mp3, m4a (AAC) or opus, such as 192k.",
    ),
    click.option(
        "--quality",
        type=float,
        metavar="0..10",
        help="Quality of ogg or mp3, from 0 (the smallest files) to 10 (the best sound)."
        "  [default: 6 for ogg, 8 for mp3]",
    ),
    click.option(
        "--clip",
        type=click.Choice(["rescale", "clamp", "none"]),
        default="rescale",
        show_default=True,
        help="What happens if a stem is louder than its format can hold. rescale lowers all stems of the song by one "
        "gain, clamp cuts the samples, none cuts them only where the format must. Float stems keep their samples.",
    ),
    click.option(
        "--mix",
        callback=factors,
        metavar="STEM=LEVEL,...",
        help="Write a file named mix, too: all stems together, these at other levels. A level is in dB or a factor, as "
        "in vocals=-12dB,drums=0.",
    ),
    click.option(
        "--tags/--no-tags",
        default=True,
        show_default=True,
        help="Give the stems the song's tags and its cover, and a comment that names the model.",
    ),
    click.option(
        "--track",
        "audio_track",
        type=click.IntRange(1),
        metavar="N",
        help="Separate this audio track of a file that holds several, such as .stem.mp4, or this channel of a .mogg."
        "  [default: the first track, all channels]",
    ),
)


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)
