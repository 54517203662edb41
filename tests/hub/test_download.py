"""Downloads against a real server that fails in every way a server can; nothing wrong ever gets its final name."""

import contextlib
import hashlib
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections import namedtuple
from email.utils import formatdate

import pytest

from faulty_server import Fault, serving
from waveunet_cli.errors import DownloadError
from waveunet_cli.events import Note
from waveunet_cli.hub import download as download_module
from waveunet_cli.hub import verify as verify_module
from waveunet_cli.hub.cards import File
from waveunet_cli.hub.download import Downloader
from waveunet_cli.hub.verify import CHUNK_BYTES, verified

BODY = bytes(range(256)) * 40  # 10 240 bytes
SHA256 = hashlib.sha256(BODY).hexdigest()
KNOWN = File("weights.bin", size=len(BODY), sha256=SHA256)
CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
UNKNOWN = File("weights.bin", expected_size=len(BODY))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", *CA_BUNDLES, "WAVEUNET_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with serving() as running:
        running.files["/a"] = running.files["/b"] = BODY
        yield running


@pytest.fixture
def sleeps():
    return []


@pytest.fixture
def fetch(tmp_path, sleeps):
    """Fetch to tmp_path/weights.bin; returns the bytes that arrived."""

    def fetch(file, *urls, attempts=4, offline=None):
        with Downloader(sleep=sleeps.append, attempts=attempts, offline=offline) as downloader:
            sha256 = downloader.fetch(file, urls, tmp_path / file.name)
        content = (tmp_path / file.name).read_bytes()
        assert sha256 == hashlib.sha256(content).hexdigest()
        assert [path.name for path in tmp_path.iterdir()] == [file.name]  # no .part, no notes beside it
        return content

    return fetch


def test_a_file_arrives_once(server, fetch, sleeps):
    assert fetch(KNOWN, server.url("/a")) == BODY
    assert fetch(KNOWN, server.url("/a")) == BODY
    assert len(server.requests) == 1
    assert sleeps == []


def test_a_broken_transfer_is_resumed_where_it_broke(server, fetch, sleeps):
    server.faults["/a"] = [Fault(stop_after=1000), Fault(stop_after=500)]
    assert fetch(UNKNOWN, server.url("/a")) == BODY
    assert [headers.get("Range") for headers in server.asked("/a")] == [None, "bytes=1000-", "bytes=1500-"]
    assert server.asked("/a")[1]["If-Range"].startswith('"')
    assert sleeps == [1.0, 1.0]  # progress was made: patience starts anew


def test_the_next_run_resumes_what_the_last_one_left(server, fetch, tmp_path):
    server.faults["/a"] = [Fault(stop_after=1000)]
    with pytest.raises(DownloadError, match="after 1 attempts without progress"):
        fetch(UNKNOWN, server.url("/a"), attempts=1)
    assert not (tmp_path / "weights.bin").exists()
    assert fetch(UNKNOWN, server.url("/a")) == BODY
    assert server.asked("/a")[-1]["Range"] == "bytes=1000-"


def test_a_known_hash_lets_another_mirror_continue(server, fetch):
    server.faults["/a"] = [Fault(stop_after=1000), *[Fault(status=500)] * 4]
    assert fetch(KNOWN, server.url("/a"), server.url("/b")) == BODY
    assert server.asked("/b")[0]["Range"] == "bytes=1000-"


def test_a_file_that_changed_meanwhile_is_fetched_whole(server, fetch):
    server.faults["/a"] = [Fault(stop_after=1000)]
    with pytest.raises(DownloadError):
        fetch(UNKNOWN, server.url("/a"), attempts=1)
    server.files["/a"] = BODY[::-1]
    assert fetch(UNKNOWN, server.url("/a")) == BODY[::-1]


def test_without_hash_or_validator_a_broken_transfer_starts_over(server, fetch):
    server.faults["/a"] = [Fault(stop_after=1000, no_validator=True)]
    assert fetch(UNKNOWN, server.url("/a")) == BODY
    assert all("Range" not in headers for headers in server.asked("/a"))


def test_a_part_from_another_file_does_not_spoil_the_right_one(server, fetch, tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(b"something else")
    assert fetch(KNOWN, server.url("/a")) == BODY
    assert [headers.get("Range") for headers in server.asked("/a")] == ["bytes=14-", None]


def test_a_server_that_ignores_range_is_read_from_the_start(server, fetch):
    server.faults["/a"] = [Fault(stop_after=1000), Fault(ignore_range=True)]
    assert fetch(UNKNOWN, server.url("/a")) == BODY


def test_a_server_that_ignores_range_and_always_breaks_off_is_given_up(server, fetch, sleeps):
    server.always["/a"] = Fault(stop_after=1000, ignore_range=True)
    with pytest.raises(DownloadError, match="ended after 1000 of 10240 bytes; given up after 4"):
        fetch(UNKNOWN, server.url("/a"))
    assert sleeps == [1.0, 2.0, 4.0]


def test_another_range_than_asked_for_is_not_appended(server, fetch):
    wrong = Fault(headers={"Content-Range": f"bytes 5-{len(BODY) - 1}/{len(BODY)}"})
    server.faults["/a"] = [Fault(stop_after=1000), wrong]
    assert fetch(KNOWN, server.url("/a")) == BODY


def test_a_part_longer_than_the_file_is_begun_anew(server, fetch, tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(BODY + b"x")
    known = File("weights.bin", expected_size=len(BODY), sha256=SHA256)
    assert fetch(known, server.url("/a")) == BODY


@pytest.mark.parametrize("declared", [100, len(BODY) + 100])
def test_a_wrong_length_is_refused_at_once_where_the_size_is_known(server, fetch, sleeps, declared):
    server.always["/a"] = Fault(declare=declared)
    with pytest.raises(DownloadError, match=f"announces {declared} bytes instead of {len(BODY)}"):
        fetch(KNOWN, server.url("/a"))
    assert fetch(KNOWN, server.url("/a"), server.url("/b")) == BODY
    assert sleeps == []


def test_a_length_beyond_what_comes_is_no_success(server, fetch, tmp_path):
    server.always["/a"] = Fault(declare=len(BODY) + 100)
    with pytest.raises(DownloadError, match="without progress"):
        fetch(UNKNOWN, server.url("/a"))
    assert not (tmp_path / "weights.bin").exists()


def test_a_body_shorter_than_the_known_size_is_no_success_without_a_length(server, fetch):
    server.faults["/a"] = [Fault(no_length=True, stop_after=1000)]
    assert fetch(KNOWN, server.url("/a")) == BODY


@pytest.mark.parametrize("fault", [Fault(no_length=True), Fault()])
def test_more_bytes_than_allowed_are_not_read(server, fetch, tmp_path, fault):
    server.always["/a"] = fault
    with pytest.raises(DownloadError, match="at most 2000"):
        fetch(File("weights.bin", expected_size=1000), server.url("/a"))
    assert not list(tmp_path.glob("weights.bin*.part"))


def test_one_wrong_byte_is_refused_and_the_next_mirror_tried(server, fetch, tmp_path):
    server.always["/a"] = Fault(flip=5000)
    with pytest.raises(DownloadError, match=f"sha256 [0-9a-f]+ instead of {SHA256}"):
        fetch(KNOWN, server.url("/a"))
    assert not (tmp_path / "weights.bin").exists()
    assert not (tmp_path / "weights.bin.part").exists()
    assert fetch(KNOWN, server.url("/a"), server.url("/b")) == BODY


def test_a_damaged_file_on_the_disk_is_fetched_again(server, fetch, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"x" * len(BODY))
    assert fetch(KNOWN, server.url("/a")) == BODY


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_lasting_refusal_goes_to_the_next_mirror_without_waiting(server, fetch, sleeps, status):
    server.always["/a"] = Fault(status=status)
    assert fetch(KNOWN, server.url("/a"), server.url("/b")) == BODY
    assert len(server.asked("/a")) == 1
    assert sleeps == []


def test_all_addresses_failing_gives_every_reason_in_one_line(server, fetch):
    server.always = {"/a": Fault(status=404), "/b": Fault(flip=0)}
    with pytest.raises(DownloadError, match=r"weights\.bin: could not be fetched \(.*HTTP 404; .*sha256") as error:
        fetch(KNOWN, server.url("/a"), server.url("/b"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again_with_growing_delays(server, fetch, sleeps, status):
    server.faults["/a"] = [Fault(status=status)] * 3
    assert fetch(KNOWN, server.url("/a")) == BODY
    assert sleeps == [1.0, 2.0, 4.0]


def test_a_server_that_never_recovers_is_given_up(server, fetch, sleeps):
    server.always["/a"] = Fault(status=500)
    with pytest.raises(DownloadError, match="HTTP 500; given up after 4 attempts"):
        fetch(KNOWN, server.url("/a"))
    assert sleeps == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("value", "delay"),
    [("7", 7.0), ("86400", 60.0), (formatdate(4e9, usegmt=True), 60.0), (formatdate(0, usegmt=True), 1.0), ("soon", 1)],
)
def test_retry_after_is_honoured_within_bounds(server, fetch, sleeps, value, delay):
    server.faults["/a"] = [Fault(status=429, headers={"Retry-After": value})]
    assert fetch(KNOWN, server.url("/a")) == BODY
    assert sleeps == [delay]


def test_a_redirect_is_followed_but_not_for_ever(server, fetch):
    server.faults["/old"] = [Fault(status=302, headers={"Location": "/a"})]
    assert fetch(KNOWN, server.url("/old")) == BODY
    server.always["/loop"] = Fault(status=302, headers={"Location": "/loop"})
    other = File("other.bin", expected_size=10)
    with pytest.raises(DownloadError, match="redirects"):
        fetch(other, server.url("/loop"))


@pytest.mark.parametrize("target", ["ftp://example.org/a", "file:///etc/passwd", "http://[bad/", "gopher:", "http://"])
def test_a_redirect_to_what_cannot_be_asked_is_refused_at_once(server, fetch, sleeps, target):
    server.always["/a"] = Fault(status=302, headers={"Location": target})
    with pytest.raises(DownloadError, match=r"could not be fetched") as error:
        fetch(KNOWN, server.url("/a"))
    assert sleeps == []
    if target.startswith(("ftp", "file", "gopher")):
        assert f"redirects from http to {target.partition(':')[0]}" in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-5", "5, 5"])
def test_a_length_that_is_no_number_is_as_good_as_none(server, fetch, length):
    server.faults["/a"] = [Fault(no_length=True, headers={"Content-Length": length})] * 4
    with contextlib.suppress(DownloadError):
        assert fetch(KNOWN, server.url("/a")) == BODY


@pytest.mark.parametrize("value", ["\xb2", "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT"])
def test_a_delay_that_is_no_number_is_as_good_as_none(server, fetch, sleeps, value):
    server.faults["/a"] = [Fault(status=429, headers={"Retry-After": value})]
    assert fetch(KNOWN, server.url("/a")) == BODY
    assert 1.0 <= sleeps[0] <= 60.0


@pytest.mark.parametrize("notes", ["[]", "3", "{", '"x"'])
def test_damaged_notes_of_a_broken_transfer_are_no_notes(server, fetch, tmp_path, notes):
    (tmp_path / "weights.bin.part").write_bytes(BODY[:1000])
    (tmp_path / "weights.bin.part.json").write_text(notes)
    assert fetch(KNOWN, server.url("/a")) == BODY


def test_a_slow_server_is_waited_for(server, fetch, sleeps):
    server.always["/a"] = Fault(dribble=True)
    assert fetch(KNOWN, server.url("/a")) == BODY
    assert sleeps == []


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(server, fetch, sleeps, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", (10.0, 0.2))
    over = threading.Event()
    server.files["/a"] = long = BODY * 20
    server.faults["/a"] = [Fault(stop_after=100_000, silent_until=over)]
    assert fetch(File("weights.bin", expected_size=len(long)), server.url("/a")) == long
    over.set()
    whole_chunks = 100_000 // CHUNK_BYTES * CHUNK_BYTES
    assert [headers.get("Range") for headers in server.asked("/a")] == [None, f"bytes={whole_chunks}-"]
    assert sleeps == [1.0]


def test_an_unasked_compression_is_refused(server, fetch):
    server.always["/a"] = Fault(headers={"Content-Encoding": "gzip"})
    with pytest.raises(DownloadError, match="compressed"):
        fetch(UNKNOWN, server.url("/a"))


def test_nobody_listening_is_one_line(server, fetch):
    with serving() as gone:
        address = gone.url("/a")
    with pytest.raises(DownloadError, match=r"\(127.0.0.1:\d+: Failed to [^(]*; given up after 4 attempts") as error:
        fetch(KNOWN, address)
    assert "\n" not in str(error.value)


def test_whoever_waits_for_a_server_is_told(server, tmp_path):
    server.faults["/a"] = [Fault(status=503)]
    told = []
    with Downloader(sleep=lambda _: None, on_event=told.append) as downloader:
        downloader.fetch(KNOWN, [server.url("/a")], tmp_path / "weights.bin")
    assert told == [Note("weights.bin: HTTP 503; trying again in 1 s")]


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline_asks_nobody(server, fetch, monkeypatch, by_environment):
    if by_environment:
        monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    with pytest.raises(DownloadError, match="network is switched off"):
        fetch(KNOWN, server.url("/a"), offline=None if by_environment else True)
    assert server.requests == []


def test_a_full_disk_is_noticed_before_anything_is_written(server, fetch, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(verify_module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, len(BODY) - 1))
    with pytest.raises(DownloadError, match=r"0\.0 MB needed, 0\.0 MB free; .*WAVEUNET_CACHE"):
        fetch(KNOWN, server.url("/a"))
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_from_the_environment_is_used(server, fetch, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.address)
    monkeypatch.setenv("NO_PROXY", "")
    server.files["http://models.invalid/a"] = BODY  # a proxy is asked for the whole address
    assert fetch(KNOWN, "http://models.invalid/a") == BODY


def test_a_proxy_that_is_not_there_is_one_line(fetch, monkeypatch):
    with serving() as gone:
        monkeypatch.setenv("HTTP_PROXY", gone.address)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(DownloadError, match=r"\(models\.invalid: the proxy: Failed to [^(]*; given up") as error:
        fetch(KNOWN, "http://models.invalid/a")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_a_ca_bundle_from_the_environment_is_used_and_no_certificate_goes_unchecked(
    fetch, tmp_path_factory, monkeypatch
):
    folder = tmp_path_factory.mktemp("tls")
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -addext"
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(["openssl", *make.split(), "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with serving(tls) as server:
        server.files["/a"] = BODY
        with pytest.raises(DownloadError, match="certificate verify failed"):
            fetch(KNOWN, server.url("/a"))
        for number, name in enumerate(CA_BUNDLES):
            with monkeypatch.context() as environment:
                environment.setenv(name, str(folder / "cert.pem"))
                body = BODY + bytes(number + 1)
                server.files[f"/{number}"] = body
                assert fetch(File("weights.bin", size=len(body)), server.url(f"/{number}")) == body
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "cert.pem"))
        assert fetch(KNOWN, server.url("/a")) == BODY
        with serving() as plain:
            plain.files["/a"] = BODY
            server.faults["/a"] = [Fault(status=302, headers={"Location": plain.url("/a")})]
            with pytest.raises(DownloadError, match="redirects from https to http"):
                fetch(File("other.bin", expected_size=len(BODY)), server.url("/a"))
            assert plain.requests == []  # not even asked


def test_git_names_a_blob_by_the_sha1_of_its_header_and_content(tmp_path):
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    right = File("hello", expected_size=6, git_sha1="ce013625030ba8dba906f756967f9e9ca394464a")
    assert verified(path, right) == hashlib.sha256(b"hello\n").hexdigest()
    with pytest.raises(DownloadError, match="git_sha1"):
        verified(path, File("hello", expected_size=6, git_sha1="0" * 40))


def test_the_bar_shows_bytes_and_rate_on_a_terminal_only(server, tmp_path, capsys, monkeypatch):
    def fetched(name):
        with Downloader(progress=True) as downloader:
            downloader.fetch(File(name, size=len(BODY)), [server.url("/a")], tmp_path / name)
        return capsys.readouterr()

    assert fetched("quiet.bin") == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    out, err = fetched("shown.bin")
    assert out == ""
    assert re.search(r"shown\.bin.*10\.2k.*B/s", err)


def test_a_proxy_that_needs_a_package_is_named_at_once(waveunet, tmp_path, monkeypatch):
    """requests would call it a failure that may pass."""
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setattr(Downloader, "_receive", lambda *_: pytest.fail("asked"))
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("WAVEUNET_CACHE", str(tmp_path / "cache"))
    ran = waveunet("models", "download", "m4")
    assert (ran.code, ran.out) == (1, "")
    last = ran.err.splitlines()[-1]
    assert last.endswith(": the proxy 127.0.0.1:9 needs PySocks; install it with: pip install PySocks")
    assert "trying again" not in ran.err
