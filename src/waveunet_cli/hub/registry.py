"""Where cards come from: those shipped with the package, and a registry of the user's own.

A registry is a folder of cards, or an address: `<address>/index.toml` lists them, `cards = ["a.toml", "b.toml"]`,
and they lie beside it; a folder that is also served may hold that index too. A file without addresses of its own lies
beside its card in either case. A registry adds models; a card with the name of a shipped one is refused, so that a
name never silently means another model. The last copy of an addressed registry serves when it cannot be reached.
"""

import os
import shutil
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from waveunet_cli.errors import ConfigError, DownloadError, ModelNotFoundError
from waveunet_cli.hub.cache import Cache
from waveunet_cli.hub.cards import Card, File, is_url, parse_card, read_card
from waveunet_cli.hub.download import Downloader

INDEX = "index.toml"
CARD_BYTES = 50_000  # twice this is the most that is read


def shipped_folder() -> Path:
    """The folder of the shipped cards and embedded weights: in the wheel, or at the root of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parents[1] / "models"


def folder_cards(folder: Path) -> dict[str, Card]:
    """Every card of a folder by name, sorted; raises ConfigError for an unreadable one."""
    return {path.stem: read_card(path) for path in sorted(folder.glob("*.toml")) if path.name != INDEX}


def registry_cards(registry: str | None, cache: Cache, downloader: Downloader) -> dict[str, Card]:
    """The cards of the user's registry: `registry`, else WAVEUNET_MODELS, else none.

    Raises ConfigError for a registry that is no folder or holds a bad card, DownloadError for one out of reach.
    """
    where = registry or os.environ.get("WAVEUNET_MODELS")
    if not where:
        return {}
    if is_url(where):
        cards = _fetched_cards(where.rstrip("/") + "/", cache, downloader)
    elif Path(where).is_dir():
        cards = folder_cards(Path(where))
    else:
        raise ConfigError(
            f"{where}: the model registry is neither a folder nor an http address; mend --registry or WAVEUNET_MODELS"
        )
    taken = sorted(cards.keys() & {path.stem for path in shipped_folder().glob("*.toml")})
    if taken:
        raise ConfigError(f"{where}: {', '.join(taken)} is the name of a model shipped with waveunet; rename the card")
    return cards


def local_files(card: Card) -> list[Path] | None:
    """The card's files where all of them lie beside it (an embedded model, a lab's folder), else None."""
    if is_url(card.origin):
        return None
    paths = [Path(card.origin) / file.name for file in card.files]
    return paths if all(path.is_file() for path in paths) else None


def not_found(name: str, known: list[str]) -> ModelNotFoundError:
    """The error for a name nobody knows: close matches first, then everything there is."""
    shown = name if name.isprintable() and name else repr(name)
    close = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return ModelNotFoundError(
        f"{shown}: no such model; {hint}known: {', '.join(known) or 'none'}; "
        "give one of these names or the path of a .safetensors checkpoint"
    )


def _fetched_cards(address: str, cache: Cache, downloader: Downloader) -> dict[str, Card]:
    """The cards at an address, or their last copy if they cannot all be fetched."""
    last = cache.registry(address)
    fresh = last.with_name(f"{last.name}-fresh")
    with cache.lock(f"_{last.name}"):
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            for name in _listed(_fetched_text(INDEX, address, fresh, downloader), address):
                _fetched_text(name, address, fresh, downloader)
            shutil.rmtree(last, ignore_errors=True)
            fresh.rename(last)
        except DownloadError as error:
            if not last.is_dir():
                raise
            downloader.notify(f"{address}: {error}; its last copy serves")
        names = _listed((last / INDEX).read_text(encoding="utf-8"), address)
        texts = {name: (last / name).read_text(encoding="utf-8") for name in names}
    cards = [parse_card(text, where=address + name, origin=address) for name, text in texts.items()]
    return {card.name: card for card in cards}


def _fetched_text(name: str, address: str, folder: Path, downloader: Downloader) -> str:
    downloader.fetch(File(name, expected_size=CARD_BYTES), [address + name], folder / name)
    return (folder / name).read_text(encoding="utf-8")


def _listed(index: str, address: str) -> list[str]:
    """The names of the card files that an index lists, sorted; raises ConfigError."""
    try:
        names: Any = tomllib.loads(index).get("cards")
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{address}index.toml: no TOML ({error})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'{address}index.toml: must list its cards, as in cards = ["small.toml"]')
    return sorted(names)
