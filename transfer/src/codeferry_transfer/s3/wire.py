"""One HTTP/1.1 connection, spoken by hand.

``http.client`` costs three times the processor time of this for a small object: it parses
headers as e-mail and copies bodies through a buffered file. What S3 needs of HTTP is little.

Whoever answers may be anybody: what is not exactly HTTP/1.1 (RFC 9112) is Broken, and no answer
takes for ever, because a server that gives a byte now and then is given up as well.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import ssl
import time
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
PATIENCE = 900.0
_SLOWEST = 1000.0
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

    def __init__(
        self,
        dialled: socket.socket,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = dialled
        self._patience, self._clock = patience, clock
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
                raise _broken(error) from error

    def _send_all(self, part: bytes) -> None:
        left = memoryview(part)
        while left:
            began = self._clock()
            count = self._socket.send(left)
            self._spend(began, count)
            left = left[count:]

    def _head(self) -> AnswerHead:
        for _ in range(_MOST_INTERIM + 1):
            first, *lines = (
                self._until(_HEAD_END, untouched=self.used).decode("latin-1").split("\r\n")
            )
            found = _STATUS_LINE.fullmatch(first)
            if found is None:
                raise Broken("the answer is not HTTP")
            if found[1][0] != "1":
                return self._answer_head(int(found[1]), lines)
        raise Broken("the server does not come to its answer")

    def _answer_head(self, status: int, lines: list[str]) -> AnswerHead:
        headers: dict[str, str] = {}
        for line in lines:
            found = _HEADER.fullmatch(line)
            if found is None:
                raise Broken("the answer's head is not HTTP")
            name, value = found[1].lower(), found[2].strip()
            if headers.setdefault(name, value) != value and name in _FRAMING:
                raise Broken(f"the answer has two {name}s")
            headers[name] = value
        if headers.get("connection", "").lower() == "close":
            self._closing = True
        return AnswerHead(status, headers)

    def body(self, answer: AnswerHead, sink: Sink, *, none: bool = False) -> int:
        """Give the answer's body to ``sink``, piece by piece; its size. Raises Broken.

        A piece is only valid during the call. ``none`` is for HEAD, whose answers state a
        length and have no body.
        """
        size = 0 if none or answer.status in (204, 304) else self._body(answer, sink)
        # What is left over would be taken for the beginning of the next answer.
        self.reusable = not self._closing and self._begin == self._end
        return size

    def _body(self, answer: AnswerHead, sink: Sink) -> int:
        coding = answer.headers.get("transfer-encoding", "").lower()
        length = answer.headers.get("content-length")
        if coding not in ("", "chunked") or (coding and length is not None):
            raise Broken("the answer's body has no clear end")
        if coding:
            return self._chunks(sink)
        if length is None:
            return self._until_closed(sink)
        if not _LENGTH.fullmatch(length):
            raise Broken("the answer's length is no number")
        return self._exactly(int(length), sink)

    def _until(self, mark: bytes, *, most: int = _LARGEST_HEAD, untouched: bool = False) -> bytes:
        """What comes before the mark, which is passed over."""
        while (ends := self._bytes.find(mark, self._begin, self._end)) < 0:
            held = self._end - self._begin
            if held > most:
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
        total = framing = 0
        while size := _chunk_size(line := self._until(_LINE_END, most=_LONGEST_CHUNK_LINE)):
            total += self._exactly(size, sink)
            framing += len(line) + 2 * len(_LINE_END)
            if framing > total + _MOST_FRAMING:
                raise Broken("the answer has more framing than content")
            if self._until(_LINE_END, most=len(_LINE_END)):
                raise Broken("a chunk of the answer is longer than it says")
        for _ in range(_MOST_TRAILERS):
            if not self._until(_LINE_END):
                return total
        raise Broken("the answer does not end")

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
        began = self._clock()
        try:
            count = self._socket.recv_into(self._buffer[self._end :])
        except OSError as error:
            raise _broken(error, untouched=untouched) from error
        if count == 0:
            raise Broken(_ENDED, untouched=untouched)
        self._end += count
        self._spend(began, count)

    def _spend(self, began: float, count: int) -> None:
        """Note that ``count`` bytes took until now. What our own side takes does not count."""
        self._waited += self._clock() - began
        self._moved += count
        if self._waited > self._patience + self._moved / _SLOWEST:
            raise Broken("the server is too slow")


_ENDED = "the server closed the connection"


def _chunk_size(line: bytes) -> int:
    found = _CHUNK_SIZE.fullmatch(line)
    if found is None:
        raise Broken("a chunk of the answer has no length")
    return int(found[1], 16)


def _broken(error: OSError, *, untouched: bool = False) -> Broken:
    if isinstance(error, (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return Broken("the server went silent")
    return Broken(error.strerror or type(error).__name__, untouched=untouched)
