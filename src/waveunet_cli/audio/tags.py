"""What a song says of itself, carried to its stems: tags, the cover, and what studios keep in WAV files.

`read_tags` takes them from any file that mutagen knows. `write_tags` puts them into a finished stem, by the means of
its format. WAV files get both an ID3 chunk and LIST INFO, since programs read the one or the other. They also get the
chunks of the song that are about its samples.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from waveunet_cli.audio import wav_chunks
from waveunet_cli.text import plain

MAX_FLAC_COVER_BYTES = (1 << 24) - (1 << 10)  # a block of FLAC counts in 24 bits, and holds a few words besides


class _Names(NamedTuple):
    """How each kind of tag calls a field; "" if it has no name for it."""

    id3: str
    vorbis: str
    mp4: str
    info: str


_FIELDS: Mapping[str, _Names] = {
    "title": _Names("TIT2", "title", "\xa9nam", "INAM"),
    "artist": _Names("TPE1", "artist", "\xa9ART", "IART"),
    "album": _Names("TALB", "album", "\xa9alb", "IPRD"),
    "album artist": _Names("TPE2", "albumartist", "aART", ""),
    "composer": _Names("TCOM", "composer", "\xa9wrt", "IMUS"),
    "track": _Names("TRCK", "tracknumber", "trkn", "ITRK"),
    "disc": _Names("TPOS", "discnumber", "disk", ""),
    "date": _Names("TDRC", "date", "\xa9day", "ICRD"),
    "genre": _Names("TCON", "genre", "\xa9gen", "IGNR"),
    "BPM": _Names("TBPM", "bpm", "tmpo", ""),
    "key": _Names("TKEY", "initialkey", "----:com.apple.iTunes:initialkey", ""),
}


@dataclass(frozen=True)
class Cover:
    """A picture: its bytes, and its type such as image/jpeg."""

    data: bytes
    mime: str


@dataclass(frozen=True)
class Tags:
    """What a file says of itself.

    texts: field (a key of _FIELDS) → value; chunks: of a WAV file, those that are about its samples
    comment: is written, and not read
    start_frames: of a part, which frame of the song it begins with; None: the file is the whole song
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    cover: Cover | None = None
    chunks: tuple[wav_chunks.Chunk, ...] = ()
    comment: str = ""
    start_frames: int | None = None

    def of_stem(self, stem: str, song: str, comment: str, start_frames: int | None = None) -> "Tags":
        """The tags of a stem of this song, or of its part; `song` is its title if it does not say one."""
        texts = {**self.texts, "title": plain(f"{self.texts.get('title', song)} ({stem})")}
        return replace(self, texts=texts, comment=plain(comment), start_frames=start_frames)


def read_tags(path: Path) -> Tags:
    """What a file says of itself; nothing where that is in no tag that is known, or the tags are damaged."""
    import mutagen
    from mutagen.id3 import ID3
    from mutagen.mp4 import MP4Tags

    chunks = wav_chunks.studio_chunks(path)
    try:
        found = mutagen.File(path)
        tags = None if found is None else found.tags
    except Exception:  # of a file that is damaged in its tags, mutagen raises what it likes
        tags = None
    texts: dict[str, str] = {}
    cover: Cover | None = None
    if isinstance(tags, ID3):
        texts = {name: str(tags[names.id3].text[0]) for name, names in _FIELDS.items() if _has_text(tags, names.id3)}
        pictures = tags.getall("APIC")
        front = next((each for each in pictures if each.type == 3), pictures[0] if pictures else None)
        cover = front and Cover(front.data, front.mime)
    elif isinstance(tags, MP4Tags):
        texts = {name: _mp4_text(tags[names.mp4][0]) for name, names in _FIELDS.items() if tags.get(names.mp4)}
        if tags.get("covr"):
            is_png = tags["covr"][0].imageformat == tags["covr"][0].FORMAT_PNG
            cover = Cover(bytes(tags["covr"][0]), "image/png" if is_png else "image/jpeg")
    elif tags is not None and hasattr(tags, "vendor"):  # comments of Vorbis
        texts = {name: str(tags[names.vorbis][0]) for name, names in _FIELDS.items() if tags.get(names.vorbis)}
        if "key" not in texts and tags.get("key"):
            texts["key"] = str(tags["key"][0])
        cover = _vorbis_cover(found, tags)
    info = wav_chunks.info_texts(path)
    texts = {name: info[names.info] for name, names in _FIELDS.items() if names.info in info} | texts
    return Tags({name: text for name, text in texts.items() if text}, cover, chunks)


def write_tags(path: Path, container: str, tags: Tags) -> list[str]:
    """Put tags into a finished file of one of our containers; returns what its format has no place for, in words.

    Raises OSError.
    """
    from mutagen import MutagenError

    lost: list[str] = []
    if tags.chunks and container != "wav":
        lost += [f"the {name.decode().strip()} chunk" for name, _ in tags.chunks if name != b"LIST"]
    try:
        _WRITERS[container](path, tags, lost)
    except MutagenError as error:  # it wraps what the disk said
        raise next((each for each in error.args if isinstance(each, OSError)), OSError(str(error))) from error
    return lost


def _write_id3_file(path: Path, tags: Tags, lost: list[str]) -> None:
    _id3(tags).save(path)


def _write_flac(path: Path, tags: Tags, lost: list[str]) -> None:
    from mutagen.flac import FLAC

    file = FLAC(path)
    _put_vorbis(file, tags)
    if tags.cover is not None:
        if len(tags.cover.data) > MAX_FLAC_COVER_BYTES:
            lost.append(f"the cover of {len(tags.cover.data) / 1e6:.1f} MB")
        else:
            file.add_picture(_picture(tags.cover))
    file.save()


def _write_ogg(path: Path, tags: Tags, lost: list[str]) -> None:
    import mutagen

    file = mutagen.File(path)
    _put_vorbis(file, tags)
    if tags.cover is not None:
        file["metadata_block_picture"] = [base64.b64encode(_picture(tags.cover).write()).decode()]
    file.save()


def _write_mp4(path: Path, tags: Tags, lost: list[str]) -> None:
    from mutagen.mp4 import MP4, AtomDataType, MP4Cover, MP4FreeForm

    file = MP4(path)
    for name, text in tags.texts.items():
        atom = _FIELDS[name].mp4
        try:
            if atom in ("trkn", "disk"):
                number, _, total = text.partition("/")
                file[atom] = [(int(number), int(total or 0))]
            elif atom == "tmpo":
                file[atom] = [round(float(text))]
            elif atom.startswith("----"):
                file[atom] = [MP4FreeForm(text.encode(), AtomDataType.UTF8)]
            else:
                file[atom] = [text]
        except ValueError:
            lost.append(f"the {name} {text!r}")
    file["\xa9cmt"] = [tags.comment]
    if tags.cover is not None:
        kind = MP4Cover.FORMAT_PNG if tags.cover.mime == "image/png" else MP4Cover.FORMAT_JPEG
        file["covr"] = [MP4Cover(tags.cover.data, kind)]
    file.save()


def _write_wav(path: Path, tags: Tags, lost: list[str]) -> None:
    id3 = BytesIO()
    _id3(tags).save(id3)
    texts = [(names.info, tags.texts[name]) for name, names in _FIELDS.items() if names.info and name in tags.texts]
    studio: Sequence[wav_chunks.Chunk] = tags.chunks
    if tags.start_frames is not None:
        studio = wav_chunks.of_part(studio, tags.start_frames, wav_chunks.frames_of(path))
    info = wav_chunks.info_chunk([*texts, ("ICMT", tags.comment)])
    if not wav_chunks.append(path, [*studio, info, wav_chunks.Chunk(b"id3 ", id3.getvalue())]):
        lost.append("all tags, since the file would pass 4 GiB")


_WRITERS: Mapping[str, Callable[[Path, Tags, list[str]], None]] = {
    "wav": _write_wav,
    "flac": _write_flac,
    "ogg": _write_ogg,
    "opus": _write_ogg,
    "mp3": _write_id3_file,
    "m4a": _write_mp4,
}


def _id3(tags: Tags) -> Any:
    from mutagen import id3

    made = id3.ID3()
    for name, text in tags.texts.items():
        made.add(getattr(id3, _FIELDS[name].id3)(encoding=3, text=[text]))
    made.add(id3.COMM(encoding=3, lang="eng", desc="", text=[tags.comment]))
    if tags.cover is not None:
        made.add(id3.APIC(encoding=0, mime=tags.cover.mime, type=3, desc="", data=tags.cover.data))
    return made


def _put_vorbis(file: Any, tags: Tags) -> None:
    for name, text in tags.texts.items():
        file[_FIELDS[name].vorbis] = [text]
    file["comment"] = [tags.comment]


def _picture(cover: Cover) -> Any:
    from mutagen.flac import Picture

    picture = Picture()
    picture.data, picture.mime, picture.type = cover.data, cover.mime, 3
    return picture


def _has_text(tags: Any, name: str) -> bool:
    return name in tags and bool(tags[name].text)


def _mp4_text(value: Any) -> str:
    if isinstance(value, tuple):  # a number, and of how many
        return f"{value[0]}/{value[1]}" if value[1] else str(value[0])
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _vorbis_cover(file: Any, tags: Any) -> Cover | None:
    from mutagen.flac import Picture

    pictures = list(getattr(file, "pictures", []))
    try:
        pictures += [Picture(base64.b64decode(text)) for text in tags.get("metadata_block_picture", [])]
    except Exception:  # a damaged picture is none
        return None
    front = next((each for each in pictures if each.type == 3), pictures[0] if pictures else None)
    return None if front is None else Cover(front.data, front.mime)
