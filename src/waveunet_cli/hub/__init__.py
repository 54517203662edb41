"""Models by name: cards, the user's cache, verified downloads, and the one way to open any of them.

Only `load_model` imports torch, and only when it is called.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from waveunet_cli.errors import DownloadError
from waveunet_cli.hub.cards import Card, File, Quality
from waveunet_cli.hub.registry import folder_cards, local_files, not_found, shipped_folder

if TYPE_CHECKING:
    from waveunet_cli.checkpoint import Config, Model

__all__ = ["Card", "File", "Quality", "load_model"]


def load_model(model: "str | Path | Config") -> "Model":
    """A model ready to separate: by name, by the path of a .safetensors checkpoint, or random from a Config.

    A string is a path if it has a separator or ends in .safetensors, or if it is no model's name and such a file
    exists. Raises ModelNotFoundError, DownloadError, CheckpointError.
    """
    from waveunet_cli.checkpoint import Model, build_network, load_checkpoint

    if not isinstance(model, str | Path):
        return Model("random", model, build_network(model))
    if isinstance(model, Path) or _looks_like_path(model):
        return load_checkpoint(Path(model))
    cards = folder_cards(shipped_folder())
    card = cards.get(model.lower())
    if card is None:
        if Path(model).is_file():
            return load_checkpoint(Path(model))
        raise not_found(model, list(cards))
    files = local_files(card)
    if files is None or card.format != "safetensors":
        raise DownloadError(f"{card.name}: not downloaded; run 'waveunet models download {card.name}'")
    return load_checkpoint(files[0], card.name)


def _looks_like_path(text: str) -> bool:
    separators = [os.sep, "/", *([os.altsep] if os.altsep else [])]
    return text.endswith(".safetensors") or any(separator in text for separator in separators)
