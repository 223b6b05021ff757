"""An HTTP proxy in front of S3 or SSM that fails where it is told to.

The Host header goes on as the client sent it, because the client has signed it.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.proxy.rules import (
    Action,
    Cut,
    Delay,
    Drop,
    Hold,
    Reset,
    Rule,
    RuleBook,
    Seen,
    Status,
    Truncate,
)

_PIECE = 256 * 1024
_TIMEOUT = 120
# Of one hop only (RFC 9110, 7.6.1); Expect is answered here.
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


class FaultProxy:
    """A context manager with a ``url``; ``upstream`` may be set when that is known.

    A new one passes everything on; ``set`` gives it rules, ``set()`` takes them away.
    """

    def __init__(self, upstream: str = "") -> None:
        self.upstream = upstream
        self.book = RuleBook()
        self.closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def set(self, *rules: Rule) -> None:
        self.book.set(*rules)

    @property
    def seen(self) -> list[Seen]:
        return self.book.seen()

    @property
    def hits(self) -> list[Seen]:
        """The requests something was done to."""
        return [request for request in self.seen if request.action is not None]

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def shutdown_request(self, request: Any) -> None:
        """Close at once: the base would end the stream first, and a reset would be an end."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what half of these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass

    def _serve(self) -> None:
        proxy, target = self.server.proxy, self.headers.get("X-Amz-Target", "")
        action = proxy.book.note(self.command, self.path, target)
        if isinstance(action, Cut):
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self._reset()
            return
        body = self._body()
        match action:
            case Reset():
                self._reset()
            case Hold():
                proxy.closing.wait(_TIMEOUT)
                self._reset()
            case Status():
                self._refuse(action)
            case Delay():
                proxy.closing.wait(action.seconds)
                self._forward(body, None)
            case _:
                self._forward(body, action)

    # http.server looks these names up.
    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _forward(self, body: bytes, action: Action | None) -> None:
        upstream = http.client.HTTPConnection(
            urlsplit(self.server.proxy.upstream).netloc, timeout=_TIMEOUT
        )
        try:
            answer = self._asked(upstream, body)
            if isinstance(action, Drop):
                answer.read()
                self.close_connection = True
            else:
                self._pass_on(answer, action if isinstance(action, Truncate) else None)
        finally:
            upstream.close()

    def _asked(self, upstream: http.client.HTTPConnection, body: bytes) -> http.client.HTTPResponse:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP | {"content-length"}:
                upstream.putheader(name, value)
        if body or self.command in ("PUT", "POST"):
            upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body or None)
        return upstream.getresponse()

    def _pass_on(self, answer: http.client.HTTPResponse, cut: Truncate | None) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Connection", "close")  # the end of the body is the end of all
            self.close_connection = True
        self.end_headers()
        left = None if cut is None else cut.after
        while piece := answer.read(_PIECE if left is None else min(_PIECE, left)):
            self.wfile.write(piece)
            left = None if left is None else left - len(piece)
        if cut is not None:
            self.close_connection = True
            if not cut.orderly:
                self._reset()

    def _refuse(self, action: Status) -> None:
        message = "The fault proxy was told to."
        if "X-Amz-Target" in self.headers:
            kind = "application/x-amz-json-1.1"
            body = json.dumps({"__type": action.code, "message": message}).encode()
        else:
            kind = "application/xml"
            text = f"<Error><Code>{action.code}</Code><Message>{message}</Message></Error>"
            body = b"" if self.command == "HEAD" else text.encode()
        self.send_response_only(action.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        """RST and not FIN: what the client gets is no orderly end."""
        self.close_connection = True
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
