"""HTTP/1.1 around the local SSM: the JSON protocol on ``/``, the controls on ``/_codeferry/``."""

from __future__ import annotations

import json
import logging
import socket
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from codeferry_local.ssm.errors import InternalServerError, SerializationException, SsmError

logger = logging.getLogger(__name__)

_CONTENT_TYPE = "application/x-amz-json-1.1"
_CONTROL = "/_codeferry/"
_TARGET_PREFIX = "AmazonSSM."
# Far above the largest request (64 KB), far below what would hurt.
_LARGEST_BODY = 4 * 1024 * 1024

# What does an operation (its name, the body, the headers), or raises SsmError or DropResponse; and
# what does a control request (its method, the path, the body).
Call = Callable[[str, Any, dict[str, str]], dict[str, Any]]
Control = Callable[[str, str, Any], Any]


class DropResponse(Exception):
    """The call was done; its answer is not to be sent."""


class HttpServer(ThreadingHTTPServer):
    """A thread per connection; ``close_connections`` ends the idle ones too."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, call: Call, control: Control) -> None:
        self.call, self.control = call, control
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection while it is open."""
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Hang up on every client."""
        with self._connections_lock:
            for connection in self._connections:
                _hang_up(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "codeferry-local-ssm"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    server: HttpServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        logger.debug(format, *args)

    def _serve(self) -> None:
        try:
            self._answer(200, self._result())
        except DropResponse:
            self.close_connection = True
            _hang_up(self.connection)
        except SsmError as error:
            self._refuse(error)
        except Exception:
            # The edge of the process: the client gets AWS's answer, the log the traceback.
            logger.exception("%s %s failed", self.command, self.path)
            self._refuse(InternalServerError("The local SSM failed; see its log."))

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the base's names

    def _result(self) -> Any:
        body = self._body()
        if self.path.startswith(_CONTROL):
            name = self.path.removeprefix(_CONTROL)
            return self.server.control(self.command, name, body)
        target = self.headers.get("X-Amz-Target", "")
        operation = target.removeprefix(_TARGET_PREFIX)
        return self.server.call(operation, body, dict(self.headers.items()))

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LARGEST_BODY:
            self.close_connection = True
            raise SerializationException("The request is too large.")
        text = self.rfile.read(length)
        try:
            body = json.loads(text) if text else {}
            json.dumps(body, ensure_ascii=False).encode()  # no lone surrogates
        except ValueError as error:
            raise SerializationException("The body is not JSON in UTF-8.") from error
        return body

    def _refuse(self, error: SsmError) -> None:
        body = {"__type": error.code, "message": str(error)}
        self._answer(error.http_status, body, {"x-amzn-ErrorType": error.code})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster
