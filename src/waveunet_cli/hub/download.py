"""Fetch one file over HTTP and prove that it is the right one before anybody opens it.

A transfer writes to NAME.part. If it breaks off, the next request asks for the rest:

    Range: bytes=<have>-
    If-Range: <validator>         the strong ETag or the date that came with the first bytes, so that a file which
                                  changed meanwhile is sent whole; without one only a known hash allows to resume

and a server that ignores Range (200 instead of 206) is read from the start. Failures that may pass (connection,
408, 425, 429, 5xx) are tried again with growing delays, as long as the file grows at least every `attempts` times;
all others go to the next address at once. Size and hash are checked on the complete .part, which is then renamed.

Proxies, CA bundles and .netrc come from the environment, as requests reads them (HTTPS_PROXY, NO_PROXY,
REQUESTS_CA_BUNDLE …); where it names no CA bundle, SSL_CERT_FILE may, as for Python itself. An address that redirects
from https to http, or to neither of both, is refused.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from waveunet_cli import __version__
from waveunet_cli.errors import DownloadError
from waveunet_cli.events import Note
from waveunet_cli.files import to_disk
from waveunet_cli.hub.cards import File
from waveunet_cli.hub.verify import CHUNK_BYTES, require_space, size_text, verified
from waveunet_cli.text import in_line, plain

if TYPE_CHECKING:
    from requests import Response, Session

TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, between two chunks
LONGEST_DELAY_SECONDS = 60.0  # whatever Retry-After says
NUMBER = re.compile("[0-9]{1,18}")
PASSING = {408, 425, 429, 500, 502, 503, 504}


class _BrokenOffError(Exception):
    """A transfer that may succeed when tried again, not before `delay_seconds` if the server said so."""

    def __init__(self, message: str, delay_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.delay_seconds = delay_seconds


def offline_by_environment() -> bool:
    """Whether WAVEUNET_OFFLINE forbids the network."""
    return os.environ.get("WAVEUNET_OFFLINE", "").lower() not in ("", "0", "false", "no")


class Downloader:
    """One HTTP session and how patient it is; use as a context manager.

    `offline` None asks the environment. `on_event` is given a Note for what a user should know. With `progress` a bar
    with bytes and rate is drawn on stderr, if that is a terminal.
    """

    def __init__(
        self,
        *,
        offline: bool | None = None,
        progress: bool = False,
        on_event: Callable[[Note], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = 5,
    ) -> None:
        self.offline = offline_by_environment() if offline is None else offline
        self._on_event = on_event
        self._progress = progress
        self._sleep = sleep
        self._attempts = attempts

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *_: object) -> None:
        if "_session" in self.__dict__:
            self._session.close()

    def note(self, text: str) -> None:
        """Tell the user."""
        self._on_event(Note(text))

    def fetch(self, file: File, urls: Sequence[str], destination: Path) -> str:
        """Bring a verified file to `destination`, from the first of `urls` that serves it; returns its sha256.

        Raises DownloadError, with the reason for every address, if none does; what arrived is kept for next time
        unless its bytes were wrong.
        """
        if destination.is_file():
            try:
                return verified(destination, file)
            except DownloadError:
                destination.unlink()
        if self.offline:
            raise DownloadError(f"{file.name}: not on this machine, and the network is switched off; go online once")
        if not urls:
            raise DownloadError(f"{file.name}: neither on this machine nor at any address; put it beside its card")
        for url in urls:
            _require_proxy(url, file)
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = destination.with_name(f"{destination.name}.part")
        reasons = []
        for url in urls:
            try:
                sha256 = self._complete(url, file, part)
            except DownloadError as error:
                reasons.append(f"{urlsplit(url).netloc}: {error}")
                continue
            to_disk(part)
            part.replace(destination)
            _validator_path(part).unlink(missing_ok=True)
            return sha256
        raise DownloadError(f"{file.name}: could not be fetched ({'; '.join(reasons)}); try again later")

    def _complete(self, url: str, file: File, part: Path) -> str:
        """Receive and verify; bytes from two transfers that do not fit together are fetched once more as one."""
        resumed = part.is_file()
        self._persist(url, file, part)
        try:
            return verified(part, file)
        except DownloadError:
            part.unlink()
            if resumed:
                return self._complete(url, file, part)
            raise

    def _persist(self, url: str, file: File, part: Path) -> None:
        """Receive until the file is complete, as long as it keeps growing."""
        furthest = _size(part)
        failures = 0
        while True:
            try:
                self._receive(url, file, part)
                return
            except _BrokenOffError as broken:
                if _size(part) > furthest:
                    furthest, failures = _size(part), 0
                failures += 1
                if failures == self._attempts:
                    raise DownloadError(f"{broken}; given up after {failures} attempts without progress") from broken
                delay_seconds = min(max(broken.delay_seconds, 2.0 ** (failures - 1)), LONGEST_DELAY_SECONDS)
                self.note(f"{file.name}: {broken}; trying again in {delay_seconds:.0f} s")
                self._sleep(delay_seconds)

    def _receive(self, url: str, file: File, part: Path) -> None:
        """One request: append to `part`, or begin it anew."""
        import requests

        headers = self._resume_headers(url, file, part)
        if file.size and _size(part) == file.size:
            return
        try:
            with self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
                self._store(response, url, file, part, asked_from=_size(part) if headers else 0)
        except (requests.exceptions.SSLError, requests.TooManyRedirects, ValueError) as error:
            raise DownloadError(_reason(error)) from error  # ValueError: an address that cannot be asked
        except requests.RequestException as error:
            raise _BrokenOffError(_reason(error)) from error
        except OSError as error:
            raise DownloadError(f"{error}, while receiving into {part}") from error

    def _resume_headers(self, url: str, file: File, part: Path) -> dict[str, str]:
        """What to ask for so that the bytes in `part` can stay; if they cannot, they are deleted."""
        have = _size(part)
        try:
            began = json.loads(_validator_path(part).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            began = {}
        validator = began.get("validator") if isinstance(began, dict) and began.get("url") == url else None
        if not 0 < have <= file.most_bytes or not (validator or file.hash_known):
            part.unlink(missing_ok=True)
            return {}
        return {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})

    def _store(self, response: "Response", url: str, file: File, part: Path, asked_from: int) -> None:
        start, total = _extent(response, asked_from, part)
        if total is not None and (total > file.most_bytes or (file.size and total != file.size)):
            raise DownloadError(f"announces {total} bytes instead of {size_text(file)}")
        require_space(part.parent, (total or file.shown_size) - start)
        if start == 0:
            etag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified")
            validator = etag if etag.startswith('"') else date
            _validator_path(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
        received = start
        response.raw.enforce_content_length = False  # else the last chunk of a broken transfer would be lost
        with part.open("ab" if start else "wb") as out, self._bar(file.name, start, total) as bar:
            for chunk in response.iter_content(CHUNK_BYTES):
                received += len(chunk)
                if received > file.most_bytes:
                    break
                out.write(chunk)
                bar.update(len(chunk))
        if received > file.most_bytes:
            part.unlink()
            raise DownloadError(f"sends more than {size_text(file)}")
        expected = total or file.size
        if expected is not None and received < expected:
            raise _BrokenOffError(f"ended after {received} of {expected} bytes")

    def _bar(self, name: str, start: int, total: int | None) -> Any:
        from tqdm import tqdm

        return tqdm(
            desc=name,
            initial=start,
            total=total,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if self._progress and sys.stderr else True,  # None: unless stderr is a terminal
        )

    @cached_property
    def _session(self) -> "Session":
        import requests

        class Session(requests.Session):
            """Asks nobody whom an address redirects to without http, or an https address without https."""

            def get_redirect_target(self, resp: "Response") -> str | None:
                target = super().get_redirect_target(resp)
                scheme = urlsplit(urljoin(resp.url, target or "")).scheme
                if scheme not in (("https",) if resp.url.startswith("https:") else ("http", "https")):
                    raise DownloadError(f"redirects from {urlsplit(resp.url).scheme} to {in_line(scheme)}")
                return target

        session = Session()
        session.max_redirects = 10
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        session.headers["User-Agent"] = f"waveunet/{__version__}"
        session.headers["Accept-Encoding"] = "identity"  # ranges and sizes are those of the file
        return session


def _require_proxy(url: str, file: File) -> None:
    """Raise DownloadError where requests lacks what the environment's proxy needs."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url)) or ""
    if proxy.lower().startswith("socks") and find_spec("socks") is None:
        where = plain(proxy.rpartition("@")[2])  # not the password
        raise DownloadError(f"{file.name}: the proxy {where} needs PySocks; install it with: pip install PySocks")


def _extent(response: "Response", asked_from: int, part: Path) -> tuple[int, int | None]:
    """First byte that is sent and size of the whole file as announced; raises for any answer that is no file."""
    status = response.status_code
    if status == 416 and asked_from:
        part.unlink(missing_ok=True)
        raise _BrokenOffError("HTTP 416, begun anew")
    if status in PASSING:
        raise _BrokenOffError(f"HTTP {status}", _retry_after_seconds(response.headers.get("Retry-After")))
    if status not in (200, 206):
        raise DownloadError(f"HTTP {status}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError("sends a compressed form that was not asked for")
    if status == 200:
        length = response.headers.get("Content-Length")
        return 0, int(length) if length and NUMBER.fullmatch(length) else None
    sent = re.fullmatch(
        rf"bytes ({NUMBER.pattern})-{NUMBER.pattern}/({NUMBER.pattern}|\*)", response.headers.get("Content-Range", "")
    )
    if sent is None or int(sent[1]) != asked_from:
        part.unlink(missing_ok=True)
        raise _BrokenOffError("answers with another range than was asked for")
    return asked_from, None if sent[2] == "*" else int(sent[2])


def _retry_after_seconds(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, in either of its two forms; at most 0: none to wait for."""
    if not value:
        return 0.0
    if NUMBER.fullmatch(value):
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _validator_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    """One line for what requests wraps: of "Pool(…): Max retries exceeded … (Caused by …)" only the cause."""
    import requests

    cause = getattr(error.args[0] if error.args else None, "reason", None) or error
    cause = getattr(cause, "original_error", cause)  # of a proxy
    text = plain(" ".join(str(cause).split())) or type(cause).__name__
    proxy = "the proxy: " if isinstance(error, requests.exceptions.ProxyError) else ""
    return proxy + re.sub(r"^\w+\(host='[^']*', port=\d+\): ", "", text)
