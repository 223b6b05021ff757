"""Send a request to S3 with all that can happen to it: signed, sent, answered, tried again.

Connections are kept open between requests, and time is corrected by S3's responses.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from codeferry_transfer.errors import (
    ConnectionFailed,
    Halted,
    TransferError,
    answer_invalid,
    refusal,
)
from codeferry_transfer.s3 import retry
from codeferry_transfer.s3.address import Address, AddressBook, Origin, Source
from codeferry_transfer.s3.http import (
    Connection,
    ConnectionBroken,
    ResponseHead,
    proxy_authorization,
)
from codeferry_transfer.s3.responses import ErrorResponse, error_response, moment_of
from codeferry_transfer.s3.retry import RequestLimit
from codeferry_transfer.s3.signing import EMPTY_SHA256, Keys, encoded_path, encoded_query, signed

if TYPE_CHECKING:
    import ssl

# An answer to HEAD has no body, so its status is all that is said: 400 of what is expired, and
# 403 of a wrong clock as of everything that is not allowed.
_EXPIRED = {"ExpiredToken", "InvalidToken", "RequestExpired", "TokenRefreshRequired", "400"}
_SKEWED, _UNEXPLAINED = "RequestTimeTooSkewed", "403"
_TOLERATED_SKEW = 60  # seconds; S3 tolerates 15 minutes


class Identity:
    """The source's credentials, and the time; safe to use from many threads.

    ``offset`` is what S3's clock is ahead of this machine's, in seconds, as far as it is known.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: Keys | None = None
        self._guessed = False
        self._correcting = threading.Lock()
        self.offset = 0.0

    def keys(self) -> Keys:
        """The credentials as they are now. Raises CredentialsUnusable."""
        self._last = self._source.keys()
        return self._last

    def now(self) -> float:
        """Seconds since 1970, as S3 counts them."""
        return time.time() + self.offset

    def corrected(self, code: str, date: str, offset: float) -> bool:
        """Whether clock or credentials are others now than those of the request, made at
        ``offset``, that was answered with the error ``code`` at ``date``."""
        if code in (_SKEWED, _UNEXPLAINED):
            with self._correcting:
                return self.offset != offset or self._clock_corrected(code, moment_of(date))
        return code in _EXPIRED and self._last != self.keys()

    def _clock_corrected(self, code: str, moment: float) -> bool:
        found = moment - time.time()
        if not moment or abs(found - self.offset) <= _TOLERATED_SKEW:
            return False
        if code == _UNEXPLAINED:
            if self._guessed:
                return False
            self._guessed = True  # a second time it is not the clock
        self.offset = found
        return True


class Pool:
    """Safe to use from many threads. The connection used last is taken first: it is warm."""

    def __init__(self, authorities: Callable[[], str | None]) -> None:
        self._authorities = authorities
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[Connection]] = defaultdict(list)
        self._busy: set[Connection] = set()

    @contextmanager
    def connection(self, origin: Origin) -> Iterator[Connection]:
        """One to ``origin``; kept afterwards unless it cannot be used again.

        Raises ConnectionBroken.
        """
        with self._lock:
            idle = self._idle[origin]
            connection = idle.pop() if idle else None
        if connection is None:
            connection = Connection.open(origin, lambda: self._tls)
        self._busy.add(connection)
        try:
            yield connection
        finally:
            self._busy.discard(connection)
            if connection.reusable:
                connection.used = True
                with self._lock:
                    idle.append(connection)
            else:
                connection.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made for the first server that wants it: reading all authorities takes a while."""
        import ssl

        return ssl.create_default_context(cafile=self._authorities())

    def cut(self) -> None:
        """End what is going on: every thread that waits on a connection gets Broken."""
        for connection in tuple(self._busy):
            connection.shut()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            for idle in self._idle.values():
                while idle:
                    idle.pop().close()


_CONTROL = re.compile("[\x00-\x1f\x7f]")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``headers`` are signed; ``key`` is None when it is about the bucket."""

    operation: str
    method: str
    bucket: str
    key: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    body_sha256: str = EMPTY_SHA256


class Taker(Protocol):
    """Takes an answer that is too large to be held, or that may come in several."""

    def begin(self, answer: ResponseHead) -> None:
        """A further answer begins."""

    def take(self, piece: memoryview) -> None:
        """The next bytes; ``piece`` is only valid during the call."""

    def end(self) -> None:
        """The answer is complete; Refused when it says in its body that it is an error."""


class Gatherer:
    """Takes a small answer whole. A page of a listing has at most 1,000 keys of 1 KiB, each
    byte of which may be spelled as three."""

    MOST_BYTES = 4 << 20

    def __init__(self) -> None:
        self.content = bytearray()

    def begin(self, answer: ResponseHead) -> None:
        self.content = bytearray()

    def take(self, piece: memoryview) -> None:
        if len(self.content) + len(piece) > self.MOST_BYTES:
            raise ConnectionBroken("the answer is larger than any of S3's")
        self.content += piece

    def end(self) -> None:
        """An answer with a good status is good."""


class Exchanges:
    """Makes requests until they are answered; shared by any number of threads."""

    def __init__(self, source: Source, headers: Mapping[str, str], attempts: int) -> None:
        self._book = AddressBook(source)
        self._identity = Identity(source)
        self._pool = Pool(source.authorities)
        self._headers = dict(headers)
        self._attempts = attempts
        self._stop = threading.Event()
        self.limit = RequestLimit()

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def halt(self) -> None:
        """Every request, those going on too, raises Halted until ``resume``."""
        self._stop.set()
        self._pool.cut()

    def resume(self) -> None:
        """Requests are made again; those that were going on when halted still raise."""
        self._stop = threading.Event()

    def now(self) -> float:
        """Seconds since 1970, as S3 counts them."""
        return self._identity.now()

    def answer(
        self, request: Request, gatherer: Gatherer | None = None
    ) -> tuple[ResponseHead, bytes]:
        """The whole answer to ``request``. Raises TransferError."""
        gatherer = gatherer or Gatherer()
        head = self.ask(lambda: request, gatherer)
        return head, bytes(gatherer.content)

    def ask(self, make: Callable[[], Request], taker: Taker) -> ResponseHead:
        """The head of the answer whose body ``taker`` got; ``make`` is called for each attempt.

        Raises TransferError, and whatever ``taker`` raises.
        """
        stop, attempt = self._stop, 0
        while True:
            request, attempt = make(), attempt + 1
            problem: ConnectionBroken | ErrorResponse
            address, offset = self._book.address(request.bucket), self._identity.offset
            try:
                return self._once(request, address, taker, stop)
            except ErrorResponse as error:
                problem, cured = error, self._cured(request, address, offset, error)
            except ConnectionBroken as error:
                problem, cured = error, error.untouched
            if stop.is_set():
                raise Halted("The transfer was given up.") from problem
            if attempt >= self._attempts or not (cured or problem.passing):
                raise _error(request, problem) from problem
            _log.debug("%s again after %s", request.operation, problem)
            if not cured:
                stop.wait(retry.delay(attempt))

    def _once(
        self, request: Request, address: Address, taker: Taker, stop: threading.Event
    ) -> ResponseHead:
        head = self._head(request, address)
        with self.limit.turn(), self._pool.connection(address.origin) as connection:
            if stop.is_set():  # asked when halt() can find the connection: it cuts later ones
                raise ConnectionBroken("halted")
            answer = connection.exchange(head, request.body)
            if answer.status >= 300:
                raise self._refused(connection, request, answer)
            taker.begin(answer)
            connection.body(answer, taker.take, none=request.method == "HEAD")
            taker.end()
        self.limit.served()
        return answer

    def _head(self, request: Request, address: Address) -> bytes:
        key = "" if request.key is None else "/" + encoded_path(request.key)
        path, query = (address.base + key) or "/", encoded_query(request.query)
        headers = signed(
            request.method,
            path,
            query,
            {"host": address.host_header, **self._headers, **request.headers},
            request.body_sha256,
            self._identity.keys(),
            address.scope,
            self._identity.now(),
        )
        target = f"{path}?{query}" if query else path
        if any(map(_CONTROL.search, headers.values())):  # such as an ETag that S3 has given
            raise answer_invalid("what it gave cannot be sent back in a header")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if address.origin.proxy and not address.origin.secure:  # else it is asked for a tunnel
            target = f"http://{address.host_header}{target}"
            lines += proxy_authorization(address.origin)
        length = f"content-length: {len(request.body)}\r\n" if request.method in _WITH_BODY else ""
        return f"{request.method} {target} HTTP/1.1\r\n{lines}{length}\r\n".encode()

    def _refused(
        self, connection: Connection, request: Request, answer: ResponseHead
    ) -> ErrorResponse:
        gatherer = Gatherer()
        connection.body(answer, gatherer.take, none=request.method == "HEAD")
        error = error_response(answer, bytes(gatherer.content))
        if error.throttled:
            self.limit.refused()
        return error

    def _cured(
        self, request: Request, asked: Address, offset: float, problem: ErrorResponse
    ) -> bool:
        """Whether something was learnt from the answer that makes the next attempt another;
        another thread may have learnt it first."""
        if problem.region and problem.region != asked.scope.region:
            if problem.region != self._book.address(request.bucket).scope.region:
                self._book.moved(request.bucket, problem.region)
            return True
        return self._identity.corrected(problem.code, problem.date, offset)


_WITH_BODY = ("PUT", "POST")


def _error(request: Request, problem: ConnectionBroken | ErrorResponse) -> TransferError:
    if isinstance(problem, ErrorResponse):
        return refusal(request.operation, request.bucket, request.key or "", problem.code)
    return ConnectionFailed(
        f"The connection to S3 failed ({problem}) while reaching {request.bucket!r}.",
        hint="Check the network, --region and the endpoint, then try again.",
    )
