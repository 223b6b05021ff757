"""A server that means harm: every answer ends in a named error, after so much and no more."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from codeferry_transfer.download import LargeDownload
from codeferry_transfer.errors import AnswerInvalid, ConnectionFailed, TransferError
from codeferry_transfer.parts import MOST_PARTS, part_count
from codeferry_transfer.s3 import S3, EnvironmentCredentials, Head, Keys, SentPart, http, retry
from codeferry_transfer.s3.address import Origin
from codeferry_transfer.s3.http import Connection
from tests.unit.transfer.s3 import hostile
from tests.unit.transfer.s3.hostile import HostileServer, Make, answer, honest

ATTEMPTS = 3
ANSWERS = 250

Operation = Callable[[S3], Any]


def nothing(piece: memoryview) -> None:
    pass


PARTS = [SentPart(1, 5, '"a"', None)]
LISTINGS: dict[str, Operation] = {
    "list_objects": lambda s3: list(s3.list_objects("bucket", "p/")),
    "list_uploads": lambda s3: list(s3.list_multipart_uploads("bucket", "p/")),
    "list_parts": lambda s3: list(s3.list_parts("bucket", "k", "u")),
}
DOCUMENTS: dict[str, Operation] = {
    **LISTINGS,
    "create": lambda s3: s3.create_multipart("bucket", "k"),
    "complete": lambda s3: s3.complete_multipart("bucket", "k", "u", PARTS),
    "delete": lambda s3: s3.delete_objects("bucket", ["a", "b"]),
}
DOWNLOADS: dict[str, Operation] = {"get": lambda s3: s3.get_object("bucket", "k", nothing)}
BODIES: dict[str, Operation] = {
    **DOCUMENTS,
    **DOWNLOADS,
    "put": lambda s3: s3.put_object("bucket", "k", b"x" * 200_000),
    "put_new": lambda s3: s3.put_object("bucket", "k", b"x", if_none_match=True),
    "upload_part": lambda s3: s3.upload_part("bucket", "k", "u", 1, b"x"),
    "abort": lambda s3: s3.abort_multipart("bucket", "k", "u"),
}
HEADS: dict[str, Operation] = {"head": lambda s3: s3.head_object("bucket", "k")}
RANGES: dict[str, Operation] = {
    "range": lambda s3: s3.get_object("bucket", "k", nothing, first=2, last=5)
}
EVERYTHING = {**BODIES, **HEADS, **RANGES}

CLASSES: dict[Make, dict[str, Operation]] = {
    hostile.status_lines: EVERYTHING,
    hostile.headers: EVERYTHING,
    hostile.lengths: BODIES,
    hostile.chunks: BODIES,
    hostile.documents: DOCUMENTS,
    hostile.entries: LISTINGS,
    hostile.circles: LISTINGS,
    hostile.objects: {**HEADS, **DOWNLOADS},
    hostile.ranges: RANGES,
    hostile.errors: EVERYTHING,
    hostile.drips: EVERYTHING,
}

Serve = Callable[[Callable[[str], hostile.Answer]], tuple[S3, HostileServer]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """``serve(answer)``: a client, and the server that answers it."""

    def start(said: Callable[[str], hostile.Answer]) -> tuple[S3, HostileServer]:
        server = HostileServer(said)

        def opened(*_: object) -> Connection:
            return Connection(server.connection(), clock=server.clock)  # type: ignore[arg-type]

        monkeypatch.setattr(Connection, "open", opened)
        return S3(of_nobody, attempts=ATTEMPTS), server

    def no_session() -> Any:
        raise AssertionError("what a server says is no reason to ask botocore")

    of_nobody = EnvironmentCredentials(
        Keys("id", "secret", ""), "eu-west-1", no_session, "http://localhost:1"
    )
    monkeypatch.setattr(retry, "delay", lambda attempt: 0.0)
    return start


def failure(operation: Operation, s3: S3) -> TransferError | None:
    """What it ends in; None when it does what it should. Raises what is no TransferError."""
    try:
        operation(s3)
    except TransferError as error:
        return error
    return None


def is_named(error: TransferError) -> bool:
    """Whether it says in one harmless line what is wrong, and programs can tell it."""
    fits = str(error).isprintable() and len(str(error)) < 600
    return fits and type(error) is not TransferError and error.code != TransferError.code


@pytest.mark.parametrize(
    ("make", "operations"), CLASSES.items(), ids=[make.__name__ for make in CLASSES]
)
def test_every_hostile_answer_ends_in_a_named_error(
    serve: Serve, make: Make, operations: dict[str, Operation]
) -> None:
    """Hundreds of each class, to every operation that reads such an answer; the server counts
    what is read and asked, and ends what goes beyond."""
    rng = random.Random(make.__name__)
    for number in range(ANSWERS):
        name = rng.choice(sorted(operations))
        s3, server = serve(make(rng))
        error = failure(operations[name], s3)
        assert error is not None, (number, name, server.told)
        assert is_named(error), (number, name, error)


def test_what_is_changed_on_its_way_does_no_harm(serve: Serve) -> None:
    """It may still make sense; else it is a named error, and never a crash."""
    rng, understood = random.Random(7), 0
    for number in range(2 * ANSWERS):
        name = rng.choice(sorted(EVERYTHING))
        s3, _ = serve(hostile.mutations(rng))
        error = failure(EVERYTHING[name], s3)
        assert error is None or is_named(error), (number, name, error)
        understood += error is None
    assert 0 < understood < ANSWERS


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_honest_answer_is_understood(serve: Serve, name: str) -> None:
    """The server's idea of S3 is right, so what is refused is refused for what was changed."""

    def said(request: str) -> hostile.Answer:
        if name == "range":
            return answer(b"2345", "206 Partial Content", content_range="bytes 2-5/10")
        return honest(request)

    s3, server = serve(said)
    EVERYTHING[name](s3)
    assert len(server.requests) == 1


def test_a_slow_completion_is_waited_for(serve: Serve) -> None:
    """S3 sends spaces for minutes while it puts the parts together."""
    body = hostile.BODIES["POST uploadId"].encode()
    spaces = [(20.0, b" ")] * 40

    def said(_: str) -> hostile.Answer:
        return [hostile.head(content_length=len(body) + len(spaces)), *spaces, body]

    s3, server = serve(said)
    assert s3.complete_multipart("bucket", "k", "u", PARTS).etag == "e"
    assert server.time == 800


def test_a_large_object_may_take_its_time(serve: Serve) -> None:
    """Who gives more than 1,000 bytes in a second is not too slow, however long it takes."""
    size, piece = 20 << 20, 8192
    pieces = [(8.0, b"x" * piece)] * (size // piece)
    s3, server = serve(lambda _: [hostile.head(content_length=size), *pieces])
    assert s3.get_object("bucket", "k", nothing).size == size
    assert server.time > 20_000


def test_who_takes_a_byte_a_minute_is_too_slow(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending has an end as well."""

    def send(wire: hostile.Wire, data: memoryview) -> int:
        server.time += 59
        return 1

    monkeypatch.setattr(hostile.Wire, "send", send)
    s3, server = serve(honest)
    with pytest.raises(ConnectionFailed, match="too slow"):
        s3.put_object("bucket", "k", b"x" * 1000)


def test_an_object_of_a_hundred_quadrillion_parts_is_none(serve: Serve) -> None:
    """No list is made of the parts of an object that says it has more than S3 allows."""
    size = 10**17
    fields = {"x_amz_mp_parts_count": size, "content_range": f"bytes 0-0/{size}"}
    s3, _ = serve(lambda _: [hostile.head(etag=hostile.ETAG, content_length=1, **fields)])
    stated = Head(size, hostile.ETAG, 0.0, {"sha256": f"AAAA-{size}"})
    download = LargeDownload(s3, "bucket", "k", Mock(), "k", Mock(), Mock())
    part, composite = download._cut(stated)
    assert part_count(size, part) <= MOST_PARTS
    assert composite == ""


def test_a_proxy_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says to CONNECT has to be there within the time of getting connected, in all."""

    def received(size: int) -> bytes:
        server.time += 9
        return b"H"

    server = HostileServer(honest)
    proxy = Mock(recv=received)
    monkeypatch.setattr(http.time, "monotonic", server.clock)
    monkeypatch.setattr(http.socket, "create_connection", lambda *_: proxy)
    origin = Origin(secure=True, host="s3.example", port=443, proxy="http://proxy.example")
    with pytest.raises(ConnectionFailed, match="proxy"):
        http.connect(origin, Mock())
    assert server.time < 2 * http.CONNECT_SECONDS
    proxy.close.assert_called_once()


def test_bytes_behind_an_answer_are_not_the_next_one(serve: Serve) -> None:
    """What nobody has asked for is not taken for the answer to the next question."""
    smuggled = b"".join(answer(b"", etag='"smuggled"'))  # type: ignore[arg-type]
    s3, _ = serve(lambda request: [b"".join(honest(request)) + smuggled])  # type: ignore[arg-type]
    for _ in range(2):
        assert s3.put_object("bucket", "k", b"x").etag == hostile.ETAG


def test_a_line_end_in_pieces_ends_a_chunk(serve: Serve) -> None:
    """However the network cuts it, what is right is understood."""
    body = hostile.BODIES["POST delete"].encode()
    head = hostile.head(transfer_encoding="chunked")
    whole = head + b"%x;ext=1\r\n%s\r\n0\r\ntrailer: x\r\n\r\n" % (len(body), body)
    s3, _ = serve(lambda _: [bytes([each]) for each in whole])
    assert s3.delete_objects("bucket", ["a"]) == []


def test_an_etag_cannot_bring_a_header_of_its_own(serve: Serve) -> None:
    """What a listing says is sent back in If-Match, and stays one line."""
    s3, server = serve(honest)
    with pytest.raises(AnswerInvalid):
        s3.get_object("bucket", "k", nothing, if_match='"a"\r\nx-amz-acl: public-read')
    assert server.requests == []


def test_an_uploads_marker_is_sent_as_it_is(serve: Serve) -> None:
    """A page in which keys are spelled as in URLs spells its marker so too."""
    pages = iter(["<IsTruncated>true</IsTruncated><NextKeyMarker>p/a%20b</NextKeyMarker>", ""])

    def said(_: str) -> hostile.Answer:
        inside = "<EncodingType>url</EncodingType>" + next(pages)
        root = "ListMultipartUploadsResult"
        return answer(f"<{root}>{inside}</{root}>".encode())

    s3, server = serve(said)
    assert list(s3.list_multipart_uploads("bucket", "p/")) == []
    assert "key-marker=p%2Fa%20b&" in server.requests[1]
