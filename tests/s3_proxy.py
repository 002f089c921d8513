"""A proxy before a server of the S3 protocol that counts requests and lets them fail, for tests and benchmarks."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_PLACES = frozenset(
    {"actions", "bundles", "checkpoints", "models", "notes", "objects", "registry", "reports", "reviews", "runs"}
)
_HOP = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})


@dataclass
class Trouble:
    """How the server fails from now on."""

    errors: float = 0.0
    """Share of the requests that are answered with 503."""
    resets: float = 0.0
    """Share of the requests whose connection ends in the middle of the answer."""
    seconds: float = 0.0
    """Latency of each request."""
    down: bool = False
    """No request is answered, as while a server starts again."""
    requests: Counter[str] = field(default_factory=Counter)
    """Requests so far, by what they ask for."""
    failed: int = 0
    draws: random.Random = field(default_factory=lambda: random.Random(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def drawn(self) -> float:
        with self.lock:
            return self.draws.random()


@contextmanager
def proxy(server: str) -> Iterator[tuple[str, Trouble]]:
    """The address of a proxy before ``server`` (`http://host:port`), and its trouble."""
    trouble, behind = Trouble(), urlsplit(server).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *about: object) -> None: ...

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with trouble.lock:
                trouble.requests[kind_of(self.command, self.path)] += 1
            time.sleep(trouble.seconds)
            draw = trouble.drawn()
            if trouble.down or draw < trouble.errors + trouble.resets:
                with trouble.lock:
                    trouble.failed += 1
            if trouble.down:
                self.close_connection = True
            elif draw < trouble.errors:
                self._send(503, {}, b"<Error><Code>ServiceUnavailable</Code><Message>down</Message></Error>")
            else:
                status, headers, answer = self._forwarded(body)
                cut = draw < trouble.errors + trouble.resets
                self._send(status, headers, answer, len(answer) // 2 if cut else None)
                self.close_connection |= cut

        def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            with closing(http.client.HTTPConnection(behind, timeout=60)) as connection:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            length = answer.getheader("content-length")
            if self.command == "HEAD" and length:
                kept["Content-Length"] = length
            return answer.status, kept, data

        def _send(self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None) -> None:
            with suppress(OSError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                # An answer to HEAD has no body: the client would take it for the next answer.
                if self.command != "HEAD":
                    self.wfile.write(data if cut is None else data[:cut])

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._answer)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *about: object) -> None: ...

    listening = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}", trouble
    finally:
        listening.shutdown()
        listening.server_close()


def forget_connections() -> None:
    """s3fs gives its own closing a tenth of a second, then leaves the sockets to the garbage collection."""
    from fsspec.asyn import sync
    from s3fs import S3FileSystem

    for filesystem in S3FileSystem._cache.values():
        if filesystem._s3 is not None:
            sync(filesystem.loop, filesystem._s3.close)
    S3FileSystem.clear_instance_cache()


def kind_of(method: str, path: str) -> str:
    """What a request asks for: an operation and the first folder below the store."""
    split = urlsplit(path)
    query = parse_qs(split.query)
    lists = "list-type" in query
    place = (query.get("prefix") or [""])[0] if lists else split.path
    folder = next((part for part in place.split("/") if part in _PLACES), "the store")
    return f"{'list' if lists else method.lower()} {folder}"
