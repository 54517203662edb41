"""Where stems go and as what: the settings that `separate` has for every song."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from waveunet_cli.audio import Clip
from waveunet_cli.library.manifest import Request, SettingValue, SongOutputs
from waveunet_cli.library.names import TEMPLATE, stem_paths
from waveunet_cli.library.storage import Located

if TYPE_CHECKING:
    from waveunet_cli.library.song import Song
    from waveunet_cli.separator import Separator


class Settings(TypedDict, total=False):
    """The fields of Target that have a default, as keyword arguments."""

    filename: str
    container: str
    subtype: str | None
    clip: Clip
    tags: bool


@dataclass(frozen=True)
class Target:
    """Where stems go and as what.

    filename   the template of a stem's path below `out`
    container  wav, flac, ogg or mp3
    subtype    a libsndfile name, by default the nearest to the input's depth
    clip       what happens to stems beyond full scale in integer and lossy formats: rescale (one gain for all),
               clamp or none
    tags       whether the song's tags, its cover, and a comment that names the model go into the stems
    """

    out: Located
    filename: str = TEMPLATE
    container: str = "wav"
    subtype: str | None = None
    clip: Clip = "rescale"
    tags: bool = True

    def outputs(self, separator: "Separator", song: "Song") -> SongOutputs:
        """Where the stems of a song go; raises ConfigError for an impossible template."""
        names = stem_paths(
            self.out.path, self.filename, separator.model.name, song.track, separator.stems, self.container
        )
        return SongOutputs(names, self.out)

    def request(self, separator: "Separator") -> Request:
        """What decides the samples of stems, the song itself aside."""
        settings: dict[str, SettingValue] = {**separator.settings, "stems": list(separator.stems)}
        settings |= {"container": self.container, "subtype": self.subtype, "clip": self.clip}
        settings |= {} if self.tags else {"tags": False}
        return Request(separator.model_sha256, settings)
