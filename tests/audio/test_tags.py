"""Tags, covers and studio chunks, read with mutagen and by hand from what we wrote."""

import errno
import struct
from dataclasses import replace
from io import BytesIO

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.aiff import AIFF
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TALB, TBPM, TIT2, TKEY, TPE1, TRCK

from small_models import TINY, network_of
from waveunet_cli.audio import CONTAINERS, OutputFormat, StemWriter, probe, read_blocks
from waveunet_cli.audio import tags as tags_module
from waveunet_cli.audio.tags import Cover, Tags, read_tags, write_tags
from waveunet_cli.audio.wav_chunks import Chunk
from waveunet_cli.errors import AudioWriteError
from waveunet_cli.networks.checkpoint import save_checkpoint

RATE = 8000
EACH = [name for name, container in CONTAINERS.items() if not container.one_file]
COMMENT = "separated by waveunet 0.1.0 with vocals (0123abcd)"
TEXTS = {
    "title": "Träume <b>",
    "artist": "Ännchen 歌",
    "album": "Ring",
    "album artist": "Various",
    "composer": "C. Omposer",
    "track": "3/12",
    "disc": "1/2",
    "date": "1999",
    "genre": "Rock",
    "BPM": "128",
    "key": "Am",
}
COVER = Cover(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20, "image/jpeg")
INFO = {"title", "artist", "album", "composer", "track", "date", "genre"}


def sound(path, container, subtype=None):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (RATE, 2))
    if container in ("m4a", "opus"):
        output = OutputFormat(container, CONTAINERS[container].subtypes[0])
        with StemWriter({"a": path}, 48_000, 2, output) as writer:
            writer.write({"a": samples.astype(np.float32)})
            writer.commit()
        return path
    soundfile.write(path, samples, RATE, subtype, format=container)
    return path


def samples_of(path):
    return np.concatenate(list(read_blocks(path)))


def riff_chunks(path):
    data = path.read_bytes()
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    at, found = 12, []
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        found.append((name, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    assert at == len(data)
    return found


@pytest.mark.parametrize("container", EACH)
def test_everything_comes_back(tmp_path, container):
    path = sound(tmp_path / "stem.part", container)
    before = samples_of(path)
    assert write_tags(path, container, Tags(TEXTS, COVER, comment=COMMENT)) == []
    found = read_tags(path)
    assert found.texts == TEXTS
    assert found.cover == COVER
    assert np.array_equal(samples_of(path), before)
    assert probe(path).frames == RATE
    comments = mutagen.File(path).tags
    kept = (
        comments.getall("COMM")[0].text
        if isinstance(comments, ID3)
        else comments["\xa9cmt" if container == "m4a" else "comment"]
    )
    assert kept == [COMMENT]


@pytest.mark.parametrize("container", EACH)
def test_a_song_without_tags_gives_a_comment(tmp_path, container):
    path = sound(tmp_path / "stem.part", container)
    assert write_tags(path, container, Tags(comment=COMMENT)) == []
    assert read_tags(path) == Tags()


def test_wav_has_both_kinds_of_tags(tmp_path):
    path = sound(tmp_path / "stem.wav", "WAV")
    write_tags(path, "wav", Tags(TEXTS))
    chunks = dict(riff_chunks(path))
    assert chunks[b"LIST"].startswith(b"INFO")
    assert ID3(BytesIO(chunks[b"id3 "]))["TIT2"].text == [TEXTS["title"]]
    stripped = tmp_path / "info.wav"
    data = path.read_bytes().replace(b"id3 ", b"xxxx")
    stripped.write_bytes(data)
    assert read_tags(stripped).texts == {name: TEXTS[name] for name in INFO}


def test_tags_behind_odd_samples_and_of_rf64(tmp_path):
    odd = tmp_path / "odd.wav"
    soundfile.write(odd, np.zeros(101), RATE, "PCM_U8")
    write_tags(odd, "wav", Tags(TEXTS))
    assert read_tags(odd).texts == TEXTS
    assert riff_chunks(odd)[-1][0] == b"id3 "
    assert probe(odd).frames == 101
    long = sound(tmp_path / "long.wav", "RF64", "PCM_16")
    write_tags(long, "wav", Tags(TEXTS))
    assert probe(long).frames == RATE
    assert struct.unpack_from("<Q", long.read_bytes(), 20)[0] == long.stat().st_size - 8


def chunk(name, content):
    return struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2)


BEXT = b"Take 5".ljust(338, b"\0") + struct.pack("<Q", 48_000 * 3600) + bytes(602 - 346) + b"A=PCM\r\n"
CUE = struct.pack("<IIIIIII", 1, 1, 500, int.from_bytes(b"data", "little"), 0, 0, 500)
SMPL = bytes(36)
LABELS = b"adtl" + chunk(b"labl", struct.pack("<I", 1) + b"Verse\0")
STUDIO = ((b"bext", BEXT), (b"cue ", CUE), (b"smpl", SMPL), (b"LIST", LABELS))


def studio_file(path):
    sound(path, "WAV")
    data = path.read_bytes()
    data = data[:12] + chunk(*STUDIO[0]) + data[12:] + b"".join(chunk(*each) for each in STUDIO[1:])
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    return path


def test_studio_chunks_are_carried_from_wav_to_wav(tmp_path):
    tags = read_tags(studio_file(tmp_path / "song.wav"))
    assert tags.chunks == STUDIO
    stem = sound(tmp_path / "stem.wav", "WAV")
    assert write_tags(stem, "wav", tags) == []
    assert read_tags(stem).chunks == STUDIO
    flac = sound(tmp_path / "stem.flac", "FLAC")
    assert write_tags(flac, "flac", tags) == ["the bext chunk", "the cue chunk", "the smpl chunk"]


def cues(*marks):
    """Marks of (name, frame)."""
    points = [struct.pack("<II4sIII", name, frame, b"data", 0, 0, frame) for name, frame in marks]
    return struct.pack("<I", len(points)) + b"".join(points)


def labels(*names):
    parts = [chunk(b"labl", struct.pack("<I", name) + text) for name, text in names]
    parts += [chunk(b"ltxt", struct.pack("<II4sHHHH", name, 10, b"rgn ", 0, 0, 0, 0)) for name, _ in names]
    return b"adtl" + b"".join(parts)


def loops(*parts):
    """Loops of (name, first frame, last frame), with 2 bytes of a sampler's own behind."""
    head = struct.pack("<9I", 1, 2, 22_675, 60, 0, 0, 0, len(parts), 2)
    return head + b"".join(struct.pack("<6I", name, 0, first, last, 0, 7) for name, first, last in parts) + b"me"


@pytest.mark.parametrize("start", [0, 100, 1500])
def test_marks_and_loops_move_with_a_part(tmp_path, start):
    """Of a song with these, a stem of RATE frames from `start` on has those in it, so much earlier."""
    marks = [(1, 0), (2, 100), (3, 1499), (4, 1500), (5, RATE + 100), (6, 3 * RATE)]
    places = [(1, 0, 50), (2, 90, 110), (3, 2000, 3000), (4, RATE, RATE + 99), (5, RATE, 2 * RATE)]
    names = [(name, f"mark {name}".encode().ljust(7, b"\0")) for name, _ in marks]
    song = (
        (b"LIST", labels(*names)), (b"cue ", cues(*marks)), (b"smpl", loops(*places)), (b"bext", BEXT),
    )  # fmt: skip
    stem = sound(tmp_path / "stem.wav", "WAV")
    assert write_tags(stem, "wav", Tags(chunks=tuple(Chunk(*each) for each in song), start_frames=start)) == []
    found = dict(read_tags(stem).chunks)
    left = [(name, frame - start) for name, frame in marks if 0 <= frame - start <= RATE]
    assert found[b"cue "] == cues(*left)
    assert found[b"LIST"] == labels(*(names[name - 1] for name, _ in left))
    inside = [(n, a - start, b - start) for n, a, b in places if start <= a and b - start <= RATE]
    assert found[b"smpl"] == loops(*inside)
    assert struct.unpack_from("<Q", found[b"bext"], 338)[0] == 48_000 * 3600 + start


def test_a_part_without_marks_has_no_chunk_of_marks(tmp_path):
    tags = read_tags(studio_file(tmp_path / "song.wav"))
    stem = sound(tmp_path / "stem.wav", "WAV")
    assert write_tags(stem, "wav", replace(tags, start_frames=501)) == []
    assert [name for name, _ in read_tags(stem).chunks] == [b"bext", b"smpl"]


def test_damaged_studio_chunks_of_a_part(tmp_path):
    chunks = [
        (b"bext", b"x"),
        (b"cue ", CUE[:20]),
        (b"cue ", b""),
        (b"LIST", LABELS[:9]),
        (b"smpl", loops((1, 2, 3))[:50]),
    ]
    stem = sound(tmp_path / "stem.wav", "WAV")
    tags = Tags(chunks=tuple(Chunk(*each) for each in chunks), start_frames=1)
    assert write_tags(stem, "wav", tags) == []
    assert read_tags(stem).texts == {}
    assert [name for name, _ in riff_chunks(stem)][2:] == [b"bext", b"smpl", b"LIST", b"id3 "]


def test_the_command_moves_marks(run, here):
    studio_file(here / "song.wav")
    ran = run("song.wav", "--start", "0.05", "--end", "0.5")
    assert (ran.code, ran.err) == (0, "")
    found = dict(read_tags(ran.stems[0]).chunks)
    assert found[b"cue "] == cues((1, 100))
    assert dict(read_tags(run("song.wav").stems[0]).chunks) == dict(STUDIO)


def test_tags_of_songs_that_others_wrote(tmp_path):
    tags = ID3()
    for frame in (TIT2(3, ["T"]), TPE1(3, ["A"]), TALB(3, ["B"]), TRCK(3, ["3"]), TBPM(3, ["90"]), TKEY(3, ["C"])):
        tags.add(frame)
    tags.add(APIC(encoding=3, mime="image/png", type=3, desc="x", data=b"png"))
    mp3 = sound(tmp_path / "song.mp3", "MP3")
    tags.save(mp3)
    aiff = AIFF(sound(tmp_path / "song.aiff", "AIFF"))
    aiff.add_tags()
    for frame in tags.values():
        aiff.tags.add(frame)
    aiff.save()
    wanted = Tags(
        {"title": "T", "artist": "A", "album": "B", "track": "3", "BPM": "90", "key": "C"}, Cover(b"png", "image/png")
    )
    assert read_tags(mp3) == wanted
    assert read_tags(tmp_path / "song.aiff") == wanted


def test_a_cover_of_20_mb_is_carried_where_there_is_a_place(tmp_path):
    big = Tags({}, Cover(bytes(20_000_000), "image/jpeg"))
    flac = sound(tmp_path / "stem.flac", "FLAC")
    assert write_tags(flac, "flac", big) == ["the cover of 20.0 MB"]
    assert probe(flac).frames == RATE
    for container in ("wav", "mp3"):
        path = sound(tmp_path / f"stem.{container}", container)
        assert write_tags(path, container, big) == []
        assert read_tags(path).cover == big.cover


@pytest.mark.parametrize("container", EACH)
def test_damaged_tags_are_no_error(tmp_path, container):
    path = sound(tmp_path / "song", container)
    write_tags(path, container, Tags(TEXTS, COVER, comment=COMMENT))
    good = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(50):
        data = bytearray(good)
        for place in random.integers(0, len(data), 200):
            data[place] = random.integers(256)
        path.write_bytes(data)
        read_tags(path)
        path.write_bytes(good[: random.integers(1, len(good))])
        read_tags(path)


def test_pictures_that_are_no_front_cover(tmp_path):
    flac = FLAC(sound(tmp_path / "song.flac", "FLAC"))
    for kind, data in ((4, b"back"), (3, b"front")):
        picture = Picture()
        picture.type, picture.data, picture.mime = kind, data, "image/png"
        flac.add_picture(picture)
    flac.save()
    assert read_tags(tmp_path / "song.flac").cover == Cover(b"front", "image/png")


@pytest.mark.parametrize("container", EACH)
def test_stems_carry_the_tags_of_their_song(tmp_path, monkeypatch, waveunet, container):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "tiny.safetensors", TINY, network_of(TINY).state_dict())
    write_tags(studio_file(tmp_path / "song.wav"), "wav", Tags(TEXTS, COVER))
    options = ("separate", "-n", "tiny.safetensors", "song.wav", "--format", container)
    ran = waveunet(*options)
    assert ran.code == 0, ran.err
    lost = "the bext chunk, the cue chunk, the smpl chunk"
    said = f"song.wav: {container} has no place for {lost}, so the stems are without\n"
    assert ran.err == ("" if container == "wav" else said)
    for path in ran.stems:
        found = read_tags(path)
        assert found.texts == TEXTS | {"title": f"{TEXTS['title']} ({path.stem})"}
        assert found.cover == COVER
        assert found.chunks == (STUDIO if container == "wav" else ())
    assert b"separated by waveunet" in path.read_bytes()
    with_tags = [samples_of(path) for path in ran.stems]
    assert waveunet(*options).out == "", "they are done"
    ran = waveunet(*options, "--no-tags")
    assert (ran.err, [read_tags(path) for path in ran.stems]) == ("", [Tags(), Tags()])
    for path, samples in zip(ran.stems, with_tags, strict=True):
        assert np.array_equal(samples_of(path), samples)


def test_a_disk_that_is_full_of_tags(tmp_path, monkeypatch):
    def fill(path, tags, lost):
        raise mutagen.MutagenError(OSError(errno.ENOSPC, "full"))

    monkeypatch.setitem(tags_module._WRITERS, "flac", fill)
    writer = StemWriter({"a": tmp_path / "a.flac"}, RATE, 1, OutputFormat("flac", "PCM_16"), tags={"a": Tags()})
    with writer:
        writer.write({"a": np.zeros((100, 1), np.float32)})
        with pytest.raises(AudioWriteError, match="the disk is full"):
            writer.commit()
    assert list(tmp_path.iterdir()) == []


def test_the_title_of_a_stem():
    assert Tags({"title": "T"}).of_stem("vocals", "file", COMMENT) == Tags({"title": "T (vocals)"}, comment=COMMENT)
    assert Tags().of_stem("vocals", "file", "", 5) == Tags({"title": "file (vocals)"}, start_frames=5)
