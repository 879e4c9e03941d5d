"""An HTTP server on the loopback interface that answers what it was told to, and remembers what it was asked."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Loopback(ThreadingHTTPServer):
    """Answers a POST to a path with `answers[path]`: an object as JSON, bytes as server-sent events."""

    daemon_threads = True

    def __init__(self, answers: Mapping[str, Mapping[str, Any] | bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        answer = self.server.answers[f"{self.path}?stream" if body.get("stream") else self.path]
        kind, content = (
            ("text/event-stream", answer)
            if isinstance(answer, bytes)
            else ("application/json", json.dumps(answer).encode())
        )
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the tests look at `asked`."""


@contextmanager
def loopback(answers: Mapping[str, Mapping[str, Any] | bytes]) -> Iterator[Loopback]:
    """Serve these answers until the block ends; a streamed request's path ends in `?stream`."""
    with Loopback(answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(timeout=10)
