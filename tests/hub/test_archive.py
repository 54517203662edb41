"""Archives, zip and tar.gz: only the wanted members come out, under the wanted names, no more bytes than allowed."""

import gzip
import hashlib
import io
import stat
import struct
import tarfile
import zipfile
from contextlib import suppress

import pytest

from waveunet_cli.errors import DownloadError
from waveunet_cli.hub.archive import extract
from waveunet_cli.hub.cards import File

BODY = b"weights" * 1000
WANTED = File("model.index", size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())


@pytest.fixture
def pack(tmp_path):
    """Write a zip of (name or ZipInfo, bytes) pairs."""

    def pack(*members):
        path = tmp_path / "models.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members:
                archive.writestr(member, content)
        return path

    return pack


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "out" / "deep"
    folder.mkdir(parents=True)
    return folder


def everything_in(folder):
    return sorted(path.name for path in folder.parent.rglob("*") if path.is_file())


def test_only_the_wanted_member_comes_out_whatever_its_folder(pack, folder):
    path = pack(("README", b"no"), ("a/b/model.index", BODY), ("a/b/model.meta", b"no"))
    assert extract(path, [WANTED], folder) == {"model.index": WANTED.sha256}
    assert (folder / "model.index").read_bytes() == BODY
    assert everything_in(folder) == ["model.index"]


@pytest.mark.parametrize("name", ["../../model.index", "/model.index", "..\\..\\model.index", "C:\\model.index"])
def test_no_member_chooses_where_it_lands(pack, folder, tmp_path, name):
    path = pack((name, BODY))
    with suppress(DownloadError):  # a name with backslashes is no such file
        extract(path, [WANTED], folder)
    assert set(everything_in(folder)) <= {"model.index"}
    assert not (tmp_path / "out" / "model.index").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models.zip", "out"]


def test_a_missing_or_doubtful_member_is_refused(pack, folder):
    with pytest.raises(DownloadError, match=r"holds 0 files named model\.index"):
        extract(pack(("other", BODY)), [WANTED], folder)
    with pytest.raises(DownloadError, match=r"holds 2 files named model\.index"):
        extract(pack(("a/model.index", BODY), ("b/model.index", BODY)), [WANTED], folder)


def test_a_link_is_refused(pack, folder):
    link = zipfile.ZipInfo("model.index")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(DownloadError, match="no plain"):
        extract(pack((link, b"/etc/passwd")), [WANTED], folder)


def test_a_directory_is_refused(pack, folder):
    with pytest.raises(DownloadError, match="no plain"):
        extract(pack(("model.index/", b"")), [WANTED], folder)


def test_a_bomb_that_says_so_is_not_inflated(pack, folder):
    path = pack(("model.index", bytes(3_000_000)))
    assert path.stat().st_size < 5000
    with pytest.raises(DownloadError, match="declares 3000000 bytes, 7000 are allowed"):
        extract(path, [WANTED], folder)
    assert everything_in(folder) == []


def test_a_bomb_that_lies_about_its_size_stops_at_the_bound(pack, folder):
    path = pack(("model.index", bytes(3_000_000)))
    raw = path.read_bytes().replace(struct.pack("<I", 3_000_000), struct.pack("<I", 7000))
    path.write_bytes(raw)
    with pytest.raises(DownloadError):
        extract(path, [WANTED], folder)
    assert everything_in(folder) == []


def test_real_bytes_are_counted_too(pack, folder, monkeypatch):
    """Should the zip reader ever hand out more than was declared."""
    path = pack(("model.index", bytes(30_000)))
    monkeypatch.setattr("waveunet_cli.hub.archive._member", lambda members, file, where: members[0])
    with pytest.raises(DownloadError, match="inflates beyond 7000 bytes"):
        extract(path, [WANTED], folder)
    assert everything_in(folder) == []


def test_wrong_bytes_inside_are_refused(pack, folder):
    with pytest.raises(DownloadError, match="sha256"):
        extract(pack(("model.index", BODY[::-1])), [WANTED], folder)
    assert everything_in(folder) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_whatever_an_archive_makes_its_reader_raise_is_the_archive_s_fault(tmp_path, folder, method):
    path = tmp_path / "models.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("model.index", BODY)
    whole = path.read_bytes()
    for position in (*range(0, len(whole) // 2, 3), *range(len(whole) - 70, len(whole), 3)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with suppress(DownloadError):  # where nothing depends on the byte, the file comes out
            assert extract(path, [WANTED], folder) == {"model.index": WANTED.sha256}


@pytest.mark.parametrize("damage", ["no zip", "truncated", "flipped"])
def test_a_damaged_archive_is_one_line(pack, folder, damage):
    path = pack(("model.index", BODY))
    raw = bytearray(path.read_bytes())
    if damage == "no zip":
        raw = bytearray(b"<html>gone</html>")
    elif damage == "truncated":
        raw = raw[: len(raw) // 2]
    else:
        raw[50] ^= 0xFF  # inside the deflated bytes
    path.write_bytes(raw)
    with pytest.raises(DownloadError, match=r"models\.zip") as error:
        extract(path, [WANTED], folder)
    assert "\n" not in str(error.value)
    assert everything_in(folder) == []


# --- the same of tar.gz


@pytest.fixture
def pack_tar(tmp_path):
    """Write a tar.gz of (name or TarInfo, bytes) pairs."""

    def pack(*members, format=tarfile.PAX_FORMAT):
        path = tmp_path / "models.tar.gz"
        with tarfile.open(path, "w:gz", format=format) as archive:
            for member, content in members:
                info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
                if content is not None:
                    info.size = len(content)
                archive.addfile(info, io.BytesIO(content or b""))
        return path

    return pack


def info_of(name, kind, size=0, **more):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for key, value in more.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_only_the_wanted_members_of_a_tar_come_out(pack_tar, folder, format):
    long = "a" * 60 + "/" + "b" * 60
    path = pack_tar(
        (info_of("./", tarfile.DIRTYPE), None),
        ("README", b"no"),
        (f"{long}/model.index", BODY),
        ("./._model.index", b"no"),
        format=format,
    )
    assert extract(path, [WANTED], folder) == {"model.index": WANTED.sha256}
    assert (folder / "model.index").read_bytes() == BODY
    assert everything_in(folder) == ["model.index"]


def test_files_of_a_tar_come_out_in_any_order(pack_tar, folder):
    names = ["a", "b", "c"]
    path = pack_tar(*((name, name.encode() * 100_000) for name in names))
    found = extract(path, [File(name, size=100_000) for name in reversed(names)], folder)
    assert found == {name: hashlib.sha256(name.encode() * 100_000).hexdigest() for name in names}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("model.index", BODY), (info_of("x", tarfile.SYMTYPE, linkname="/etc/passwd"), None)], "'x' is a link or"),
        ([(info_of("model.index", tarfile.SYMTYPE, linkname="/etc/passwd"), None)], "'model.index' is a link or"),
        ([("m", BODY), (info_of("model.index", tarfile.LNKTYPE, linkname="m"), None)], "'model.index' is a link or"),
        ([(info_of("model.index", tarfile.FIFOTYPE), None)], "is a link or a device"),
        ([(info_of("model.index", tarfile.CHRTYPE), None)], "is a link or a device"),
        ([(info_of("model.index", tarfile.DIRTYPE), None)], "no plain"),
        ([("/model.index", BODY)], "'/model.index' leads out of the archive"),
        ([("a/../../model.index", BODY)], r"'a/\.\./\.\./model.index' leads out"),
        ([("model.index", BODY), ("../other", b"")], r"'\.\./other' leads out"),
        ([("other", BODY)], r"holds 0 files named model\.index"),
        ([("a/model.index", BODY), ("b/model.index", BODY)], r"holds 2 files named model\.index"),
        ([("model.index", BODY + b"x")], "declares 7001 bytes, 7000 are allowed"),
        ([("model.index", BODY[::-1])], "sha256"),
        ([("other", bytes(200_000_000)), ("model.index", BODY)], "lies beyond 100007000 bytes"),
        ([(info_of("model.index", tarfile.REGTYPE, pax_headers={"comment": "x" * 200_000}), BODY)], "a header of 200"),
    ],
)
def test_a_doubtful_tar_is_refused_and_nothing_written(pack_tar, folder, members, message):
    path = pack_tar(*members)
    with pytest.raises(DownloadError, match=message) as error:
        extract(path, [WANTED], folder)
    assert str(error.value).startswith(("models.tar.gz: ", "model.index has sha256 "))
    assert "\n" not in str(error.value)
    assert everything_in(folder) == []


def test_what_follows_a_tar_is_bounded_too(pack_tar, folder):
    path = pack_tar(("model.index", BODY))
    with path.open("ab") as file:
        file.write(gzip.compress(bytes(200_000_000)))
    with pytest.raises(DownloadError, match="inflates beyond 100007000 bytes"):
        extract(path, [WANTED], folder)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_sizes_that_lead_back_are_refused(tmp_path, folder, kind):
    """They would make tarfile read on for ever, or all at once."""
    header = bytearray(info_of("model.index", kind, 0).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    path = tmp_path / "models.tar.gz"
    path.write_bytes(gzip.compress(bytes(header) * 3 + bytes(10_240)))
    with pytest.raises(DownloadError, match="a header of -1024 bytes"):
        extract(path, [WANTED], folder)


HEADER_BYTES = 10 + len("models.tar") + 1  # of gzip: its flags, a date and a file name, which no checksum covers


def test_any_damage_of_a_tar_is_the_archive_s_fault(pack_tar, folder):
    path = pack_tar(("README", b"no"), ("model.index", BODY))
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    damaged += [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(HEADER_BYTES, len(whole), 3)]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(DownloadError, match=r"^models\.tar\.gz: ") as error:
            extract(path, [WANTED], folder)
        assert "\n" not in str(error.value)
        assert everything_in(folder) == []
