"""The page of `waveunet listen`: how fast it is written, how small it is, how soon it sounds, what a tab needs.

    python benchmarks/page.py [--minutes 4] [--rounds 3] [--name vocals] [--precision float32] [--song FILE]
    python benchmarks/page.py --browser [--minutes 4 60] [--rounds 5]

The first separates a song and writes its page by turns. With --browser, pages are opened in Chromium by Selenium: the
time from the click on Play to the first sample that is not silent, and the memory of the tab's process at most, while
it plays at sixty places of the song. The song is FILE, again and again up to that length.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
import soundfile as sf

from waveunet_cli import Separator
from waveunet_cli.listen import StemSet, stems_at, write_page

ROOT = Path(__file__).parents[1]
SEEKS = 60

# Before the page runs: when Play was clicked, and when the first sample left for the loudspeaker.
WATCH = """
addEventListener("click", () => { window.clicked ??= performance.now(); }, true);
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to === this.context.destination && !this.watcher) {
    this.watcher = this.context.createScriptProcessor(256, 1, 1);
    this.watcher.onaudioprocess = (event) => {
      if (window.heard === undefined && event.inputBuffer.getChannelData(0).some((sample) => sample !== 0)) {
        window.heard = performance.now();
      }
    };
    connect.call(this, this.watcher);
    connect.call(this.watcher, to);
  }
  return connect.call(this, to, ...rest);
};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="vocals")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--song", type=Path, default=ROOT / "examples" / "francium.ogg")
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    for minutes in options.minutes or ([4.0, 60.0] if options.browser else [4.0]):
        with tempfile.TemporaryDirectory() as folder:
            if options.browser:
                _play(options.song, minutes, options.rounds, Path(folder))
            else:
                separator = Separator(options.name, "cpu", options.precision)
                _write(separator, options.song, minutes, options.rounds, Path(folder))


def _write(separator: Separator, song: Path, minutes: float, rounds: int, folder: Path) -> None:
    long = folder / "song.wav"
    _repeat(song, minutes, [long])
    took = []  # of every round: seconds, and seconds of the processor, of the separation and of the page
    for _ in range(rounds):
        clocks = [_clocks()]
        done = separator.separate_file(long, folder, overwrite="always")
        clocks.append(_clocks())
        (stems,) = stems_at([next(iter(done.stems.values()))])
        page = write_page(stems)
        clocks.append(_clocks())
        took.append(np.diff(clocks, axis=0))
        page_bytes = page.path.stat().st_size
    shares = np.median([page / separation for separation, page in took], axis=0)
    separation, page_took = np.median(took, axis=0)
    print(f"{separator.model.name}, {minutes:g} min, {separator.placement}")
    print(f"separation  {separation[0]:6.2f} s, {separation[1]:6.2f} s of the processor")
    print(
        f"page        {page_took[0]:6.2f} s, {page_took[1]:6.2f} s of the processor; {shares[0]:.1%}, {shares[1]:.1%}"
    )
    print(f"            {page_bytes / 1000:.0f} kB without the sound")


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _play(song: Path, minutes: float, rounds: int, folder: Path) -> None:
    sys.path.append(str(ROOT / "tests"))
    from browser import Browser  # which the tests use, too

    stems = {name: folder / f"{name}.flac" for name in ("accompaniment", "vocals")}
    _repeat(song, minutes, list(stems.values()))
    page = write_page(StemSet("song", folder, stems))
    starts, peaks_bytes = [], []
    for _ in range(rounds):
        with closing(Browser()) as browser:
            browser.open(page.path.as_uri(), WATCH)
            browser.click("#play")
            starts.append(browser.wait("window.heard - window.clicked"))
            seen = []
            for place in range(SEEKS):
                browser.run(f"waveunet.transport.currentTime = waveunet.transport.duration * {place / SEEKS}")
                time.sleep(0.5)
                seen.append(max(_renderers(browser.driver.service.process.pid)))
            peaks_bytes.append(max(seen))
    print(f"{minutes:g} min, {page.path.stat().st_size / 1000:.0f} kB without the sound")
    print(f"first sound {median(starts):.0f} ms after the click, {max(starts):.0f} ms at most")
    print(f"tab         {median(peaks_bytes) / 1e6:.0f} MB at most, {max(peaks_bytes) / 1e6:.0f} MB in the worst round")


def _repeat(song: Path, minutes: float, paths: list[Path]) -> None:
    """Write the song into files, again and again up to this length, in each of them with less sound."""
    sound, rate_hz = sf.read(song, dtype="float32")
    left = round(minutes * 60 * rate_hz)
    files = [sf.SoundFile(path, "w", rate_hz, sound.shape[1], "PCM_16") for path in paths]
    while left > 0:
        for number, file in enumerate(files, 1):
            file.write(sound[:left] / np.float32(number))
        left -= len(sound)
    for file in files:
        file.close()


def _renderers(root: int) -> Iterator[int]:
    """The resident memory in bytes of each tab's process, of those that this process started."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, told = status.read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(told.split()[1]), []).append(int(status.parent.name))
    below = [root]
    for parent in below:
        below += children.get(parent, [])
    for pid in below:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"--type=renderer" in command:
                yield int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except OSError:
            continue


if __name__ == "__main__":
    main()
