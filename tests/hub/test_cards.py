"""Model cards: all shipped ones are valid, and a doubtful one is refused in one line."""

import hashlib
import re

import pytest

from waveunet_cli.errors import ConfigError
from waveunet_cli.hub.cards import parse_card
from waveunet_cli.hub.registry import folder_cards, local_files, shipped_folder
from waveunet_cli.importers.options import ImportOptions

GOOD = """
name = "small"
title = "A small model"
architecture = "M4"
changes = { filters = 4 }
format = "tensorflow"
stems = ["accompaniment", "vocals"]
residual = "accompaniment"
sample_rate = 22050
channels = 2
licence = "MIT"
authors = ["Somebody"]
citation = ""
homepage = "https://example.org"
verified = false
notes = ""

[archive]
name = "models.zip"
expected_size = 5000
urls = ["https://example.org/models.zip"]

[[files]]
name = "small.index"
size = 100
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
urls = ["https://example.org/small.index"]

[[quality]]
dataset = "MUSDB18 test"
metric = "SDR"
aggregation = "median over all frames"
values = { vocals = 4.46 }
"""


def parse(text: str):
    return parse_card(text, where="small.toml", origin="")


def test_every_shipped_card_is_valid_and_its_embedded_bytes_are_the_stated_ones():
    cards = folder_cards(shipped_folder()).good
    assert folder_cards(shipped_folder()).bad == {}
    embedded = {name for name, card in cards.items() if local_files(card)}
    assert embedded == {"vocals", "4stems"}
    seen_elsewhere = {"spleeter-2stems"}  # as a package passes them on; see tests/importers/test_spleeter.py
    assert {name for name, card in cards.items() if card.verified} == embedded | seen_elsewhere
    for card in cards.values():
        paths = local_files(card)
        for file, path in zip(card.files, paths or (), strict=False):
            assert path.stat().st_size == file.size
            assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        for file in card.files:
            assert paths or file.urls or card.archive, f"{card.name}: nowhere to get {file.name}"


@pytest.mark.parametrize(
    ("name", "filters", "rate_hz", "credited"),
    [
        ("vocals", 24, 22_050, ("Software-Entwicklungskit", "Spleeter", "ACE-Step", "YuE", "DiffRhythm", "TRow")),
        (
            "4stems",
            24,
            22_050,
            ("Software-Entwicklungskit", "Spleeter", "ACE-Step", "YuE", "SCOTTPOID", "Hitsuboku Kumi", "POP909"),
        ),
    ],
)
def test_an_embedded_card_carries_the_attribution_of_what_it_was_trained_on(name, filters, rate_hz, credited):
    card = folder_cards(shipped_folder()).good[name]
    assert (card.config.filters, card.config.sample_rate) == (filters, rate_hz)
    for one in credited:
        assert one in card.attribution


def test_a_good_card_is_read_whole():
    card = parse(GOOD)
    assert card.stems == ("accompaniment", "vocals")
    assert card.config.filters == 4
    assert card.files[0].size == card.files[0].most_bytes == card.size == 100
    assert card.archive.most_bytes == 10_000
    assert card.quality[0].values == {"vocals": 4.46}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('title = "A small model"\n', "", "missing: title"),
        ('title = "A small model"', "title = 3", "title: found 3; expected a text"),
        (
            'authors = ["Somebody"]',
            'authors = "Somebody"',
            "authors: found 'Somebody'; expected a list whose items are each a text",
        ),
        ("verified = false", "verified = 0", "verified: found 0; expected true or false"),
        ("verified = false", "verified = false\ncolour = 1", "unknown: 'colour'; known are name, "),
        ("verified = false", 'verified = false\norigin = "x"', "unknown: 'origin'"),
        ('name = "small"', 'name = "../small"', "lower-case"),
        ('name = "small"', 'name = "Small"', "lower-case"),
        ('architecture = "M4"', 'architecture = "M9"', "architecture: found 'M9'; expected one of M1, "),
        ("filters = 4", "width = 4", "changes: unknown: 'width'; known are sources, "),
        ("{ filters = 4 }", "3", "changes: found 3; expected a table"),
        ("filters = 4", 'filters = "4"', "changes.filters: found '4'; expected a whole number from 1 to 1024"),
        ("filters = 4", "filters = 0", "changes.filters: found 0"),
        ('"tensorflow"', '"pickle"', 'format: found \'pickle\'; expected "safetensors" or "tensorflow" or'),
        (
            '["accompaniment", "vocals"]',
            '["vocals", "vocals"]',
            "stems: found ('vocals', 'vocals'); expected different",
        ),
        (
            '["accompaniment", "vocals"]',
            '["accompaniment", "../vocals"]',
            "expected two or more different names of letters, digits",
        ),
        ('["accompaniment", "vocals"]', '["vocals", "accompaniment"]', "the architecture's are"),
        ('residual = "accompaniment"', 'residual = "other"', "residual: found other; expected one of the stems"),
        ("sample_rate = 22050", "sample_rate = 44100", "the architecture's are"),
        ('name = "small"', 'name = "large"', "named after its file"),
        ('name = "small.index"', 'name = "small.data"', "exactly one .index"),
        ('urls = ["https://example.org/models.zip"]', "", "archive has no urls"),
        (
            'name = "small.index"',
            'name = "../small.index"',
            "files[0].name: found '../small.index'; expected the plain name of a file",
        ),
        ('0000"', '000"', "64 hex digits"),
        ("size = 100\n", "", "needs either size"),
        ("size = 100\n", "size = 100\nexpected_size = 100\n", "needs either size"),
        ("size = 100\n", "size = -100\n", "files[0].size: found -100; expected a whole number from 1 to"),
        ("https://example.org/small.index", "ftp://example.org/small.index", "expected an http(s) address"),
        ("https://example.org/small.index", "../small.index", "expected an http(s) address"),
        ("https://example.org/small.index", "https:///small.index", "with a host"),
        ("https://example.org/small.index", "https://[example.org/small.index", "with a host"),
        ("{ vocals = 4.46 }", "{ drums = 4.46 }", "drums"),
        (
            "{ vocals = 4.46 }",
            '{ vocals = "good" }',
            "quality[0].values: found {'vocals': 'good'}; expected a table whose values are each a number",
        ),
        ("{ vocals = 4.46 }", "{ vocals = nan }", "quality[0].values: found {'vocals': nan}; expected finite numbers"),
        (
            'licence = "MIT"',
            r'licence = "MIT\u001b[2J"',
            r"licence: found 'MIT\x1b[2J'; expected no control characters",
        ),
        ('notes = ""', r'notes = "\u202egnp.exe"', "expected no control characters"),
        (
            "{ filters = 4 }",
            "{ levels = 1000000 }",
            "changes.levels: found 1000000; expected a whole number from 1 to 16",
        ),
        ("size = 100\n", "size = 9223372036854775807\n", "files[0].size: found 9223372036854775807"),
        (
            "verified = false",
            "verified = false\nimport_options = { strides = 4 }",
            "import_options: unknown: 'strides'",
        ),
        (
            "verified = false",
            "verified = false\nimport_options = { padding = 'same' }",
            "padding: the card states that",
        ),
        ("verified = false", "verified = false\nimport_options = { stride = 4 }", None),
        ("verified = false", "verified = true", None),
        ("size = 100\n", "expected_size = 100\n", None),
    ],
)
def test_a_doubtful_card_is_refused_in_one_line(old: str, new: str, complaint: str | None):
    changed = GOOD.replace(old, new)
    assert changed != GOOD
    if complaint is None:
        parse(changed)
        return
    with pytest.raises(ConfigError, match=re.escape(complaint)) as refused:
        parse(changed)
    assert str(refused.value).startswith("small.toml: ")
    assert "\n" not in str(refused.value)


def test_what_a_card_states_is_what_its_files_are_converted_with():
    options = parse(GOOD.replace("verified = false", "verified = false\nimport_options = { stride = 4 }")).options
    assert options == ImportOptions("valid", "tanh", 22050, ("accompaniment", "vocals"), "accompaniment", 16384, 4)


@pytest.mark.parametrize("text", ["", "name", "[" * 100_000, "a = 1\na = 2", "\x00"])
def test_what_is_no_table_is_one_line(text):
    with pytest.raises(ConfigError, match=r"^small\.toml: ") as refused:
        parse(text)
    assert "\n" not in str(refused.value)


def test_verified_without_a_hash_is_refused():
    unseen = GOOD.replace("verified = false", "verified = true").replace("sha256 =", "#")
    with pytest.raises(ConfigError, match=r"size and sha256 are not given for small\.index"):
        parse(unseen)


@pytest.mark.parametrize(("name", "size", "exact"), [("spleeter-2stems", 73_109_797, True), ("m6", 375_000_000, False)])
def test_where_files_lie_in_an_archive_that_is_what_is_downloaded(name, size, exact):
    card = folder_cards(shipped_folder()).good[name]
    assert (card.size, card.is_size_exact) == (size, exact)
