"""The kinds of input that come from outside: how a valid one is made, how a mutant is made of it, and who opens it.

A kind is added with one entry of KINDS. Its `make` writes a valid input into a folder, once; of a copy of that folder
`spoil` makes a mutant; `open` reads it as waveunet does, and raises errors of ours or nothing.
"""

import gzip
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch

from audio_files import LAYOUTS, encode, ogg, ogg_pages
from fuzz.mutate import mutant
from golden_files import golden
from small_models import TINY, model_of, network_of
from tf1_bundle import block, tensors_of, varint, write_bundle
from torch_checkpoints import mss_state, state_of
from waveunet_cli.audio import CONTAINERS, AudioReader
from waveunet_cli.audio.tags import Cover, Tags, read_tags, write_tags
from waveunet_cli.cli.report import require_replaceable
from waveunet_cli.datasets.tracks import Data
from waveunet_cli.hub.archive import extract
from waveunet_cli.hub.cache import Cache
from waveunet_cli.hub.cards import File, read_card
from waveunet_cli.hub.registry import shipped_folder
from waveunet_cli.importers import keras_port
from waveunet_cli.importers.convert import convert
from waveunet_cli.importers.sidecar import read_sidecar
from waveunet_cli.library.manifest import Request, SongOutputs, parse_manifest
from waveunet_cli.library.storage import Located
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.family import FAMILIES, config_class, config_to_json
from waveunet_cli.networks.mss import MSSConfig
from waveunet_cli.networks.pytorch_port import PyTorchPortConfig
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.separator import Separator
from waveunet_cli.training.material import gather
from waveunet_cli.training.recipe import Recipe, read_recipe

MOST_BYTES = 512 << 20  # of memory, and twice the file
PORT = PyTorchPortConfig(sources=("bass", "vocals"), widths=(8, 16, 24), residual="bass", window_frames=500)
BUNDLE = WaveUNetConfig(levels=2, filters=2, channels=2, padding="valid", upsampling="learned", output="difference")
RECIPES = Path(__file__).parents[2] / "recipes"
NASTY = [
    *(0, -1, 1, 2, 3, 5, 15, 16, 17, 31, 255, 1023, 4096, 16_384, 1 << 22, 10**9, 2**63, -(2**63), 10**40, 1.5, 1e300),
    *(float("nan"), float("inf"), True, None, "x", "\x1b[2J\n", "same", "valid", "masked", "direct", "linear"),
    *("learned", [], {}),
    *([1, 2], ["a", "b"], ["a"] * 3, [8] * 16, [16_384] * 16, [32] * 16, {"a": -1}),
]  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of input; see above."""

    name: str
    make: Callable[[Path], object]
    spoil: Callable[[random.Random, Path], object]
    open: Callable[[Path], object]


def bytes_of(name: str) -> Callable[[random.Random, Path], object]:
    """Mutates the bytes of the file called so."""

    def spoil(rng: random.Random, folder: Path) -> None:
        (folder / name).write_bytes(mutant(rng, (folder / name).read_bytes()))

    return spoil


# --- Songs

TAGS = Tags({"title": "A", "artist": "B"}, Cover(b"\xff\xd8" * 20, "image/jpeg"))


@cache
def separator() -> Separator:
    return Separator(model_of(TINY), "cpu", "float32")


def listen(name: str) -> Callable[[Path], object]:
    """Reads and separates a song, and forgets the stems."""

    def separate(folder: Path) -> None:
        with AudioReader(folder / name) as reader:
            for _ in separator().stream(reader.blocks(), reader.info.sample_rate_hz):
                pass
        read_tags(folder / name)

    return separate


def noise(frames: int = 3000, channels: int = 2) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((frames, channels)) * 0.1).clip(-1, 1).astype(np.float32)


def sound(extension: str, subtype: str, rate_hz: int = 8000) -> Kind:
    name = f"song.{extension}"

    def make(folder: Path) -> None:
        soundfile.write(folder / name, noise(), rate_hz, subtype, format=extension)
        if extension in CONTAINERS:
            write_tags(folder / name, extension, TAGS)

    return Kind(extension, make, bytes_of(name), listen(name))


def by_ffmpeg(name: str, codec: str, rate_hz: int = 44_100, container: str | None = None) -> Kind:
    def make(folder: Path) -> None:
        encode(folder / f"song.{name}", noise(9000), codec, container, rate_hz, LAYOUTS[2])

    return Kind(name, make, bytes_of(f"song.{name}"), listen(f"song.{name}"))


def spoil_ogg(rng: random.Random, folder: Path) -> None:
    """Other bytes with check sums that are right, so that the decoder sees them."""
    path = folder / "song.ogg"
    pages = ogg_pages(path.read_bytes())
    for page in rng.sample(pages, rng.choice([1, 1, 2])):
        changed = mutant(rng, bytes(page), 27 + page[26])[: len(page)]
        page[:] = changed.ljust(len(page), b"\0")
    path.write_bytes(ogg(pages))


# --- Checkpoints and archives


def make_bundle(folder: Path) -> None:
    write_bundle(folder / "m-1", tensors_of(BUNDLE))


def spoil_bundle(rng: random.Random, folder: Path) -> None:
    """Another table of contents with check sums that are right: every entry is read."""
    index = (folder / "m-1.index").read_bytes()
    entries = entries_of(index, 1 + len(tensors_of(BUNDLE)))
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(entries))
        key, value = entries[at]
        match rng.randrange(5):
            case 0:
                entries[at] = (mutant(rng, key), value)
            case 1 | 2:
                entries[at] = (key, mutant(rng, value))
            case 3:
                entries[at] = (key, rng.choice(entries)[1])
            case 4:
                del entries[at]
                if not entries:
                    entries = [(b"", b"")]
    first, empty = block(entries), block([])
    last = block([(entries[-1][0], varint(0) + varint(len(first) - 5))])
    handles = varint(len(first)) + varint(len(empty) - 5) + varint(len(first) + len(empty)) + varint(len(last) - 5)
    (folder / "m-1.index").write_bytes(first + empty + last + handles.ljust(40, b"\0") + index[-8:])


def entries_of(index: bytes, count: int) -> list[tuple[bytes, bytes]]:
    """The first entries of a table, from its first block."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (index[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if index[at - 1] < 0x80:
                return value

    entries: list[tuple[bytes, bytes]] = []
    key = b""
    for _ in range(count):
        shared, other, size = number(), number(), number()
        key = key[:shared] + index[at : at + other]
        entries.append((key, index[at + other : at + other + size]))
        at += other + size
    return entries


def torch_kind(name: str, state: Callable[[], object], old: bool = False) -> Kind:
    return Kind(
        name,
        lambda folder: torch.save(state(), folder / "model.pt", _use_new_zipfile_serialization=not old),
        bytes_of("model.pt"),
        lambda folder: convert(folder / "model.pt"),
    )


def spoil_pickle(rng: random.Random, folder: Path) -> None:
    """Another pickle in a zip that is whole."""
    with zipfile.ZipFile(folder / "model.pt") as before:
        members = {info.filename: before.read(info) for info in before.infolist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = mutant(rng, members[name])
    with zipfile.ZipFile(folder / "model.pt", "w", zipfile.ZIP_STORED) as after:
        for name, data in members.items():
            after.writestr(name, data)


def spoil_header(rng: random.Random, folder: Path) -> None:
    """Another configuration of any family in a safetensors file that is whole."""
    values = json.loads(config_to_json(config_class(rng.choice(list(FAMILIES)))()))
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        values[rng.choice(list(values))] = rng.choice(NASTY)
    if rng.random() < 0.1:
        values.pop(rng.choice(list(values)))
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["config"] = json.dumps(values)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@cache
def h5_server(process: int) -> subprocess.Popen[str]:
    """That of a process of ours: two must not share one."""
    command = [sys.executable, str(Path(__file__).with_name("h5_server.py")), str(golden("keras/shallow") / "model.h5")]
    environment = {**os.environ, **keras_port.NO_FILTERS, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def read_in_a_fork(path: Path, out: Path, seconds: float) -> tuple[int, str]:
    server = h5_server(os.getpid())
    print(json.dumps([str(path), str(out), seconds]), file=server.stdin, flush=True)
    code, said, peak = json.loads(server.stdout.readline())
    if code == -signal.SIGALRM:
        raise subprocess.TimeoutExpired([str(path)], seconds)
    if peak > MOST_BYTES + 2 * path.stat().st_size:
        raise MemoryError(f"the process that reads HDF5 took {peak / 1e6:.0f} MB")
    return code, said


def convert_keras(folder: Path) -> None:
    with mock.patch.object(keras_port, "read_apart", read_in_a_fork):
        convert(folder / "model.h5")


def make_keras(folder: Path) -> None:
    (folder / "model.h5").write_bytes((golden("keras/shallow") / "model.h5").read_bytes())


def spoil_graph(rng: random.Random, folder: Path) -> None:
    """Another graph in an HDF5 file that is whole."""
    import h5py

    with h5py.File(folder / "model.h5", "r+") as file:
        graph = file.attrs["model_config"]
        graph = mutant(rng, graph if isinstance(graph, bytes) else graph.encode())
        file.attrs["model_config"] = np.bytes_(graph[:60_000])


def make_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/model.index", b"weights" * 1000)
        archive.writestr("y", b"z")


def make_tar(folder: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in (("x/model.index", b"weights" * 1000), ("y" * 200, b"z")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (folder / "a.zip").write_bytes(gzip.compress(data.getvalue()))


def spoil_tar(rng: random.Random, folder: Path) -> None:
    """Other bytes in a gzip that is whole, and often a header whose sum is right."""
    data = bytearray(mutant(rng, gzip.decompress((folder / "a.zip").read_bytes())))
    for start in range(0, len(data) - 511, 512):
        header = data[start : start + 512]
        if header[257:262] == b"ustar" and rng.random() < 0.8:
            header[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    (folder / "a.zip").write_bytes(gzip.compress(bytes(data)))


def open_archive(folder: Path) -> None:
    extract(folder / "a.zip", [File("model.index", size=7000)], folder)


# --- Tables


def make_card(folder: Path) -> None:
    (folder / "m4.toml").write_bytes((shipped_folder() / "m4.toml").read_bytes())


def make_record(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models/mine.safetensors").write_bytes(b"x")
    record = {
        "name": "mine", "stems": ["a", "b"], "residual": "a", "sample_rate": 44_100, "channels": 2, "format": "x",
        "licence": "y", "origin": "z", "files": {"a": "b"}, "notes": ["n"], "size": 3, "sha256": "s",
    }  # fmt: skip
    (folder / "models/mine.json").write_text(json.dumps(record))


def make_sidecar(folder: Path) -> None:
    (folder / "x.waveunet.toml").write_text('padding = "same"\nstems = ["a", "b"]\nstride = 4\nsample_rate = 44100\n')


def make_recipe(folder: Path) -> None:
    (folder / "recipe.toml").write_bytes((RECIPES / "4stems.toml").read_bytes())


def spoil_recipe(rng: random.Random, folder: Path) -> None:
    """Other values of settings, or other bytes."""
    path = folder / "recipe.toml"
    if rng.random() < 0.3:
        bytes_of("recipe.toml")(rng, folder)
        return
    lines = path.read_text().splitlines()
    settings = [at for at, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    for at in rng.sample(settings, rng.choice([1, 1, 2, 4])):
        name = lines[at].partition(" = ")[0]
        if not lines[at].rstrip().endswith("["):
            lines[at] = f"{name} = {rng.choice(['nan', 'inf', '-inf', json.dumps(rng.choice(NASTY[:20]))])}"
    path.write_text("\n".join(lines))


def open_recipe(folder: Path) -> None:
    recipe = read_recipe(folder / "recipe.toml")
    recipe.config().window(recipe.hop_frames)


REQUEST = Request("m", {"stems": ["vocals"], "clip": None})


def outputs(folder: Path) -> SongOutputs:
    return SongOutputs({"vocals": folder / "out/vocals.wav"})


def make_manifest(folder: Path) -> None:
    from waveunet_cli.audio import WriteReport
    from waveunet_cli.library.storage import FileMark

    (folder / "out").mkdir()
    soundfile.write(folder / "song.wav", noise(), 8000)
    soundfile.write(folder / "out/vocals.wav", noise(), 8000)
    song = Located(folder / "song.wav")
    outputs(folder).finish(song, FileMark.of(song), "tiny", REQUEST, 8000, WriteReport(3000, 1.0, 0.5, 0))
    assert outputs(folder).why_again(song, REQUEST) is None


def spoil_manifest(rng: random.Random, folder: Path) -> None:
    """Other values in a table that is whole, or other bytes."""
    (path,) = (folder / "out").glob("*.json")
    values = json.loads(path.read_text())
    if rng.random() < 0.5:
        path.write_bytes(mutant(rng, path.read_bytes()))
        return
    for _ in range(rng.choice([1, 1, 2])):
        table = rng.choice([values, values, values["stems"], values["paths"], values["input_mark"]])
        if isinstance(table, dict) and table:
            table[rng.choice(list(table))] = rng.choice(NASTY)
    path.write_text(json.dumps(values))


def open_manifest(folder: Path) -> None:
    """A song is done only if its manifest says so of every stem."""
    why = outputs(folder).why_again(Located(folder / "song.wav"), REQUEST)
    if why is None:
        (path,) = (folder / "out").glob("*.json")
        assert parse_manifest(path.read_text(encoding="utf-8")).stems.keys() == {"vocals"}


def make_report(folder: Path) -> None:
    from waveunet_cli.events import Summary

    summary = Summary(1, 1, 0, (), (), {}, None, 1.0, 1.0, 1.0)
    (folder / "report.json").write_text(json.dumps(asdict(summary), indent=1))


def make_songs(folder: Path) -> None:
    for name, frames in (("one", 4000), ("two", 13_000)):
        (folder / "train" / name).mkdir(parents=True)
        stems = {"drums": noise(frames), "vocals": noise(frames) / 2}
        for stem, samples in {**stems, "mixture": sum(stems.values())}.items():
            soundfile.write(folder / "train" / name / f"{stem}.wav", samples, 8000, "PCM_16")


def spoil_songs(rng: random.Random, folder: Path) -> None:
    path = rng.choice(sorted(folder.rglob("*.wav")))
    path.write_bytes(mutant(rng, path.read_bytes()))


def open_songs(folder: Path) -> None:
    config = WaveUNetConfig(levels=2, filters=2, sample_rate=8000, sources=("drums", "vocals"), residual="drums")
    gather(Recipe((Data(folder),), hold_out=1, workers=1), config)


ALL = (
    sound("wav", "PCM_16"),
    sound("flac", "PCM_16"),
    sound("ogg", "VORBIS"),
    Kind("ogg, sums right", sound("ogg", "VORBIS").make, spoil_ogg, listen("song.ogg")),
    sound("mp3", "MPEG_LAYER_III"),
    sound("w64", "PCM_16"),
    sound("caf", "PCM_16"),
    sound("aiff", "PCM_16"),
    sound("au", "PCM_16"),
    by_ffmpeg("m4a", "aac"),
    Kind(
        "safetensors",
        lambda folder: save_checkpoint(folder / "model.safetensors", TINY, network_of(TINY).state_dict()),
        bytes_of("model.safetensors"),
        lambda folder: load_checkpoint(folder / "model.safetensors"),
    ),
    Kind(
        "safetensors, header",
        lambda folder: save_checkpoint(folder / "model.safetensors", TINY, network_of(TINY).state_dict()),
        spoil_header,
        lambda folder: load_checkpoint(folder / "model.safetensors"),
    ),
    torch_kind("torch", lambda: {"model_state_dict": state_of(PORT), "step": 3}),
    torch_kind("torch, old", lambda: {"model_state_dict": state_of(PORT), "step": 3}, old=True),
    Kind(
        "torch, pickle",
        lambda folder: torch.save(
            mss_state(MSSConfig(levels=2, filters=2, down_taps=5, up_taps=3)), folder / "model.pt"
        ),
        spoil_pickle,
        lambda folder: convert(folder / "model.pt"),
    ),
    Kind("h5", make_keras, bytes_of("model.h5"), convert_keras),
    Kind("h5, graph", make_keras, spoil_graph, convert_keras),
    Kind("bundle", make_bundle, bytes_of("m-1.index"), lambda folder: convert(folder / "m-1")),
    Kind("bundle, sums right", make_bundle, spoil_bundle, lambda folder: convert(folder / "m-1")),
    Kind("zip", make_zip, bytes_of("a.zip"), open_archive),
    Kind("tar", make_tar, bytes_of("a.zip"), open_archive),
    Kind("tar, sums right", make_tar, spoil_tar, open_archive),
    Kind("card", make_card, bytes_of("m4.toml"), lambda folder: read_card(folder / "m4.toml").options),
    Kind("record", make_record, bytes_of("models/mine.json"), lambda folder: Cache(folder).record("mine")),
    Kind("sidecar", make_sidecar, bytes_of("x.waveunet.toml"), lambda folder: read_sidecar(folder / "x")),
    Kind("recipe", make_recipe, spoil_recipe, open_recipe),
    Kind("manifest", make_manifest, spoil_manifest, open_manifest),
    Kind("report", make_report, bytes_of("report.json"), lambda folder: require_replaceable(folder / "report.json")),
    Kind("data set", make_songs, spoil_songs, open_songs),
)
KINDS = {kind.name: kind for kind in ALL}
