"""Every model there is and where it is: shipped cards, the user's registry, the cache. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from waveunet_cli.errors import ConfigError, DownloadError, ModelNotFoundError, WaveUNetError
from waveunet_cli.hub.cache import Cache, Record
from waveunet_cli.hub.cards import NAME, Card, File, is_url
from waveunet_cli.hub.download import Downloader
from waveunet_cli.hub.install import Installer, import_model
from waveunet_cli.hub.registry import Cards, folder_cards, local_files, not_found, registry_cards, shipped_folder
from waveunet_cli.hub.verify import verified
from waveunet_cli.importers.options import ImportOptions


@dataclass(frozen=True)
class Entry:
    """A model: its card, its record in the cache, or both.

    `state` is "embedded" (beside its card, opened in place), "downloaded", "imported" or "available"; `path` the
    .safetensors file unless it is only available.
    """

    name: str
    state: str
    path: Path | None
    card: Card | None
    record: Record | None

    @property
    def size(self) -> int:
        """Bytes on this machine, or to download."""
        return self.record.size if self.record else self.card.size if self.card else 0


class Catalogue:
    """All models by name. The user's registry is read only when a name is not found without it, or for `entries`."""

    def __init__(self, cache: Cache, downloader: Downloader, registry: str | None = None) -> None:
        self.cache = cache
        self._downloader = downloader
        self._registry = registry

    def entries(self) -> dict[str, Entry]:
        """Every model, by name, sorted, but those of `damaged`."""
        cards = {**self._shipped.good, **self._registered.good}
        records, _ = self.cache.records()
        return {name: _entry(name, cards.get(name), records.get(name), self.cache) for name in sorted(cards | records)}

    def damaged(self) -> dict[str, WaveUNetError]:
        """Why the card or the record of a model cannot be read, by the model's name."""
        return {**self._shipped.bad, **self._registered.bad, **self.cache.records()[1]}

    def entry(self, name: str) -> Entry:
        """One model, upper or lower case.

        Raises ModelNotFoundError if there is none, ConfigError or CheckpointError if its card or record is damaged.
        """
        name = name.lower()
        card = self._card(folder_cards(shipped_folder(), name), name)
        record = self.cache.record(name) if NAME.fullmatch(name) else None
        if card is None and record is None:
            card = self._card(self._registered, name)
        if card is None and record is None:
            raise not_found(name, sorted({*self._shipped.good, *self._registered.good, *self.cache.records()[0]}))
        return _entry(name, card, record, self.cache)

    def download(self, names: Sequence[str]) -> list[WaveUNetError]:
        """Bring models into the cache; returns the errors of those that failed, the others are there."""
        errors: list[WaveUNetError] = []
        with Installer(self.cache, self._downloader) as installer:
            for name in names:
                try:
                    entry = self.entry(name)
                    if entry.path is None and entry.card:
                        installer.install(entry.card)
                except WaveUNetError as error:
                    errors.append(error)
        return errors

    def weights(self, name: str) -> Path:
        """The .safetensors file of a model, downloaded and converted first if need be."""
        path = self.entry(name).path
        if path is None:
            for error in self.download([name]):
                raise error
            path = self.cache.weights_path(name.lower())
        return path

    def verify(self, name: str) -> None:
        """Raise DownloadError unless a model's file is here and has the size and hash it should have."""
        entry = self.entry(name)
        if entry.path is None:
            raise DownloadError(f"{entry.name}: not on this machine; run 'waveunet models download {entry.name}'")
        if entry.record:
            verified(entry.path, File(entry.path.name, size=entry.record.size, sha256=entry.record.sha256))
        elif entry.card:
            verified(entry.path, entry.card.files[0])

    def remove(self, name: str, *, forget: bool = False) -> None:
        """Delete a model from the cache; with `forget`, also the hashes recorded on its first use.

        Raises ModelNotFoundError if there is nothing to remove.
        """
        name = name.lower()
        if name in self._shipped.good and self.entry(name).state == "embedded":
            raise ModelNotFoundError(f"{name}: is part of waveunet itself, not of the cache; it cannot be removed")
        if not NAME.fullmatch(name):  # it would lead out of the cache
            raise not_found(name, sorted(self.cache.records()[0]))
        with self.cache.lock(name):
            known = bool(self.cache.first_use(name))
            if not self.cache.remove(name) and not (forget and known):
                raise ModelNotFoundError(f"{name}: not in the cache ({self.cache.root}), nothing to remove")
        if forget:
            self.cache.record_first_use(name, None)

    def import_checkpoint(self, path: Path, name: str, options: ImportOptions | None = None) -> Record:
        """Convert a checkpoint into the cache; see `import_model`.

        The name of a card is only for the card's own files, known by their hashes, in the folder `path`: they become
        the card's model, as if they had been downloaded. Raises ConfigError for any other file under that name, and for
        options, which the card states; DownloadError for files with the right names and other bytes.
        """
        options = options or ImportOptions()
        if name.lower() not in self._shipped.names | self._registered.names:
            return import_model(path, name, self.cache, options)
        card = self._shipped.good.get(name.lower()) or self._registered.good.get(name.lower())
        found = replace(card, origin=str(path)) if card and all(file.hash_known for file in card.files) else None
        if found is None or local_files(found) is None:
            raise ConfigError(f"{name}: is the name of a published model, and {path} does not hold it; choose another")
        if options.given():
            given = ", ".join(f"--{option.replace('_', '-')}" for option in options.given())
            raise ConfigError(f"{name}: is a published model; leave out {given}, which its card states")
        if self.entry(name).path:
            raise ConfigError(f"{name}: this published model is on this machine already; nothing to import")
        with Installer(self.cache, self._downloader) as installer:
            try:
                return installer.install(found)
            except DownloadError as error:
                raise DownloadError(
                    f"{path}: {error}; copy the published files again, or choose another name"
                ) from error

    @staticmethod
    def _card(cards: Cards, name: str) -> Card | None:
        if name in cards.bad:
            raise cards.bad[name]
        return cards.good.get(name)

    @cached_property
    def _shipped(self) -> Cards:
        return folder_cards(shipped_folder())

    @cached_property
    def _registered(self) -> Cards:
        return registry_cards(self._registry, self.cache, self._downloader)


def _entry(name: str, card: Card | None, record: Record | None, cache: Cache) -> Entry:
    local = local_files(card) if card and card.format == "safetensors" else None
    if local:
        return Entry(name, "embedded", local[0], card, None)
    if record:
        imported = card is None and not is_url(record.origin)
        return Entry(name, "imported" if imported else "downloaded", cache.weights_path(name), card, record)
    return Entry(name, "available", None, card, None)
