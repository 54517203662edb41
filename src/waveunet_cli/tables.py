"""Tables that were read from files (TOML, JSON), as frozen dataclasses. Here alone is decided whether a table fits one.

The annotations of a dataclass say what its fields may hold, with the ranges of bounds.py; msgspec compares. An unknown
or missing field, another type (True is no number, "ab" no list of texts), NaN, control characters and what is out of
range are refused:

    small.toml: files[0].size: found '100'; expected a whole number
"""

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from waveunet_cli.errors import ConfigError
from waveunet_cli.text import CONTROL, one_line, shown

T = TypeVar("T")

MOST_BYTES = 1_000_000  # of a file that a person wrote; the largest card has 10 000

WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def toml_in(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises ConfigError if it cannot be read or is no TOML."""
    return toml_of(_text_in(path, MOST_BYTES), str(path))


def json_in(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file. Raises ConfigError if it cannot be read, is larger than that, or is no JSON object."""
    return json_of(_text_in(path, most_bytes), str(path))


def _text_in(path: Path, most_bytes: int) -> str:
    if not path.is_file():  # a pipe would be waited for
        raise ConfigError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; correct the path")
    try:
        if path.stat().st_size > most_bytes:
            raise ConfigError(f"{path}: larger than {most_bytes} bytes, which no such file is; correct it")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({one_line(error)}); correct it") from error


def toml_of(text: str, where: str) -> dict[str, Any]:
    """The table that a TOML text holds. Raises ConfigError for any other text."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is no TOML ({one_line(error)}); correct it") from error


def json_of(text: str, where: str) -> dict[str, Any]:
    """The object that a JSON text holds. Raises ConfigError for any other text."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is no JSON ({one_line(error)})") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: found {shown(table)}; expected a JSON object")
    return table


def from_table(kind: type[T], table: object, where: str, **own: object) -> T:
    """An instance of a dataclass from the table that was found at `where`; the fields `own` are no matter of the table.

    Raises ConfigError, starting with `where`, if the table does not fit or if the dataclass itself refuses it.
    """
    try:
        return _built(kind, table, "", own)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def partial(kind: type, table: object, place: str) -> dict[str, Any]:
    """The values of some fields of a dataclass, lists as tuples, from the table that is called `place`.

    Raises ConfigError if the table does not fit.
    """
    return _values(_hints(kind), table, place)


def check(instance: Any) -> None:
    """Raise ConfigError if a field of a dataclass's instance does not hold what its annotation says."""
    for name, hint in _hints(type(instance)).items():
        _value(hint, getattr(instance, name), name)


def _built(kind: type[T], table: object, place: str, own: Mapping[str, object]) -> T:
    values = _values({name: hint for name, hint in _hints(kind).items() if name not in own}, table, place)
    values |= own
    missing = [
        field.name
        for field in fields(kind)  # type: ignore[arg-type]
        if field.default is field.default_factory is MISSING and field.name not in values
    ]
    if missing:
        raise ConfigError(f"{f'{place}: ' if place else ''}missing: {', '.join(missing)}")
    return kind(**values)


def _values(known: Mapping[str, Any], table: object, place: str) -> dict[str, Any]:
    of_place = f"{place}: " if place else ""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{of_place}found {shown(table)}; expected a table")
    unknown = [name for name in table if name not in known]
    if unknown:
        raise ConfigError(f"{of_place}unknown: {', '.join(map(shown, unknown))}; known are {', '.join(known)}")
    return {name: _value(known[name], value, f"{place}.{name}" if place else name) for name, value in table.items()}


def _value(hint: Any, value: object, place: str) -> Any:
    """A value as the type of a field."""
    nested = _nested(hint)
    if nested and isinstance(value, nested):
        return value
    if nested and isinstance(value, Mapping) and get_origin(hint) is not tuple:
        return _built(nested, value, place, {})
    if nested and isinstance(value, list | tuple) and get_origin(hint) is tuple:
        return tuple(_value(nested, item, f"{place}[{index}]") for index, item in enumerate(value))
    try:
        converted = msgspec.convert(value, hint, strict=True)
        leaves = list(_leaves(converted))
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{place}: found {shown(value)}; expected {expected(hint)}") from error
    for leaf in leaves:
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise ConfigError(f"{place}: found {shown(value)}; expected finite numbers")
        if isinstance(leaf, str) and CONTROL.search(leaf):
            raise ConfigError(f"{place}: found {shown(value)}; expected no control characters")
    return converted


def _hints(kind: Any) -> dict[str, Any]:
    assert is_dataclass(kind)
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _nested(hint: Any) -> Any:
    """The dataclass that a field holds, alone, as an option or in a tuple; None if it holds none."""
    parts = [hint, *get_args(hint)]
    return next((part for part in parts if isinstance(part, type) and is_dataclass(part)), None)


def _leaves(value: object) -> Iterator[object]:
    """What stands in a value, tables and lists of any depth taken apart, keys included."""
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def expected(hint: Any) -> str:
    """What an annotation allows, in words."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _limited(parts)
    if kind in (Union, UnionType):
        return " or ".join(expected(part) for part in parts if part is not NoneType)
    if kind is Literal:
        return " or ".join(f'"{part}"' for part in parts)
    if kind is tuple and parts[-1] is ...:
        return f"a list whose items are each {expected(parts[0])}"
    if kind is tuple:
        return f"a list of {len(parts)} items: {', '.join(map(expected, parts))}"
    if kind is not None and issubclass(kind, Mapping):
        return f"a table whose values are each {expected(parts[1])}" if parts[1] is not Any else "a table"
    return WORDS.get(hint, "a table")


def _limited(parts: tuple[Any, ...]) -> str:
    limits: dict[str, float] = {}
    for meta in parts[1:]:
        if meta.description:
            return str(meta.description)
        limits |= {name: getattr(meta, name) for name in LIMITS if getattr(meta, name) is not None}
    if limits.keys() == {"ge", "le"}:
        return f"{expected(parts[0])} from {limits['ge']} to {limits['le']}"
    if not limits:
        return expected(parts[0])
    text = " and ".join(f"{LIMITS[name]} {limit}" for name, limit in limits.items())
    return f"{expected(parts[0])} {'of ' if text.startswith('at ') else ''}{text}"
