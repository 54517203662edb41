"""The page of a song: one HTML file beside its stems, and a folder of scripts that hold the sound in chunks.

A page that is opened from a disk may not read the files beside it: browsers refuse fetch() there, and give Web Audio
silence from media elements. What they load is scripts. So each chunk of a few seconds is a script with the FLAC of all
tracks in it, which is also what every browser decodes, whatever the stems' own format is. docs/listen.md tells more.
"""

import base64
import hashlib
import html
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from io import BytesIO
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import quote_from_bytes

import numpy as np
import soundfile
from numpy.typing import NDArray

from waveunet_cli import __version__
from waveunet_cli.audio import CONTAINERS
from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import AudioReadError
from waveunet_cli.events import Note
from waveunet_cli.files import whole_file
from waveunet_cli.listen.overview import Peaks, Spectrogram
from waveunet_cli.listen.picture import png, top_of
from waveunet_cli.listen.stale import NOTHING, Made, clear, made, marks_of, require_ours
from waveunet_cli.listen.stemset import StemSet, Tracks, sum_of
from waveunet_cli.text import plain

CHUNK_SECONDS = 4
PEAKS = 1500
MAX_COLUMNS, BANDS = 700, 64
ALL_COLUMNS = 3500  # of all tracks together, so that the page stays small
MAX_INLINE_SECONDS = 600  # of all stems together; a second takes about 0.13 MB
SAME = 1e-3  # how far the mixture may be from the sum of the stems to be played as that sum
SCRIPTS = ("wavesurfer.js", "regions.js", "transport.js", "page.js")

Audio = NDArray[np.float32]


class Page(NamedTuple):
    """A page that was written, or was there: its file, its song's title, length in seconds, and the stems' names."""

    path: Path
    title: str
    seconds: float
    stems: Sequence[str]


def write_page(stems: StemSet, on_event: Callable[[Note], None] = lambda note: None) -> Page:
    """Write the page of a song beside its stems, unless it is there and nothing has changed since.

    on_event takes a Note if the song is there but does not fit its stems; the page then plays their sum for it.
    Raises AudioReadError where `Tracks` does, and for a sample rate that no browser plays; AudioWriteError.
    """
    path = stems.beside("listen.html")
    with Tracks(stems) as tracks:
        page = Page(path, stems.title, tracks.frames / tracks.sample_rate_hz, list(stems.stems))
        key = _key(stems, tracks)
        before = made(path)
        if before is not None and before.key == key:
            return page
        require_ours(path)
        if tracks.mixture_said:
            on_event(Note(f"{tracks.mixture_said}; the page plays the sum of the stems in its place"))
        if not 3000 <= tracks.sample_rate_hz <= 192_000 or not CONTAINERS["flac"].takes_rate(tracks.sample_rate_hz):
            raise AudioReadError(
                f"{next(iter(stems.stems.values()))}: browsers do not play {tracks.sample_rate_hz} Hz; resample the"
                " stems to a common rate"
            )
        with explained(path):
            sound = stems.beside("listen")
            temporary = sound.with_name(f".waveunet-{uuid.uuid4().hex[:12]}.part")
            try:
                temporary.mkdir()
                overviews = _write_chunks(tracks, temporary)
                clear(sound)
                sound.mkdir(exist_ok=True)
                for chunk in temporary.iterdir():
                    chunk.replace(sound / chunk.name)
                text = _song_page(stems, tracks, overviews, sound.name, key)
                with whole_file(path) as unfinished:
                    unfinished.write_text(text, encoding="utf-8", newline="\n")
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return page


def inline_page(stems: StemSet) -> str:
    """The page of a song with its sound in it, as an element of HTML for a notebook; a text if it would be too large.

    Raises AudioReadError where `Tracks` does.
    """
    with Tracks(stems) as tracks, TemporaryDirectory(prefix="waveunet-") as folder:
        seconds = tracks.frames / tracks.sample_rate_hz
        if seconds * len(stems.stems) > MAX_INLINE_SECONDS:
            title, stem_folder = _text(stems.title), _text(str(stems.folder))
            return f"<p>{title}, {_clock(seconds)}: <code>waveunet listen {stem_folder}</code> writes its page.</p>"
        overviews = _write_chunks(tracks, Path(folder))
        chunks = [
            re.sub(r"^waveunetChunk\(\d+,|\);\n$", "", path.read_text(encoding="ascii"))
            for path in sorted(Path(folder).iterdir())
        ]
        page = _song_page(stems, tracks, overviews, "", "", chunks)
    height = 340 + 140 * (1 + len(stems.stems))
    return f'<iframe srcdoc="{html.escape(page)}" style="width: 100%; height: {height}px; border: 0"></iframe>'


def write_index(folder: Path, pages: Iterable[Page]) -> Path:
    """Write index.html into a folder: links to the pages of songs below it. Raises AudioWriteError."""
    path = folder / "index.html"
    require_ours(path)
    items = "\n".join(
        f'<li><a href="{_address(page.path.relative_to(folder))}">{_text(page.title)}</a>'
        f" <span>{_clock(page.seconds)}, {_text(', '.join(page.stems))}</span></li>"
        for page in pages
    )
    title = _text(folder.absolute().name)
    body = f'<main>\n<h1>{title}</h1>\n<ul class="songs">\n{items}\n</ul>\n</main>'
    with explained(path), whole_file(path) as unfinished:
        unfinished.write_text(_page(title, body), encoding="utf-8", newline="\n")
    return path


class _Overview:
    """What one track looks like."""

    def __init__(self, tracks: Tracks, columns: int) -> None:
        self._peaks = Peaks(tracks.frames, PEAKS)
        self._spectrogram = Spectrogram(tracks.frames, tracks.sample_rate_hz, columns, BANDS)
        self.edges_hz = self._spectrogram.edges_hz

    def push(self, block: Audio) -> None:
        self._peaks.push(block)
        self._spectrogram.push(block)

    def finish(self) -> tuple[Audio, Audio]:
        return self._peaks.finish(), self._spectrogram.finish()


def _write_chunks(tracks: Tracks, folder: Path) -> list[_Overview]:
    """Write all sound, chunk by chunk; returns what the mixture and then the stems look like."""
    count = 1 + len(tracks.stems.stems)
    overviews = [_Overview(tracks, min(MAX_COLUMNS, ALL_COLUMNS // count)) for _ in range(count)]
    rate_hz = tracks.sample_rate_hz
    with ThreadPoolExecutor(2, "encode") as encoding:
        unwritten: list[tuple[int, list[Future[tuple[float, str]]]]] = []

        def write_oldest() -> None:
            number, encoded = unwritten.pop(0)
            script = f"waveunetChunk({number},{json.dumps([each.result() for each in encoded])});\n"
            (folder / f"{number:05}.js").write_text(script, encoding="ascii")

        for number, (stems, mixture) in enumerate(tracks.blocks(CHUNK_SECONDS * rate_hz)):
            blocks = list(stems.values())
            # the player adds up the stems where that is the mixture
            is_sum = np.abs(sum_of(blocks) - mixture).max() <= SAME
            heard = blocks if is_sum else [*blocks, mixture]
            unwritten.append((number, [encoding.submit(_encode, block, rate_hz) for block in heard]))
            for overview, block in zip(overviews, [mixture, *blocks], strict=True):
                overview.push(block)
            if len(unwritten) > 2:  # while these are encoded, the next are read
                write_oldest()
        while unwritten:
            write_oldest()
    return overviews


def _encode(block: Audio, rate_hz: int) -> tuple[float, str]:
    """A block as FLAC of 16 bits in base64, and the gain that makes it as loud as it was."""
    heard = _heard(block)
    gain = max(1.0, float(heard.max()) * 32768 / 32767, -float(heard.min()))
    samples = np.rint(heard * np.float32(32768 / gain)).clip(-32768, 32767).astype(np.int16)
    file = BytesIO()
    soundfile.write(file, samples, rate_hz, "PCM_16", format="FLAC", compression_level=0)
    return gain, base64.b64encode(file.getbuffer()).decode()


def _heard(block: Audio) -> Audio:
    """At most two channels: of more, the first two, with half of the others in both."""
    if block.shape[1] <= 2:
        return block
    stereo: Audio = block[:, :2] + block[:, 2:].sum(axis=1, keepdims=True) / 2
    return stereo


def _song_page(
    stems: StemSet, tracks: Tracks, overviews: Sequence[_Overview], sound: str, key: str, chunks: Sequence[str] = ()
) -> str:
    """The page; `chunks` are in it, and not in the folder `sound`."""
    found = [overview.finish() for overview in overviews]
    top_db = top_of(decibels for _, decibels in found)
    edges_hz = overviews[0].edges_hz
    rows = []
    names = ["mixture", *stems.stems]
    files = [stems.mixture if stems.mixture and stems.mixture.parent == stems.folder else None, *stems.stems.values()]
    for number, (name, file, (_, decibels)) in enumerate(zip(names, files, found, strict=True)):
        values = {
            "name": _text(name),
            "kind": "track" if number else "whole",
            "lowest": f"{edges_hz[0]:.0f}",
            "highest": f"{edges_hz[-1]:.0f}",
            "picture": "data:image/png;base64," + base64.b64encode(png(decibels, top_db)).decode(),
            "file": _link(file, stems.folder) if file and not chunks else "",
            "controls": "",
        }
        if number:
            values["controls"] = Template(_resource("controls.html")).substitute(values)
        rows.append(Template(_resource("row.html")).substitute(values))
    data = {
        "rate": tracks.sample_rate_hz,
        "frames": tracks.frames,
        "chunkFrames": CHUNK_SECONDS * tracks.sample_rate_hz,
        "tracks": len(names),
        "folder": _address(Path(sound)),
        "peaks": [[round(float(peak), 3) for peak in peaks] for peaks, _ in found],
    }
    about = [_clock(tracks.frames / tracks.sample_rate_hz), f"{tracks.sample_rate_hz} Hz"]
    about += [f"separated by the model {stems.model}"] if stems.model else []
    about += [f"heard in stereo, the files have {tracks.channels} channels"] if tracks.channels > 2 else []
    body = Template(_resource("song.html")).substitute(
        title=_text(stems.title),
        about=_text(", ".join(about)),
        rows="\n".join(rows),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        chunks="\n".join(
            f'<script type="application/json" id="chunk-{number}">{text}</script>' for number, text in enumerate(chunks)
        ),
        scripts="\n".join(f"<script>{_resource(name)}</script>" for name in SCRIPTS),
    )
    marks = marks_of(stems.folder, stems.stems.values())
    return _page(_text(stems.title), body, Made(key, marks), _resource("wavesurfer-LICENSE.txt"), SCRIPTS)


def _page(title: str, body: str, about: Made = NOTHING, licence: str = "", scripts: Sequence[str] = ()) -> str:
    """A whole page. Only our own scripts run in it, and it may load only scripts, from where it lies itself."""
    hashes = [hashlib.sha256(_resource(name).encode()).digest() for name in scripts]
    allowed = " ".join([*(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes), "'self'", "file:"])
    return Template(_resource("page.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}",
        version=f"{__version__} {about.key}".strip(),
        stems=html.escape(json.dumps(about.stems, separators=(",", ":"))),
        title=title,
        style=_resource("style.css"),
        body=body,
        licence=f"<!-- wavesurfer.js, which draws the waveforms:\n{licence}-->" if licence else "",
    )


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath("player", name).read_text(encoding="utf-8")


def _key(stems: StemSet, tracks: Tracks) -> str:
    """A hash of all that decides the page."""
    files = [*stems.stems.values(), *([stems.mixture] if stems.mixture and not tracks.mixture_said else [])]
    marks = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    names = (*SCRIPTS, "page.html", "song.html", "row.html", "controls.html", "style.css")
    about = [stems.title, list(stems.stems), stems.gain, stems.model, marks, [_resource(name) for name in names]]
    return hashlib.sha256(json.dumps(about).encode(errors="surrogateescape")).hexdigest()[:16]


def _text(text: str) -> str:
    """A text from outside, as HTML that shows it."""
    return html.escape(plain(text))


def _address(path: Path) -> str:
    """The address of a file below the page's folder."""
    return "/".join(quote_from_bytes(part.encode(errors="surrogateescape")) for part in path.parts)


def _link(file: Path, folder: Path) -> str:
    address = html.escape(_address(file.relative_to(folder)))
    return f'<a href="{address}" download>Download {_text(file.name)}</a>'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
