"""A real S3 server, and a proxy before it that fails where it is told to."""

from __future__ import annotations

import http.client
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import boto3
import pytest

from codeferry_transfer import make_client


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def client(ministack: str, _credentials: None) -> Any:
    return make_client(boto3.Session(), endpoint_url=ministack)


@pytest.fixture
def bucket(client: Any) -> str:
    """A versioned bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@dataclass
class Fault:
    """What happens to the ``nth`` request (from 1) of an S3 ``operation``.

    ``action``: ``reset`` drops the connection unanswered and unforwarded, ``cut`` does so
    in the middle of the request's body, ``lose`` forwards and drops the answer, a number is
    answered as that status, ``hold`` waits until the proxy closes.
    """

    operation: str
    nth: int
    action: str


@dataclass
class FaultyProxy:
    """``seen`` lists the operations asked for, in order, faults included."""

    endpoint: str
    faults: list[Fault]
    seen: list[str] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    closing: threading.Event = field(default_factory=threading.Event)

    def note(self, operation: str) -> str | None:
        """Count a request; the action of the fault that applies to it."""
        with self.arrived:
            self.seen.append(operation)
            self.arrived.notify_all()
            nth = self.seen.count(operation)
        fits = (f.action for f in self.faults if (f.operation, f.nth) == (operation, nth))
        return next(fits, None)

    def wait_for(self, operation: str) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: operation in self.seen, timeout=60)


def operation_of(method: str, path: str) -> str:
    query = urlsplit(path).query
    for mark, name in (("partNumber=", "part"), ("uploads", "create")):
        if mark in query:
            return name
    if "uploadId=" in query:
        return {"POST": "complete", "DELETE": "abort"}.get(method, "list")
    return method.lower()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[FaultyProxy]
    upstream: ClassVar[str]

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        action = self.proxy.note(operation_of(self.command, self.path))
        body = self.rfile.read(length // 2 if action == "cut" else length)
        match action:
            case None:
                self._answer(*self._forwarded(body))
            case "reset" | "cut":
                self.close_connection = True
            case "lose":
                self._forwarded(body)
                self.close_connection = True
            case "hold":
                self.proxy.closing.wait(60)
                self.close_connection = True
            case status:
                error = b"<Error><Code>SlowDown</Code><Message>Reduce.</Message></Error>"
                self._answer(int(status), {"Content-Type": "application/xml"}, error)

    # http.server looks these names up.
    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        dropped = {"content-length", "transfer-encoding", "connection", "date", "server"}
        for name, value in headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def faulty(ministack: str) -> Iterator[Callable[..., FaultyProxy]]:
    """Starts a proxy with the given faults."""
    servers: list[tuple[ThreadingHTTPServer, FaultyProxy]] = []

    def start(*faults: Fault) -> FaultyProxy:
        handler = type("Handler", (_Handler,), {"upstream": urlsplit(ministack).netloc})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        proxy = FaultyProxy(f"http://127.0.0.1:{server.server_address[1]}", list(faults))
        handler.proxy = proxy  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append((server, proxy))
        return proxy

    yield start
    for server, proxy in servers:
        proxy.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def fault() -> type[Fault]:
    return Fault
