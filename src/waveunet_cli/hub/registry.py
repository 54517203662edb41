"""Where cards come from: those shipped with the package, and a registry of the user's own.

A registry is a folder of cards, or an address: `<address>/index.toml` lists them, `cards = ["a.toml", "b.toml"]`,
and they lie beside it; a folder that is also served may hold that index too. A file without addresses of its own lies
beside its card in either case. A registry adds models; a card with the name of a shipped one is no model, so that
a name never silently means another model. The last good copy of an addressed registry serves when it cannot be reached,
or when something else, such as the page of a hotel's network, comes in its place. A card that cannot be read is no
model, and stops no other.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

from msgspec import Meta

from waveunet_cli.errors import ConfigError, DownloadError, ModelNotFoundError
from waveunet_cli.hub.cache import Cache
from waveunet_cli.hub.cards import Card, File, FileName, is_url, parse_card, read_card
from waveunet_cli.hub.download import Downloader
from waveunet_cli.tables import from_table, toml_of

INDEX = "index.toml"
CARD_BYTES = 50_000  # twice this is the most that is read


@dataclass(frozen=True)
class Index:
    """The index of a registry: the names of the files of its cards, such as small.toml."""

    cards: Annotated[tuple[FileName, ...], Meta(max_length=1000)]


def shipped_folder() -> Path:
    """The folder of the shipped cards and embedded weights: in the wheel, or at the root of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parents[1] / "models"


@dataclass(frozen=True)
class Cards:
    """Cards by name, sorted, and why others could not be read, by the name that their file gives them."""

    good: Mapping[str, Card]
    bad: Mapping[str, ConfigError]

    @property
    def names(self) -> set[str]:
        return {*self.good, *self.bad}


def folder_cards(folder: Path, only: str | None = None) -> Cards:
    """The cards of a folder, or the one of that name alone: each takes a few milliseconds."""
    paths = [path for path in sorted(folder.glob("*.toml")) if path.name != INDEX and only in (None, path.stem)]
    return _sorted_out({path.stem: partial(read_card, path) for path in paths})


def registry_cards(registry: str | None, cache: Cache, downloader: Downloader) -> Cards:
    """The cards of the user's registry: `registry`, else WAVEUNET_MODELS, else none.

    A card with the name of a shipped model is among the bad ones. Raises ConfigError for a registry that is no folder
    or has no readable index, DownloadError for one out of reach.
    """
    where = registry or os.environ.get("WAVEUNET_MODELS")
    if not where:
        return Cards({}, {})
    if is_url(where):
        cards = _fetched_cards(where.rstrip("/") + "/", cache, downloader)
    elif Path(where).is_dir():
        cards = folder_cards(Path(where))
    else:
        raise ConfigError(
            f"{where}: the model registry is neither a folder nor an http address; mend --registry or WAVEUNET_MODELS"
        )
    bad = dict(cards.bad)
    for name in sorted(cards.names & {path.stem for path in shipped_folder().glob("*.toml")}):
        bad[name] = ConfigError(f"{where}: {name} is the name of a model shipped with waveunet; rename the card")
    return Cards({name: card for name, card in cards.good.items() if name not in bad}, bad)


def local_files(card: Card) -> list[Path] | None:
    """The card's files where all of them lie beside it (an embedded model, a lab's folder), else None."""
    if is_url(card.origin):
        return None
    paths = [Path(card.origin) / file.name for file in card.files]
    return paths if all(path.is_file() for path in paths) else None


def not_found(name: str, known: list[str]) -> ModelNotFoundError:
    """The error for a name nobody knows: close matches first, then everything there is."""
    shown = name if name.isprintable() and name else repr(name)
    if os.path.isdir(name):  # noqa: PTH112 - a name that no path can have is no folder, and no error
        return ModelNotFoundError(
            f"{shown}: is a folder; give the path of a .safetensors file in it, or a model's name"
        )
    close = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return ModelNotFoundError(
        f"{shown}: no such model; {hint}known: {', '.join(known) or 'none'}; "
        "give one of these names or the path of a .safetensors checkpoint"
    )


def _sorted_out(read: Mapping[str, Callable[[], Card]]) -> Cards:
    good: dict[str, Card] = {}
    bad: dict[str, ConfigError] = {}
    for name, card in read.items():
        try:
            good[name] = card()
        except ConfigError as error:
            bad[name] = error
    return Cards(good, bad)


def _fetched_cards(address: str, cache: Cache, downloader: Downloader) -> Cards:
    """The cards at an address, or their last good copy if they cannot all be fetched."""
    last = cache.registry(address)
    with cache.lock(f"_{last.path.stem}"):
        texts = last.read()
        try:
            texts = _fetched_texts(address, cache.downloads(f"_{last.path.stem}"), downloader, texts)
            last.replace(texts)
        except (DownloadError, ConfigError) as error:
            if INDEX not in texts:
                raise
            downloader.note(f"{error}; its last copy serves")
    names = _listed(texts[INDEX], address)
    return _sorted_out(
        {PurePosixPath(name).stem: partial(parse_card, texts.get(name, ""), address + name, address) for name in names}
    )


def _fetched_texts(address: str, folder: Path, downloader: Downloader, last: Mapping[str, str]) -> dict[str, str]:
    """The index and the cards that it lists, by name; of a card in whose place something else came, the last copy."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        texts = {INDEX: _fetched_text(INDEX, address, folder, downloader)}
        for name in _listed(texts[INDEX], address):
            texts[name] = _fetched_text(name, address, folder, downloader)
            try:
                toml_of(texts[name], address + name)
            except ConfigError as error:
                if name in last:
                    downloader.note(f"{error}; its last copy serves")
                    texts[name] = last[name]
        return texts
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetched_text(name: str, address: str, folder: Path, downloader: Downloader) -> str:
    downloader.fetch(File(name, expected_size=CARD_BYTES), [address + name], folder / name)
    return (folder / name).read_text(encoding="utf-8", errors="replace")  # what is no UTF-8 is no TOML, or shows it


def _listed(index: str, address: str) -> list[str]:
    """The names of the card files that an index lists, sorted; raises ConfigError."""
    where = address + INDEX
    return sorted(from_table(Index, toml_of(index, where), where).cards)
