"""Getting connected to a server, through a proxy where one is named."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from codeferry_transfer.errors import ConnectionFailed
from codeferry_transfer.s3.address import Origin

CONNECT_SECONDS = 10
SILENT_SECONDS = 60
_LARGEST_ANSWER = 16 << 10
_PROXY_PORT = 80


def connected(origin: Origin, tls: Callable[[], ssl.SSLContext]) -> socket.socket:
    """A socket to the server. Raises OSError; ConnectionFailed when the proxy refuses."""
    way = _proxy(origin)
    dialled = socket.create_connection(way or (origin.host, origin.port), CONNECT_SECONDS)
    try:
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if origin.secure:
            if way:
                _tunnel(dialled, origin)
            dialled = tls().wrap_socket(dialled, server_hostname=origin.host)
        _limit_silence(dialled)
    except BaseException:
        dialled.close()
        raise
    return dialled


def proxy_authorization(origin: Origin) -> str:
    """The header line that lets one through the proxy; empty without name and password."""
    parts = urlsplit(origin.proxy)
    if parts.username is None:
        return ""
    both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"proxy-authorization: Basic {b64encode(both.encode()).decode()}\r\n"


def _proxy(origin: Origin) -> tuple[str, int] | None:
    if not origin.proxy:
        return None
    parts = urlsplit(origin.proxy)
    if parts.scheme != "http" or parts.hostname is None:
        raise ConnectionFailed(
            f"A proxy is reached by http here, not by {parts.scheme or 'nothing'}.",
            hint="Name another one in HTTPS_PROXY, or the endpoint in NO_PROXY.",
        )
    return parts.hostname, parts.port or _PROXY_PORT


def _tunnel(dialled: socket.socket, origin: Origin) -> None:
    """Have the proxy pass everything on."""
    place = f"{origin.host}:{origin.port}"
    dialled.sendall(
        f"CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n{proxy_authorization(origin)}\r\n".encode()
    )
    answer, ends = b"", time.monotonic() + CONNECT_SECONDS
    while b"\r\n\r\n" not in answer and len(answer) < _LARGEST_ANSWER:
        left = ends - time.monotonic()
        if left <= 0:
            break
        dialled.settimeout(left)
        piece = dialled.recv(1)  # what follows the answer is the server's
        if not piece:
            break
        answer += piece
    status = answer[:12].partition(b" ")[2].decode(errors="replace")
    if status != "200" or not answer.endswith(b"\r\n\r\n"):
        raise ConnectionFailed(
            f"The proxy does not let one through to {origin.host} ({status or 'no answer'}).",
            hint="Check HTTPS_PROXY and NO_PROXY.",
        )


def _limit_silence(dialled: socket.socket) -> None:
    """A timeout by the kernel: Python's own costs a poll() around every call."""
    limit = struct.pack("ll", SILENT_SECONDS, 0)
    dialled.settimeout(None)
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
