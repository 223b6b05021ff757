"""An S3 server that means harm, without a socket: what it answers is made by seeded generators.

Time is the server's own, so that a slow answer takes none; what a client reads and asks is
counted, and beyond the limits it ends with an AssertionError instead of going on for ever.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, cycle, repeat

Piece = bytes | tuple[float, bytes]  # with the seconds until it comes
Answer = Iterable[Piece]
Make = Callable[[random.Random], Callable[[str], Answer]]
"""Chooses an attack; what it gives makes the answer to each request (its first line)."""

MOST_REQUESTS = 300
MOST_BYTES = 64 << 20
DATE = "Thu, 12 Nov 2026 00:00:00 GMT"
ETAG = '"not-an-md5"'


@dataclass
class HostileServer:
    """Answers every request by ``answer``, which gets the request's first line."""

    answer: Callable[[str], Answer]
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    told: bytes = b""  # the beginning of what was sent
    time: float = 0.0

    def clock(self) -> float:
        return self.time

    def connection(self) -> Wire:
        return Wire(self)

    def asked(self, request: str) -> Iterator[Piece]:
        self.requests.append(request)
        assert len(self.requests) <= MOST_REQUESTS, "the client asks without end"
        return iter(self.answer(request.partition("\r\n")[0]))


class Wire:
    """The socket of a connection, as far as the client uses one."""

    def __init__(self, server: HostileServer) -> None:
        self._server = server
        self._request = b""
        self._answer: Iterator[Piece] | None = None
        self._left = b""

    def send(self, data: memoryview) -> int:
        self._request += bytes(data[: 64 << 10])
        self._answer = None
        return min(len(data), 64 << 10)

    def recv_into(self, buffer: memoryview) -> int:
        if self._answer is None:
            self._answer = self._server.asked(self._request.decode("latin-1"))
            self._request = b""
        while not self._left:
            piece = next(self._answer, None)
            if piece is None:
                return 0
            seconds, self._left = piece if isinstance(piece, tuple) else (0.0, piece)
            self._server.time += seconds
        given, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(given)] = given
        self._server.sent += len(given)
        self._server.told = (self._server.told + given)[:300]
        assert self._server.sent <= MOST_BYTES, "the client reads without end"
        return len(given)

    def close(self) -> None:
        self._answer = iter(())

    def shutdown(self, how: int) -> None:
        self.close()


# --- what S3 would answer ------------------------------------------------------------------


def head(status: str = "200 OK", **headers: object) -> bytes:
    """A status line and headers (``_`` in a name is ``-``); None leaves one out."""
    lines = [f"{k.replace('_', '-')}: {v}" for k, v in headers.items() if v is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def answer(body: bytes, status: str = "200 OK", **headers: object) -> list[Piece]:
    fields = {"date": DATE, "etag": ETAG, "last_modified": DATE, "content_length": len(body)}
    return [head(status, **{**fields, **headers}) + body]


_CONTENTS = "<Key>p/k</Key><Size>1</Size><LastModified>2026-11-12T00:00:00Z</LastModified>"
_UPLOAD = "<Key>p/k</Key><UploadId>u</UploadId><Initiated>2026-11-12T00:00:00Z</Initiated>"
_PART = '<PartNumber>1</PartNumber><Size>5</Size><ETag>"a"</ETag>'
BODIES = {
    "GET list-type": f"<ListBucketResult><Contents>{_CONTENTS}</Contents></ListBucketResult>",
    "GET uploads": (
        f"<ListMultipartUploadsResult><Upload>{_UPLOAD}</Upload></ListMultipartUploadsResult>"
    ),
    "GET parts": f"<ListPartsResult><Part>{_PART}</Part></ListPartsResult>",
    "POST uploads": (
        "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    ),
    "POST uploadId": (
        "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
    ),
    "POST delete": "<DeleteResult></DeleteResult>",
}


def asked(request: str) -> str:
    """Which of BODIES is the right one; "GET" for an object's content, else the method."""
    method, _, target = request.partition(" ")
    if method == "GET" and "uploadId=" in target:
        return "GET parts"
    for name in BODIES:
        if name.startswith(f"{method} ") and name.partition(" ")[2] in target:
            return name
    return method


def honest(request: str) -> list[Piece]:
    """What S3 would say."""
    name = asked(request)
    if name in BODIES:
        return answer(BODIES[name].encode())
    if name == "GET":
        return answer(b"0123456789", content_range="bytes 0-9/10")
    return answer(b"") if name != "HEAD" else [head(content_length=10, etag=ETAG)]


# --- what a hostile one does ---------------------------------------------------------------


def _endless(piece: bytes) -> Iterator[bytes]:
    return repeat(piece)


def _always(pieces: Answer) -> Callable[[str], Answer]:
    kept = pieces if isinstance(pieces, (list, repeat)) else list(pieces)
    return lambda _: kept


def _noise(rng: random.Random, most: int = 40) -> bytes:
    return rng.randbytes(rng.randint(1, most))


def status_lines(rng: random.Random) -> Callable[[str], Answer]:
    first = rng.choice(
        [
            b"HTTP/2 200 OK", b"HTTP/1.1 099 x", b"HTTP/1.1 000 x", b"HTTP/1.1 600 x",
            b"HTTP/1.1 20", b"HTTP/1.1 2000 x", b"HTTP/1.1 \xb2\xb3\xb9 x", b"HTTP/1.1 +20 x",
            b"HTTP/1.1 -20 x", b"HTTP/1.x 200 OK", b"http/1.1 200 OK", b"HTTP/1.1  200 OK", b"",
            b"HTTP/1.1 200\nOK", b"SSH-2.0-OpenSSH_9.6", b"\x16\x03\x01", b"ICY 200 OK",
            b"\0" + _noise(rng), b"HTTP/1.1 " + _noise(rng, 3).hex().encode()[:2] + b" x",
        ]
    )  # fmt: skip
    rest = b"\r\ncontent-length: 0\r\n\r\n"
    interim = b"HTTP/1.1 1%02d x\r\n\r\n" % rng.choice([0, rng.randint(0, 99)])
    kind = rng.randrange(4)
    if kind == 0:
        return lambda _: _endless(interim * rng.randint(1, 50))
    if kind == 1:
        return lambda _: _endless(rng.choice([b"x", b"HTTP/1.1 ", b"\r", b"\0"]) * 4096)
    return _always([interim * rng.randint(0, 3) + first + rest])


def headers(rng: random.Random) -> Callable[[str], Answer]:
    bad = rng.choice(
        [
            b"no colon here", b": no name", b"name with space: x", b"folded: a\r\n b", b"tab\t: x",
            b"etag: a\nb", b"etag: a\rb", b"etag: a\0b", b"etag: \x1b[2J", b"x\x80: y",
            b"content-length: 0\r\ncontent-length: 7", b"content-length : 0",
            b"etag: %s" % bytes([rng.choice([*range(9), *range(10, 32), 127])]) + b"x",
        ]
    )  # fmt: skip
    if rng.random() < 0.2:
        line = b"x-%d: %s\r\n" % (rng.randrange(9), b"y" * rng.randint(1, 2000))
        return lambda _: (piece for piece in [b"HTTP/1.1 200 OK\r\n", *repeat(line, 100_000)])
    return _always([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + bad + b"\r\n\r\n"])


NO_NUMBERS = ["-1", "-9" * 3, "+5", "0x10", "1e3", "1_0", "", " ", "1,1", "1.0", "NaN", "inf",
              "9" * 5000, "9" * 19, "\xb2", "ten", "1 1", "0b1", "None", "1;", "--1"]  # fmt: skip


def lengths(rng: random.Random) -> Callable[[str], Answer]:
    """Lengths that are none, and bodies that are longer or shorter than any that make sense."""
    if rng.random() < 0.6:
        stated = rng.choice(NO_NUMBERS)
        return _always([head(etag=ETAG, content_length=stated) + _noise(rng)])
    fields: list[dict[str, object]] = [
        {"content_length": 10**17},
        {"transfer_encoding": rng.choice(["gzip", "gzip, chunked", "identity", "chunked,chunked"])},
        {"transfer_encoding": "chunked", "content_length": 10},
        {},  # until the connection is closed, which it never is
    ]
    chosen, piece = rng.choice(fields), rng.choice([b"x", b"<a>", b" "]) * (64 << 10)
    whole = {"content_range": "bytes 0-9/10", **chosen}
    return lambda _: (p for p in [head(etag=ETAG, **whole), *repeat(piece, 2000)])


def chunks(rng: random.Random) -> Callable[[str], Answer]:
    size = rng.choice(
        [b"-1", b"-ff", b"+1", b"0x1", b"g", b"", b" 1", b"1 1", b"1_0", b"f" * 17, b"\xb2", b"-0",
         b"1\n", b"\0001", b";x", b"x;1"]
    )  # fmt: skip
    begin = head(etag=ETAG, transfer_encoding="chunked", content_range="bytes 0-9/10")
    kinds: list[Callable[[], Answer]] = [
        lambda: [begin + size + b"\r\nx\r\n0\r\n\r\n"],
        lambda: [begin + b"1\r\nx\r\n" + size + b"\r\n\r\n"],
        lambda: [begin + b"1\r\nxx\r\n0\r\n\r\n"],
        lambda: [begin + b"5\r\n01234x\r\n0\r\n\r\n"],
        lambda: [begin + b"a\r\n01234"],
        lambda: [begin, *repeat(b"1;" + b"e" * 1000 + b"\r\nx\r\n", 70_000)],
        lambda: [begin + b"1;", *repeat(b"e" * 4096, 30_000)],
        lambda: [begin + b"0\r\n", *repeat(b"t: u\r\n" * 1000, 20_000)],
        lambda: [begin + b"fffffffffffffff\r\n", *repeat(b"y" * (64 << 10), 2000)],
    ]
    if rng.random() < 0.01:  # takes a while, although not long
        return lambda _: (p for p in [begin, *repeat(b"1\r\nx\r\n" * 4096, 6000)])
    make = rng.choice(kinds[:2] if rng.random() < 0.5 else kinds)
    return lambda _: make()


def _page(name: str, inside: str) -> bytes:
    root = BODIES[name][1:].partition(">")[0]
    return f"<{root}>{inside}</{root}>".encode()


def documents(rng: random.Random) -> Callable[[str], Answer]:
    """Bodies that are no XML of S3's, whatever was asked."""
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 9))
    tail = rng.choice(["", "\0", "]]>", "&#0;", "<", "</x>", "&nbsp;"])
    made: list[Callable[[str], bytes]] = [
        lambda name: b"<html><body>Sign in</body></html>",
        lambda name: b"",
        lambda name: _noise(rng, 2000),
        lambda name: f'{{"a": [{"[" * 9999}'.encode(),
        lambda name: _page(name, "")[: -rng.randint(1, 9)],
        lambda name: BODIES[name].encode() + (tail or "<").encode(),
        lambda name: f'<!DOCTYPE x [<!ENTITY a "p/k">]>{BODIES[name]}'.encode(),
        lambda name: f'<!DOCTYPE x [<!ENTITY e0 "y">{bomb}]>{BODIES[name]}'.encode(),
        lambda name: f'<!DOCTYPE x SYSTEM "file:///etc/passwd">{BODIES[name]}'.encode(),
        lambda name: f'<?xml version="1.0" encoding="UTF-16"?>{BODIES[name]}'.encode("utf-16"),
        lambda name: f'<?xml version="1.0" encoding="rot13"?>{BODIES[name]}'.encode(),
        lambda name: f'<?xml version="1.0" encoding="\u20ac"?>{BODIES[name]}'.encode(),
        lambda name: b"<a>" * rng.choice([1000, 250_000, 1_300_000]),
        lambda name: _page(name, "<a/>" * rng.randint(250_000, 900_000)),
        lambda name: f"<x:{BODIES[name][1:]}".encode(),
        lambda name: b"<Error><Code>\x1b[2J" + b"x" * 9999 + b"</Code></Error>",
    ]
    make = rng.choice(made)
    return lambda request: answer(make(asked(request))) if asked(request) in BODIES else []


def entries(rng: random.Random) -> Callable[[str], Answer]:
    """Listings of the right shape with entries that make no sense."""
    number = rng.choice([n for n in NO_NUMBERS if n.strip() == n and "\xb2" not in n] + ["\u0663"])
    moment = rng.choice(["yesterday", "2026", "9999-99-99T00:00:00Z", "-1", "\u0662\u0660"])
    outside = rng.choice(["", "q/k", "/p/k", "../p/k", "P/k", "p"])
    wrong = {
        "GET list-type": [
            _CONTENTS.replace("<Size>1", f"<Size>{number}"),
            _CONTENTS.replace("2026-11-12T00:00:00Z", moment),
            _CONTENTS.replace("p/k", outside),
            _CONTENTS.replace("Size>", "Sice>"),
            _CONTENTS.replace("Key>", "Kay>"),
            _CONTENTS.replace("LastModified>", "Never>"),
            "<Key><b>p/k</b></Key>",
            "",
        ],
        "GET uploads": [
            _UPLOAD.replace("2026-11-12T00:00:00Z", moment),
            _UPLOAD.replace("p/k", outside),
            _UPLOAD.replace("<UploadId>u", "<UploadId>"),
            "",
        ],
        "GET parts": [
            _PART.replace("<Size>5", f"<Size>{number}"),
            _PART.replace("<PartNumber>1", f"<PartNumber>{number}"),
            _PART.replace("<PartNumber>1", f"<PartNumber>{rng.choice([0, 10_001, 10**12])}"),
            _PART + "<ChecksumSHA256>!</ChecksumSHA256>",
            _PART + "<ChecksumSHA256>abc</ChecksumSHA256>",
            f"{_PART}</Part><Part>{_PART}",
            "",
        ],
    }
    tags = {"GET list-type": "Contents", "GET uploads": "Upload", "GET parts": "Part"}
    chosen = {name: rng.choice(inside) for name, inside in wrong.items()}

    def said(request: str) -> Answer:
        name = asked(request)
        return answer(_page(name, f"<{tags[name]}>{chosen[name]}</{tags[name]}>"))

    return said


def circles(rng: random.Random) -> Callable[[str], Answer]:
    """Listings that never come to an end, and say nothing new."""
    period, fresh = rng.randint(1, 60), count()
    empty = rng.random() < 0.3
    tokens: Iterator[object] = fresh if empty else cycle(range(1, period + 1))
    none = rng.random() < 0.1
    entry = {
        "GET list-type": "" if empty else f"<Contents>{_CONTENTS}</Contents>",
        "GET uploads": f"<Upload>{_UPLOAD}</Upload>",
        "GET parts": f"<Part>{_PART}</Part>",
    }
    names = {
        "GET list-type": ["NextContinuationToken"],
        "GET uploads": ["NextKeyMarker", "NextUploadIdMarker"],
        "GET parts": ["NextPartNumberMarker"],
    }

    def said(request: str) -> Answer:
        name = asked(request)
        token = "" if none or (empty and name != "GET list-type") else next(tokens)
        further = "".join(f"<{each}>{token}</{each}>" for each in names[name])
        return answer(_page(name, f"<IsTruncated>true</IsTruncated>{further}{entry[name]}"))

    return said


def objects(rng: random.Random) -> Callable[[str], Answer]:
    """Heads of objects whose values make no sense, for HeadObject and GetObject."""
    number = rng.choice(NO_NUMBERS)
    ranged = rng.choice(
        ["bytes 0-10/10", "bytes 9-0/10", "bytes 0-9/*", "bytes */10", "0-9/10",
         f"bytes 0-9/{number}", f"bytes {number}-9/10", "bytes=0-9/10", "bytes 0-9", "", "x"]
    )  # fmt: skip
    fields: list[dict[str, object]] = [
        {"content_range": ranged},
        {"content_length": number},
        {"content_length": None},
        {"content_length": None, "x_amz_mp_parts_count": 3},
        {"x_amz_checksum_sha256": rng.choice(["!", "a", "abc", "a===", "AAAA=AAA", "a-b", "\xe9"])},
        {"x_amz_checksum_crc32": rng.choice(["%", "=", "abcde", "-1", "AAAA-x"])},
    ]
    chosen = rng.choice(fields)
    return lambda _: answer(b"0123456789", **chosen)


def ranges(rng: random.Random) -> Callable[[str], Answer]:
    """Other bytes than bytes 2 to 5 of 10 that were asked for, of another object perhaps."""
    body = b"x" * rng.choice([0, 1, 3, 5, 9, 4 << 10])
    stated = rng.choice(
        ["bytes 0-3/10", "bytes 2-9/10", "bytes 3-6/10", "bytes 1-5/10", "bytes 2-5/5", None]
        + ["bytes 2-5/10"] * 3
    )
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    sizes = cycle([10, 11, 12]) if len(body) == 1 else cycle([10])

    def said(_: str) -> Answer:
        span = stated and stated.replace("/10", f"/{next(sizes)}")
        return answer(
            chunked, content_range=span, content_length=None, transfer_encoding="chunked",
            etag=rng.choice([None, ETAG]),
        )  # fmt: skip

    return said


def errors(rng: random.Random) -> Callable[[str], Answer]:
    """Refusals that never end, and say what should not be repeated."""
    code = rng.choice(
        ["SlowDown", "InternalError", "RequestTimeTooSkewed", "AccessDenied", "ExpiredToken",
         "\x9b2J", "a b", "<b>", "\u202e", "x" * 5000, "", "PermanentRedirect", "301", "NoSuchKey"]
    )  # fmt: skip
    status = rng.choice([301, 302, 304, 307, 308, 400, 403, 404, 409, 412, 429, 500, 503, 599])
    regions = cycle(
        rng.sample(["eu-west-1", "us-east-1", "evil.example/", "x\x7fy"[:1], "a" * 300], 3)
    )
    moments = cycle(
        rng.sample([DATE, "Thu, 01 Jan 0000 00:00:00 GMT", "Thu, 99 Jan 9999 99:99:99 GMT", "x"], 3)
    )
    length = rng.choice([0, 100, 100_000])
    escaped = code.replace("&", "&amp;").replace("<", "&lt;").replace("\x9b", "&#x9b;")
    body = (
        f"<Error><Code>{escaped}</Code><Message>{'m' * length}</Message></Error>".encode()
        if rng.random() < 0.8
        else _noise(rng, 3000)
    )

    def said(_: str) -> Answer:
        fields = {"x_amz_bucket_region": next(regions), "location": "http://169.254.169.254/"}
        return answer(body, f"{status} \xe9", date=next(moments), **fields)

    return said


def drips(rng: random.Random) -> Callable[[str], Answer]:
    """Honest beginnings of an answer, a byte at a time, just before the client would give up."""
    seconds, cut = rng.uniform(5, 59), rng.randint(0, 300)

    def said(request: str) -> Iterator[Piece]:
        begin = head(etag=ETAG, content_length=10**6, content_range="bytes 0-999999/1000000")
        begun = b"HTTP/1.1 200 OK\r\nx: " if asked(request) == "HEAD" else begin[:cut]
        filler = b" " if begun.endswith(b"\r\n\r\n") else b"y"
        yield begun or b"H"
        yield from repeat((seconds, filler), 100_000)

    return said


def mutations(rng: random.Random) -> Callable[[str], Answer]:
    """What S3 would say, changed in a few places: may be understood, and must do no harm."""

    def said(request: str) -> Answer:
        whole = bytearray(b"".join(p for p in honest(request) if isinstance(p, bytes)))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(whole) + 1)
            until = min(len(whole), at + rng.randint(0, 30))
            new = rng.choice([b"", _noise(rng, 4), bytes(whole[at:until]) * 3, b"\r\n", b"<", b"9"])
            whole[at:until] = new
        return [bytes(whole)]

    return said
