"""An S3 that counts and forgets what it is sent, and keeps only the checksums."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_CHECKSUM = "x-amz-checksum-sha256"
_PIECE = 1 << 20


class Sink(ThreadingHTTPServer):
    """A context manager with a ``url``.

    ``received`` are the bytes of all parts. With an ``owner`` every request that expects
    another one is ``refused``. One that ``spoils`` says yes and keeps other bytes. ``version`` is
    what an object gets, empty for none.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received = 0
        self.owner = ""
        self.refused = 0
        self.spoils = False
        self.version = ""
        self.parts: dict[int, bytes] = {}
        self.whole = ("", 0)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Sink

    def log_message(self, *_: Any) -> None:
        pass

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        expected = self.headers.get("x-amz-expected-bucket-owner", "")
        if expected == self.server.owner or not self.server.owner:
            return True
        self._body()
        self.server.refused += 1
        self._answer(403, {}, "<Error><Code>AccessDenied</Code></Error>")
        return False

    def do_PUT(self) -> None:
        digest, body = self.headers[_CHECKSUM], self._body()
        md5 = hashlib.md5(body + b"!" if self.server.spoils else body)
        query = parse_qs(urlsplit(self.path).query)
        if "partNumber" in query:
            self.server.parts[int(query["partNumber"][0])] = b64decode(digest)
        headers = {"x-amz-version-id": self.server.version} if self.server.version else {}
        self._answer(200, {"ETag": f'"{md5.hexdigest()}"', **headers})

    def do_POST(self) -> None:
        self._body()
        if self.path.endswith("uploads="):
            body = "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
            self._answer(200, {}, f"{body}</InitiateMultipartUploadResult>")
            return
        digests = [self.server.parts[number] for number in sorted(self.server.parts)]
        whole = b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
        if not self.server.spoils:
            self.server.whole = (f"{whole}-{len(digests)}", self.server.received)
        body = '<CompleteMultipartUploadResult><ETag>"e"</ETag>'
        self._answer(200, {}, f"{body}</CompleteMultipartUploadResult>")

    def do_HEAD(self) -> None:
        checksum, size = self.server.whole
        if not size:
            self._answer(404, {})
        else:
            self._answer(200, {_CHECKSUM: checksum, "Content-Length": str(size)})

    def _body(self) -> bytes:
        """The whole body of a small request; of a part only what is left over is kept."""
        left, last = int(self.headers.get("Content-Length") or 0), b""
        while left:
            last = self.rfile.read(min(left, _PIECE))
            left -= len(last)
            if self.path.find("partNumber") > 0:
                self.server.received += len(last)
        return last

    def _answer(self, status: int, headers: dict[str, str], body: str = "") -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body.encode())
