"""One HTTP/1.1 connection, spoken by hand.

``http.client`` costs three times the processor time of this for a small object: it parses
headers as e-mail and copies bodies through a buffered file. What S3 needs of HTTP is little.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from codeferry_transfer.errors import ConnectionFailed
from codeferry_transfer.s3.address import Origin
from codeferry_transfer.s3.dialling import connected

Sink = Callable[[memoryview], object]

# As large as pays: each piece of a body costs a few system calls, and turns at the interpreter.
_BUFFER = 512 << 10
_LARGEST_HEAD = 64 << 10
_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"
# Below this a body travels in one packet train with its head; copying it costs less than
# another system call.
_TOGETHER = 64 << 10


class Broken(Exception):
    """The connection ended or went silent before the answer was complete.

    ``untouched`` says that the connection had been kept idle and not one byte of an answer
    came: the server has probably closed it meanwhile.
    """

    passing = True

    def __init__(self, reason: str, *, untouched: bool = False) -> None:
        super().__init__(reason)
        self.untouched = untouched


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Status and headers, whose names are in lower case."""

    status: int
    headers: dict[str, str]


class Connection:
    """A connection for one exchange after the other: ``send``, ``head``, then the body."""

    def __init__(self, dialled: socket.socket) -> None:
        self._socket = dialled
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
            return cls(connected(origin, tls))
        except ssl.SSLCertVerificationError as error:
            raise ConnectionFailed(
                f"The certificate of {origin.host} cannot be trusted: {error.verify_message}.",
                hint="Name the authority's file in AWS_CA_BUNDLE if it is one of your own.",
            ) from error
        except OSError as error:
            raise _broken(error) from error

    def close(self) -> None:
        self._socket.close()

    def shut(self) -> None:
        """Make whatever another thread waits for on this connection fail at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def exchange(self, head: bytes, body: bytes) -> AnswerHead:
        """Send a request; the head of its answer, whose ``body`` must be taken. Raises Broken."""
        self.reusable = False
        self._send(head, body)
        return self._head()

    def _send(self, head: bytes, body: bytes) -> None:
        """Raises Broken, but not when the server has hung up: it may have answered first."""
        try:
            if len(body) <= _TOGETHER:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
        except OSError as error:
            self._closing = True
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise _broken(error) from error

    def _head(self) -> AnswerHead:
        status = 100
        while 100 <= status < 200:
            first, *lines = (
                self._until(_HEAD_END, untouched=self.used).decode("latin-1").split("\r\n")
            )
            if not first.startswith("HTTP/1.") or not first[9:12].isdigit():
                raise Broken("the answer is not HTTP")
            status = int(first[9:12])
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("connection", "").lower() == "close":
            self._closing = True
        return AnswerHead(status, headers)

    def body(self, answer: AnswerHead, sink: Sink, *, none: bool = False) -> int:
        """Give the answer's body to ``sink``, piece by piece; its size. Raises Broken.

        A piece is only valid during the call. ``none`` is for HEAD, whose answers state a
        length and have no body.
        """
        size = 0 if none or answer.status in (204, 304) else self._body(answer, sink)
        self.reusable = not self._closing
        return size

    def _body(self, answer: AnswerHead, sink: Sink) -> int:
        if answer.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks(sink)
        length = answer.headers.get("content-length")
        if length is None:
            return self._until_closed(sink)
        return self._exactly(int(length), sink)

    def _until(self, mark: bytes, *, untouched: bool = False) -> bytes:
        """What comes before the mark, which is passed over."""
        while (ends := self._bytes.find(mark, self._begin, self._end)) < 0:
            held = self._end - self._begin
            if held > _LARGEST_HEAD:
                raise Broken("the answer's head does not end")
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
        total = 0
        while size := int(self._until(_LINE_END).split(b";")[0], 16):
            total += self._exactly(size, sink)
            self._until(_LINE_END)
        while self._until(_LINE_END):
            pass
        return total

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
            except Broken as broken:
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
        try:
            count = self._socket.recv_into(self._buffer[self._end :])
        except OSError as error:
            raise _broken(error, untouched=untouched) from error
        if count == 0:
            raise Broken(_ENDED, untouched=untouched)
        self._end += count


_ENDED = "the server closed the connection"


def _broken(error: OSError, *, untouched: bool = False) -> Broken:
    if isinstance(error, (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return Broken("the server went silent")
    return Broken(error.strerror or type(error).__name__, untouched=untouched)
