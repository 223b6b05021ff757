"""Getting connected to a server, through a proxy where one is named.

One HTTP/1.1 connection, spoken by hand.

``http.client`` costs three times the processor time of this for a small object: it parses
headers as e-mail and copies bodies through a buffered file. What S3 needs of HTTP is little.

Whoever answers may be anybody: what is not exactly HTTP/1.1 (RFC 9112) is Broken, and no answer
takes for ever, because a server that gives a byte now and then is given up as well."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import ssl
import struct
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from codeferry_transfer.errors import ConnectionFailed
from codeferry_transfer.s3.address import Origin

CONNECT_SECONDS = 10
SILENT_SECONDS = 60
_LARGEST_RESPONSE = 16 << 10
_PROXY_PORT = 80


def connect(origin: Origin, tls: Callable[[], ssl.SSLContext]) -> socket.socket:
    """A socket to the server. Raises OSError; ConnectionFailed when the proxy refuses."""
    way = _proxy(origin)
    opened = socket.create_connection(way or (origin.host, origin.port), CONNECT_SECONDS)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if origin.secure:
            if way:
                _tunnel(opened, origin)
            opened = tls().wrap_socket(opened, server_hostname=origin.host)
        _limit_waiting(opened)
    except BaseException:
        opened.close()
        raise
    return opened


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


def _tunnel(opened: socket.socket, origin: Origin) -> None:
    """Have the proxy pass everything on."""
    place = f"{origin.host}:{origin.port}"
    opened.sendall(
        f"CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n{proxy_authorization(origin)}\r\n".encode()
    )
    answer, ends = b"", time.monotonic() + CONNECT_SECONDS
    while b"\r\n\r\n" not in answer and len(answer) < _LARGEST_RESPONSE:
        left = ends - time.monotonic()
        if left <= 0:
            break
        opened.settimeout(left)
        piece = opened.recv(1)  # what follows the answer is the server's
        if not piece:
            break
        answer += piece
    status = answer[:12].partition(b" ")[2].decode(errors="replace")
    if status != "200" or not answer.endswith(b"\r\n\r\n"):
        raise ConnectionFailed(
            f"The proxy does not let one through to {origin.host} ({status or 'no answer'}).",
            hint="Check HTTPS_PROXY and NO_PROXY.",
        )


def _limit_waiting(opened: socket.socket) -> None:
    """A timeout by the kernel: Python's own costs a poll() around every call."""
    limit = struct.pack("ll", SILENT_SECONDS, 0)
    opened.settimeout(None)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


Sink = Callable[[memoryview], object]

# As large as pays: each piece of a body costs a few system calls, and turns at the interpreter.
_BUFFER = 512 << 10
_LARGEST_HEAD = 64 << 10
_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9][0-9])(?: .*)?")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")  # more bytes than a file can have
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_FRAMING = ("content-length", "transfer-encoding")
_LONGEST_CHUNK_LINE = 1 << 10
_MOST_FRAMING = 256 << 10  # beyond as much as there is content
_MOST_TRAILERS = 64
_MOST_INTERIM = 8  # answers with a status of 1xx before the one that counts
# How long an exchange may wait for the network in all: so many seconds, and as many bytes in
# each further one. S3 takes minutes to complete an upload, and sends spaces meanwhile.
TIMEOUT = 900.0
_SLOWEST = 1000.0
# Below this a body travels in one packet train with its head; copying it costs less than
# another system call.
_TOGETHER = 64 << 10


class ConnectionBroken(Exception):
    """The connection ended or went silent before the answer was complete.

    ``untouched`` says that the connection had been kept idle and not one byte of an answer
    came: the server has probably closed it meanwhile.
    """

    passing = True

    def __init__(self, reason: str, *, untouched: bool = False) -> None:
        super().__init__(reason)
        self.untouched = untouched


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers, whose names are in lower case."""

    status: int
    headers: dict[str, str]


class Connection:
    """A connection for one exchange after the other: ``send``, ``head``, then the body."""

    def __init__(
        self,
        opened: socket.socket,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = opened
        self._timeout, self._clock = timeout, clock
        self._waited, self._moved = 0.0, 0  # seconds and bytes of this exchange
        self._bytes = bytearray(_BUFFER)
        self._buffer = memoryview(self._bytes)
        self._begin = self._end = 0
        self.reusable = True  # between exchanges; not when one went wrong
        self.used = False
        self._closing = False

    @classmethod
    def open(cls, origin: Origin, tls: Callable[[], ssl.SSLContext]) -> Connection:
        """Raises Broken; ConnectionFailed when the server's certificate is not to be trusted."""
        try:
            return cls(connect(origin, tls))
        except ssl.SSLCertVerificationError as error:
            raise ConnectionFailed(
                f"The certificate of {origin.host} cannot be trusted: {error.verify_message}.",
                hint="Name the authority's file in AWS_CA_BUNDLE if it is one of your own.",
            ) from error
        except OSError as error:
            raise _connection_broken(error) from error

    def close(self) -> None:
        self._socket.close()

    def shut(self) -> None:
        """Make whatever another thread waits for on this connection fail at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def exchange(self, head: bytes, body: bytes) -> ResponseHead:
        """Send a request; the head of its answer, whose ``body`` must be taken. Raises Broken."""
        self.reusable = False
        self._waited, self._moved = 0.0, 0
        self._send(head, body)
        return self._head()

    def _send(self, head: bytes, body: bytes) -> None:
        """Raises Broken, but not when the server has hung up: it may have answered first."""
        together = len(body) <= _TOGETHER
        try:
            for part in (head + body,) if together else (head, body):
                self._send_all(part)
        except OSError as error:
            self._closing = True
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise _connection_broken(error) from error

    def _send_all(self, part: bytes) -> None:
        left = memoryview(part)
        while left:
            began = self._clock()
            count = self._socket.send(left)
            self._spend(began, count)
            left = left[count:]

    def _head(self) -> ResponseHead:
        for _ in range(_MOST_INTERIM + 1):
            first, *lines = (
                self._until(_HEAD_END, untouched=self.used).decode("latin-1").split("\r\n")
            )
            found = _STATUS_LINE.fullmatch(first)
            if found is None:
                raise ConnectionBroken("the answer is not HTTP")
            if found[1][0] != "1":
                return self._answer_head(int(found[1]), lines)
        raise ConnectionBroken("the server does not come to its answer")

    def _answer_head(self, status: int, lines: list[str]) -> ResponseHead:
        headers: dict[str, str] = {}
        for line in lines:
            found = _HEADER.fullmatch(line)
            if found is None:
                raise ConnectionBroken("the answer's head is not HTTP")
            name, value = found[1].lower(), found[2].strip()
            if headers.setdefault(name, value) != value and name in _FRAMING:
                raise ConnectionBroken(f"the answer has two {name}s")
            headers[name] = value
        if headers.get("connection", "").lower() == "close":
            self._closing = True
        return ResponseHead(status, headers)

    def body(self, answer: ResponseHead, sink: Sink, *, none: bool = False) -> int:
        """Give the answer's body to ``sink``, piece by piece; its size. Raises Broken.

        A piece is only valid during the call. ``none`` is for HEAD, whose answers state a
        length and have no body.
        """
        size = 0 if none or answer.status in (204, 304) else self._body(answer, sink)
        # What is left over would be taken for the beginning of the next answer.
        self.reusable = not self._closing and self._begin == self._end
        return size

    def _body(self, answer: ResponseHead, sink: Sink) -> int:
        coding = answer.headers.get("transfer-encoding", "").lower()
        length = answer.headers.get("content-length")
        if coding not in ("", "chunked") or (coding and length is not None):
            raise ConnectionBroken("the answer's body has no clear end")
        if coding:
            return self._chunks(sink)
        if length is None:
            return self._until_closed(sink)
        if not _LENGTH.fullmatch(length):
            raise ConnectionBroken("the answer's length is no number")
        return self._exactly(int(length), sink)

    def _until(self, mark: bytes, *, most: int = _LARGEST_HEAD, untouched: bool = False) -> bytes:
        """What comes before the mark, which is passed over."""
        while (ends := self._bytes.find(mark, self._begin, self._end)) < 0:
            held = self._end - self._begin
            if held > most:
                raise ConnectionBroken("the answer's head does not end")
            self._receive(untouched=untouched and not held)
        found = self._buffer[self._begin : ends].tobytes()
        self._begin = ends + len(mark)
        return found

    def _exactly(self, length: int, sink: Sink) -> int:
        left = length
        while left:
            if self._begin == self._end:
                self._receive()
            until = min(self._end, self._begin + left)
            sink(self._buffer[self._begin : until])
            left -= until - self._begin
            self._begin = until
        return length

    def _chunks(self, sink: Sink) -> int:
        total = framing = 0
        while size := _chunk_size(line := self._until(_LINE_END, most=_LONGEST_CHUNK_LINE)):
            total += self._exactly(size, sink)
            framing += len(line) + 2 * len(_LINE_END)
            if framing > total + _MOST_FRAMING:
                raise ConnectionBroken("the answer has more framing than content")
            if self._until(_LINE_END, most=len(_LINE_END)):
                raise ConnectionBroken("a chunk of the answer is longer than it says")
        for _ in range(_MOST_TRAILERS):
            if not self._until(_LINE_END):
                return total
        raise ConnectionBroken("the answer does not end")

    def _until_closed(self, sink: Sink) -> int:
        self._closing = True
        total = 0
        for piece in self._rest():
            total += len(piece)
            sink(piece)
        return total

    def _rest(self) -> Iterator[memoryview]:
        while True:
            if self._begin < self._end:
                yield self._buffer[self._begin : self._end]
                self._begin = self._end
            try:
                self._receive()
            except ConnectionBroken as broken:
                if broken.args == (_ENDED,):
                    return
                raise

    def _receive(self, *, untouched: bool = False) -> None:
        """At least one more byte into the buffer."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._end == _BUFFER:
            kept = self._buffer[self._begin : self._end].tobytes()
            self._buffer[: len(kept)] = kept
            self._begin, self._end = 0, len(kept)
        began = self._clock()
        try:
            count = self._socket.recv_into(self._buffer[self._end :])
        except OSError as error:
            raise _connection_broken(error, untouched=untouched) from error
        if count == 0:
            raise ConnectionBroken(_ENDED, untouched=untouched)
        self._end += count
        self._spend(began, count)

    def _spend(self, began: float, count: int) -> None:
        """Note that ``count`` bytes took until now. What our own side takes does not count."""
        self._waited += self._clock() - began
        self._moved += count
        if self._waited > self._timeout + self._moved / _SLOWEST:
            raise ConnectionBroken("the server is too slow")


_ENDED = "the server closed the connection"


def _chunk_size(line: bytes) -> int:
    found = _CHUNK_SIZE.fullmatch(line)
    if found is None:
        raise ConnectionBroken("a chunk of the answer has no length")
    return int(found[1], 16)


def _connection_broken(error: OSError, *, untouched: bool = False) -> ConnectionBroken:
    if isinstance(error, (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return ConnectionBroken("the server went silent")
    return ConnectionBroken(error.strerror or type(error).__name__, untouched=untouched)
