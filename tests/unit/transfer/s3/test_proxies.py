"""Through the proxy that the environment names, as every boto3 client would go."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import boto3
import pytest

from codeferry_transfer.errors import ConnectionFailed
from codeferry_transfer.s3 import S3
from codeferry_transfer.s3.address import Origin
from codeferry_transfer.s3.http import connect

SECRET = "Basic dXNlcjpwYXNzIHdvcmQ="  # user, "pass word"
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """Answers each connection's first head with ``answer``, then gives it to ``then``."""

    def __init__(self, answer: bytes, then: Callable[[socket.socket], None]) -> None:
        self.heads: list[str] = []
        self._answer, self._then = answer, then
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                taken, _ = self._listening.accept()
                with taken, taken.makefile("rb") as lines:
                    self.heads.append("".join(iter(lambda: lines.readline().decode(), "\r\n")))
                    taken.sendall(self._answer)
                    self._then(taken)
        except OSError:
            return  # closed

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """``proxy(answer, then)``: one that listens."""
    started: list[Proxy] = []

    def start(answer: bytes, then: Callable[[socket.socket], None] = lambda _: None) -> Proxy:
        started.append(Proxy(answer, then))
        return started[-1]

    yield start
    for each in started:
        each.close()


class NoTls:
    """Leaves a socket as it is."""

    def wrap_socket(self, opened: socket.socket, server_hostname: str) -> socket.socket:
        return opened


def no_tls() -> ssl.SSLContext:
    return cast(ssl.SSLContext, NoTls())


def test_https_goes_through_a_tunnel(proxy: Any) -> None:
    """The proxy is asked for the server by name, with the user it wants; then it is silent."""
    there = proxy(TUNNEL, lambda taken: taken.sendall(b"server's own"))
    origin = Origin(True, "bucket.example", 443, f"http://user:pass%20word@{there.place}")
    with connect(origin, no_tls) as opened:
        assert opened.recv(100, socket.MSG_WAITALL) == b"server's own"
    assert there.heads[0].startswith("CONNECT bucket.example:443 HTTP/1.1\r\n")
    assert f"proxy-authorization: {SECRET}\r\n" in there.heads[0]


def test_a_proxy_that_refuses_is_named(proxy: Any) -> None:
    """Its status is told, and where proxies are named."""
    there = proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    with pytest.raises(ConnectionFailed, match=r"bucket\.example \(407\)") as caught:
        connect(Origin(True, "bucket.example", 443, f"http://{there.place}"), no_tls)
    assert "HTTPS_PROXY" in caught.value.hint


def test_a_proxy_of_another_kind_is_refused() -> None:
    """What cannot be spoken is said before anything is sent."""
    with pytest.raises(ConnectionFailed, match="not by socks5"):
        connect(Origin(True, "bucket.example", 443, "socks5://127.0.0.1:9"), no_tls)


@pytest.mark.parametrize("bypassed", [False, True])
def test_http_is_asked_of_the_proxy_by_url(
    proxy: Any, monkeypatch: pytest.MonkeyPatch, bypassed: bool
) -> None:
    """HTTP_PROXY counts, unless NO_PROXY names the server."""
    answer = b'HTTP/1.1 200 OK\r\netag: "e"\r\ncontent-length: 0\r\n\r\n'
    there, server = proxy(answer), proxy(answer)
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"user:pass%20word@{there.place}")
    monkeypatch.setenv("http_proxy", f"user:pass%20word@{there.place}")
    if bypassed:
        monkeypatch.setenv("no_proxy", urlsplit(f"//{server.place}").netloc)
    s3 = S3(boto3.Session(), endpoint_url=f"http://{server.place}", attempts=1)
    s3.put_object("bucket", "key", b"")
    s3.close()
    asked, other = (server, there) if bypassed else (there, server)
    target = "/bucket/key" if bypassed else f"http://{server.place}/bucket/key"
    assert asked.heads[0].startswith(f"PUT {target} HTTP/1.1\r\n")
    assert (f"proxy-authorization: {SECRET}\r\n" in asked.heads[0]) is not bypassed
    assert other.heads == []
