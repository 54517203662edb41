"""Where cards come from: the ones shipped with the package, and a registry of the user's own."""

from difflib import get_close_matches
from pathlib import Path

from waveunet_cli.errors import ModelNotFoundError
from waveunet_cli.hub.cards import Card, read_card


def shipped_folder() -> Path:
    """The folder of the shipped cards and embedded weights: in the wheel, or at the root of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parents[1] / "models"


def folder_cards(folder: Path) -> dict[str, Card]:
    """Every card of a folder by name, sorted; raises ConfigError for an unreadable one."""
    return {path.stem: read_card(path) for path in sorted(folder.glob("*.toml"))}


def local_files(card: Card) -> tuple[Path, ...] | None:
    """The card's files where all of them lie beside it (an embedded model, a lab's folder), else None."""
    paths = tuple(Path(card.origin) / file.name for file in card.files)
    return paths if all(path.is_file() for path in paths) else None


def not_found(name: str, known: list[str]) -> ModelNotFoundError:
    """The error for a name nobody knows: close matches first, then everything there is."""
    close = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return ModelNotFoundError(
        f"{name}: no such model; {hint}known: {', '.join(known) or 'none'}; "
        "give one of these names or the path of a .safetensors checkpoint"
    )
