"""The file of --report: the summary of a batch as JSON. It replaces nothing but an earlier report."""

import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import ConfigError
from waveunet_cli.events import Plan, Summary
from waveunet_cli.files import whole_file
from waveunet_cli.tables import json_in

MOST_BYTES = 1 << 30  # of a report; a million songs that failed fill half of it
IN_EVERY_REPORT = {"songs", "failed", "seconds", "speed"}


def require_replaceable(path: Path) -> None:
    """Raise ConfigError unless a report may be written here: there is a folder, and in it no other file of this name.

    An earlier report and an empty file may be replaced. Links, devices and pipes may not.
    """
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise ConfigError(f"--report {path}: {path.parent} is no folder to write to; make it or name another")
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"--report {path}: cannot be looked at ({error.strerror}); name another file") from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"--report {path}: is no regular file but a folder, a link or a device; name another file")
    if status.st_size and not _is_report(path):
        raise ConfigError(f"--report {path}: is there and is no report of waveunet; name another file, or remove it")


def write_report(path: Path, summary: Summary | Plan) -> None:
    """Write what --report asks for. Raises ConfigError as above, AudioWriteError if it cannot be written."""
    require_replaceable(path)
    with explained(path), whole_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(summary), indent=1) + "\n", encoding="utf-8")


def _is_report(path: Path) -> bool:
    try:
        return json_in(path, MOST_BYTES).keys() >= IN_EVERY_REPORT
    except ConfigError:
        return False
