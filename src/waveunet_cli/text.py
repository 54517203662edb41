"""Text from outside (files, servers, names) in our messages: it stays text, whatever a terminal would make of it."""

import re
from reprlib import Repr

# Control characters but line breaks and tabs, and those that turn the direction of writing: a terminal obeys them.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
UNSENDABLE = re.compile("[\ud800-\udfff]")  # bytes of a file's name that are no UTF-8

_short = Repr()
_short.maxstring = _short.maxother = 80


def plain(text: str) -> str:
    """A text for a terminal: what it would obey, or cannot show, becomes a question mark."""
    return UNSENDABLE.sub("?", CONTROL.sub("?", text))


def in_line(text: str) -> str:
    """A text from outside in a message of one line: what would break the line becomes a question mark, too."""
    return re.sub(r"[\n\t]", "?", plain(text))


def shown(value: object) -> str:
    """A value in a message: one short line, in quotes if it is a text."""
    return _short.repr(value)


def one_line(error: BaseException) -> str:
    """What an error of another library says, on one line; of the system's errors only the reason, without a number."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror and said.startswith("[Errno"):  # others say more than the reason
        said = error.strerror
    return plain(" ".join(said.split()))[:200] or type(error).__name__
