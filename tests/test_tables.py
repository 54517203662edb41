"""A table fits a dataclass or is refused in one line that names the place, what was found and what is expected."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from waveunet_cli.errors import ConfigError
from waveunet_cli.tables import check, from_table, json_of, partial, toml_in, toml_of


@dataclass(frozen=True)
class Part:
    size: Annotated[int, Meta(ge=1, le=9)]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    part: Part
    parts: tuple[Part, ...] = ()
    maybe: Part | None = None
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    pair: tuple[float, float] = (0.0, 1.0)
    kind: Literal["a", "b"] = "a"
    place: Path | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def __post_init__(self) -> None:
        if self.kind == "b" and not self.parts:
            raise ConfigError("b has parts")


def whole(**table: object) -> Whole:
    return from_table(Whole, {"part": {"size": 1}, **table}, "a.toml")


def test_a_table_becomes_what_it_describes():
    table = {"parts": [{"size": 2, "names": ["x"]}], "maybe": {"size": 9}, "pair": [1, 2], "values": {"v": 3}}
    assert whole(**table, kind="b", place=Path("p"), anything={"x": [1]}) == Whole(
        Part(1), (Part(2, ("x",)),), Part(9), pair=(1.0, 2.0), kind="b", place=Path("p"), values={"v": 3.0},
        anything={"x": [1]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"colour": 1}, "unknown: 'colour'; known are part, parts, "),
        ({"a\x1b": 1}, r"unknown: 'a\x1b'; "),
        ({"origin": "x"}, None),
        ({"part": 3}, "part: found 3; expected a table"),
        ({"part": {}}, "part: missing: size"),
        ({"part": {"size": True}}, "part.size: found True; expected a whole number from 1 to 9"),
        ({"part": {"size": 1.0}}, "part.size: found 1.0; "),
        ({"part": {"size": 10**100}}, "part.size: found 1000"),
        ({"part": {"size": 1, "names": "ab"}}, "part.names: found 'ab'; expected a list whose items are each a text"),
        ({"parts": {"size": 1}}, "parts: found {'size': 1}; expected a list whose items are each a table"),
        ({"parts": [{"size": 1}, {"size": 0}]}, "parts[1].size: found 0; "),
        ({"parts": [{"size": 1, "sizes": 1}]}, "parts[0]: unknown: 'sizes'; known are size, names"),
        ({"parts": [3]}, "parts[0]: found 3; expected a table"),
        ({"maybe": {"size": "1"}}, "maybe.size: found '1'"),
        ({"share": 1}, "share: found 1; expected a number of at least 0 and below 1"),
        ({"share": float("nan")}, "share: found nan; "),
        ({"pair": [1.0]}, "pair: found [1.0]; expected a list of 2 items: a number, a number"),
        ({"pair": [1.0, float("inf")]}, "pair: found [1.0, inf]; expected finite numbers"),
        ({"kind": "c"}, 'kind: found \'c\'; expected "a" or "b"'),
        ({"kind": "b"}, "b has parts"),
        ({"place": "p"}, "place: found 'p'; expected a path"),
        ({"values": {"v": "1"}}, "values: found {'v': '1'}; expected a table whose values are each a number"),
        ({"anything": {"x": [{"y": float("nan")}]}}, "anything: found {'x': [{'y': nan}]}; expected finite numbers"),
        ({"anything": {"\x9b": 1}}, "expected no control characters"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(table: dict[str, object], message: str | None):
    if message is None:
        whole(**table)
        return
    with pytest.raises(ConfigError) as refused:
        whole(**table)
    assert str(refused.value).startswith("a.toml: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_field_of_the_program_s_own_is_none_of_the_table_s():
    assert from_table(Whole, {"part": {"size": 1}}, "a.toml", origin="here").origin == "here"
    with pytest.raises(ConfigError, match="unknown: 'origin'"):
        from_table(Whole, {"part": {"size": 1}, "origin": "there"}, "a.toml", origin="here")


def test_a_part_of_the_fields_can_be_read():
    assert partial(Part, {"names": ["a"]}, "changes") == {"names": ("a",)}
    with pytest.raises(ConfigError, match=r"^changes\.size: found 0"):
        partial(Part, {"size": 0}, "changes")


def test_an_instance_is_checked_like_a_table():
    check(Whole(Part(1)))
    with pytest.raises(ConfigError, match=r"^size: found 0; expected a whole number from 1 to 9"):
        check(Part(0))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["part", "parts", "size", "values"]) | st.text(), inner)
    ),
)


@pytest.mark.thorough
@settings(max_examples=40)
@given(JSON)
def test_any_table_fits_or_is_refused(table: object):
    try:
        from_table(Whole, table, "a.json")
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017 - the point is that nothing else comes


def test_a_table_of_any_depth_is_one_line():
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    with pytest.raises(ConfigError, match=r"^a\.toml: anything: found \{'x': \[\["):
        whole(anything={"x": deep})


@pytest.mark.parametrize("text", ["", "3", "[]", "{", "[" * 100_000, '{"a": ' * 100_000, "9" * 10_000, "\x00"])
def test_what_is_no_json_object_is_one_line(text: str):
    with pytest.raises(ConfigError, match=r"^a\.json: ") as refused:
        json_of(text, "a.json")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_what_is_no_toml_is_one_line(tmp_path: Path):
    path = tmp_path / "a.toml"
    for content in (b"<html>\n<body>", b"\xff", b"a" * 2_000_000, b"a = " + b"[" * 100_000, b"a = 1\na = 2"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.toml: ") as refused:
            toml_in(path)
        assert str(refused.value).isprintable()
    with pytest.raises(ConfigError, match=r"a\.toml: is no TOML"):
        toml_of("<html>", "a.toml")
    with pytest.raises(ConfigError, match=r"is a folder; correct the path"):
        toml_in(tmp_path)
