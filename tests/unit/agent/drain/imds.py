"""An instance metadata service of version 2, with what a test puts into it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

IDENTITY = {"instanceId": "i-0123456789abcdef0", "region": "eu-north-1", "accountId": "0" * 12}
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"


class Imds(ThreadingHTTPServer):
    """A context manager; ``values`` is path to text, ``token`` the one that is good."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.values = {"/latest/dynamic/instance-identity/document": json.dumps(IDENTITY)}
        self.token = "token-1"
        self.broken = False
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Imds:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Imds

    def log_message(self, *_: Any) -> None:
        pass

    def do_PUT(self) -> None:
        good = self.path == "/latest/api/token" and int(self.headers[_TTL]) <= 21600
        self._answer(200 if good else 400, self.server.token)

    def do_GET(self) -> None:
        if self.server.broken:
            self._answer(500, "")
        elif self.headers.get("X-aws-ec2-metadata-token") != self.server.token:
            self._answer(401, "")
        elif self.path in self.server.values:
            self._answer(200, self.server.values[self.path])
        else:
            self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
