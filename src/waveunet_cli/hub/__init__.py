"""Models by name: cards, the user's cache, verified downloads, and the one way to open any of them.

Only opening or converting a model imports torch; cards, listing and downloading do not.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from waveunet_cli.events import Note
from waveunet_cli.hub.cache import Cache, Record
from waveunet_cli.hub.cards import Card
from waveunet_cli.hub.catalogue import Catalogue, Entry
from waveunet_cli.hub.download import Downloader

if TYPE_CHECKING:
    from waveunet_cli.networks.family import Config, Model

__all__ = ["Cache", "Card", "Catalogue", "Downloader", "Entry", "Record", "load_model"]

_log = logging.getLogger(__name__)


def load_model(
    model: "str | Path | Config",
    *,
    registry: str | None = None,
    offline: bool | None = None,
    on_event: Callable[[Note], None] = lambda note: _log.warning(note.text),
    progress: bool = False,
) -> "Model":
    """A model ready to separate: by name, by the path of a .safetensors checkpoint, or random from a Config.

    A name means an embedded model, one in the user's cache, or one that a card tells how to get. Such a model is
    downloaded and converted first, after `on_event` was given a Note that says what, from where, how large and under
    which licence (by default it is logged). A string is a path if it has a separator or ends in .safetensors.
    `registry` is a folder or an address of further cards, by default WAVEUNET_MODELS. `offline` forbids the network,
    by default as WAVEUNET_OFFLINE says. `progress` draws a bar on stderr, if that is a terminal.

    Raises ModelNotFoundError, DownloadError, CheckpointError, ConfigError.
    """
    from waveunet_cli.devices import CPU, compute_on
    from waveunet_cli.networks.checkpoint import load_checkpoint
    from waveunet_cli.networks.family import Model, build_network

    if not isinstance(model, str | Path):
        return Model("random", model, compute_on(CPU, build_network, model))
    if isinstance(model, Path) or _looks_like_path(model):
        return compute_on(CPU, load_checkpoint, Path(model))
    with Downloader(offline=offline, on_event=on_event, progress=progress) as downloader:
        weights = Catalogue(Cache(), downloader, registry).weights(model)
    return compute_on(CPU, load_checkpoint, weights, model.lower())


def _looks_like_path(text: str) -> bool:
    return text.endswith(".safetensors") or any(separator in text for separator in ("/", os.sep))
