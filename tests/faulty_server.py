"""A real HTTP server on 127.0.0.1 that serves bytes well, unless a fault is queued for a path."""

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """How one answer goes wrong; the fields combine."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    stop_after: int | None = None  # bytes of the body, then the connection breaks off
    declare: int | None = None  # Content-Length, whatever is sent
    flip: int | None = None  # this byte is inverted
    ignore_range: bool = False
    no_validator: bool = False
    no_length: bool = False
    dribble: bool = False  # a few bytes at a time
    silent_until: threading.Event | None = None  # after `stop_after` bytes, before the connection breaks off


class Server:
    """`files` maps paths to bytes, `faults` paths to answers used up one a request; `requests` saw them all."""

    def __init__(self):
        self.files, self.faults, self.requests = {}, {}, []
        self.always = {}  # path → a fault of every answer

    def url(self, path):
        return f"{self.address}{path}"

    def asked(self, path):
        return [headers for seen, headers in self.requests if seen == path]

    def answer(self, handler):
        path = handler.path.split("?")[0]
        self.requests.append((path, dict(handler.headers)))
        queue = self.faults.get(path)
        fault = queue.pop(0) if queue else self.always.get(path, Fault())
        body = self.files.get(path)
        if fault.status or body is None:
            handler.send_response(fault.status or 404)
            for key, value in fault.headers.items():
                handler.send_header(key, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        etag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        start = self._start(handler.headers, etag, fault)
        if start is not None and start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(200 if start is None else 206)
        if start is not None:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if fault.flip is not None:
            body = body[: fault.flip] + bytes([body[fault.flip] ^ 0xFF]) + body[fault.flip + 1 :]
        sent = body[start or 0 :]
        if not fault.no_length:
            handler.send_header("Content-Length", str(len(sent) if fault.declare is None else fault.declare))
        if not fault.no_validator:
            handler.send_header("ETag", etag)
        for key, value in fault.headers.items():
            handler.send_header(key, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        sent = sent[: fault.stop_after]
        step = 7 if fault.dribble else len(sent) or 1
        for first in range(0, len(sent), step):
            handler.wfile.write(sent[first : first + step])
            handler.wfile.flush()
        if fault.silent_until:
            fault.silent_until.wait()
        handler.close_connection = True

    @staticmethod
    def _start(headers, etag, fault):
        wanted = headers.get("Range")
        if wanted is None or fault.ignore_range or headers.get("If-Range", etag) != etag:
            return None
        return int(wanted.removeprefix("bytes=").partition("-")[0])  # to the end, whatever was asked for


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        try:
            self.server.owner.answer(self)
        except ConnectionError:
            self.close_connection = True  # the client had enough

    def log_message(self, *_):
        pass


@contextmanager
def serving(tls=None):
    """A running Server; `tls` is an ssl.SSLContext for https."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    http.owner = server = Server()
    server.address = f"{'https' if tls else 'http'}://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
