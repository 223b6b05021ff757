"""Every operation against a real server, and through a proxy that fails."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from codeferry_transfer.errors import (
    AccessDenied,
    BucketMissing,
    ConnectionFailed,
    Corrupted,
    CredentialsUnusable,
    Halted,
    ObjectMissing,
    PreconditionFailed,
    Throttled,
    TransferError,
    UploadRefused,
)
from codeferry_transfer.s3 import S3, FileRange, composite_sha256
from tests.proxy.rules import Action, Cut, Drop, Hold, Reset, Rule, Status, Truncate
from tests.proxy.server import FaultProxy

MIB = 1 << 20
Through = Callable[..., tuple[S3, FaultProxy]]

KEYS = ["plain", "a b+c%20&d=e?f#g", "ü/é/日本", "x/../y", "a//b", "'\"<>&\\", "line\nend", "t\x01"]


def got(s3: S3, bucket: str, key: str, **asked: Any) -> bytes:
    pieces: list[bytes] = []
    s3.get_object(bucket, key, lambda piece: pieces.append(bytes(piece)), **asked)
    return b"".join(pieces)


@pytest.mark.parametrize("key", KEYS)
def test_every_legal_key_makes_the_round_trip(s3: S3, client: Any, bucket: str, key: str) -> None:
    """A key of any characters is stored, found, listed and deleted as it is."""
    s3.put_object(bucket, key, b"content")
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == key
    assert [found.key for page in s3.list_objects(bucket) for found in page.objects] == [key]
    assert got(s3, bucket, key) == b"content"
    assert s3.delete_objects(bucket, [key]) == []
    with pytest.raises(ObjectMissing):
        s3.head_object(bucket, key)


def test_a_key_that_xml_cannot_say_does_not_keep_the_others_from_being_deleted(
    through: Through, client: Any, bucket: str
) -> None:
    """It is deleted by a request of its own; when that is refused, it is named."""
    s3, _ = through(Rule(Status(403, "AccessDenied"), method="DELETE", path="%1F"))
    keys = ["a", "t\x01", "u\x1f", "\ufffe", "z"]
    for key in keys:
        s3.put_object(bucket, key, b"")
    assert [each.key for each in s3.delete_objects(bucket, keys)] == ["u\x1f"]
    assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["u\x1f"]


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_stored_is_what_was_sent_and_its_checksum(
    s3: S3, client: Any, bucket: str, size: int
) -> None:
    """S3 keeps the bytes, their SHA-256, the metadata and the type."""
    content = os.urandom(size)
    stored = s3.put_object(bucket, "k", content, metadata={"Note": "x"}, content_type="text/csv")
    head = s3.head_object(bucket, "k")
    assert head.sha256 == stored.sha256 == hashlib.sha256(content).digest()
    assert (head.size, head.metadata, head.version_id) == (size, {"note": "x"}, stored.version_id)
    assert client.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/csv"
    assert got(s3, bucket, "k") == content


def test_a_range_of_a_file_is_sent_without_moving_its_position(
    s3: S3, bucket: str, tmp_path: Any
) -> None:
    """FileRange reads at its offset, whatever others do with the descriptor."""
    (tmp_path / "f").write_bytes(b"0123456789")
    with (tmp_path / "f").open("rb") as file:
        file.read(1)
        s3.put_object(bucket, "k", FileRange(file.fileno(), 3, 4))
        assert file.read() == b"123456789"
    assert got(s3, bucket, "k") == b"3456"


def test_if_none_match_keeps_what_is_there(s3: S3, bucket: str) -> None:
    """Another content is refused; the same is what a retry finds, and stored."""
    s3.put_object(bucket, "k", b"first", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        s3.put_object(bucket, "k", b"second", if_none_match=True)
    s3.put_object(bucket, "k", b"first", if_none_match=True)
    assert got(s3, bucket, "k") == b"first"


def test_a_multipart_upload_from_begin_to_end(s3: S3, bucket: str) -> None:
    """Parts are listed with their checksums; the object has the checksum made of them."""
    upload = s3.create_multipart(bucket, "dir/k")
    bodies = [os.urandom(5 * MIB), os.urandom(3)]
    parts = [s3.upload_part(bucket, "dir/k", upload, n, b) for n, b in enumerate(bodies, 1)]
    assert list(s3.list_parts(bucket, "dir/k", upload)) == parts
    assert [u.upload_id for u in s3.list_multipart_uploads(bucket, "dir/")] == [upload]
    s3.complete_multipart(bucket, "dir/k", upload, parts)
    head = s3.head_object(bucket, "dir/k")
    assert head.checksums["sha256"] == composite_sha256(parts)
    assert head.sha256 is None
    assert got(s3, bucket, "dir/k") == b"".join(bodies)
    s3.abort_multipart(bucket, "dir/k", upload)
    assert list(s3.list_multipart_uploads(bucket)) == []


def test_listings_are_complete_and_in_order(s3: S3, bucket: str, ministack: str) -> None:
    """More objects than a page holds are all listed; a directory is only its own."""
    names = sorted([f"data/{number:04}" for number in range(1005)] + ["data2/x", "data.txt"])
    threads = [
        threading.Thread(
            target=lambda part=names[n::8]: [s3.put_object(bucket, k, b"") for k in part]
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pages = list(s3.list_objects(bucket))
    assert [len(page.objects) for page in pages] == [1000, 7]
    assert [found.key for page in pages for found in page.objects] == names
    below = [found.key for page in s3.list_objects(bucket, "data/") for found in page.objects]
    assert len(below) == 1005
    level = [page.prefixes for page in s3.list_objects(bucket, delimiter="/")]
    assert level == [["data/", "data2/"]]
    assert s3.delete_objects(bucket, names) == []
    assert [page.objects for page in s3.list_objects(bucket)] == [[]]


@pytest.mark.parametrize(
    "action", [Reset(), Cut(), Status(503), Status(500, "InternalError"), Drop()], ids=repr
)
def test_a_put_is_made_again(client: Any, bucket: str, through: Through, action: Action) -> None:
    """A reset, a SlowDown, a server's error or a lost answer costs one more request."""
    s3, proxy = through(Rule(action, method="PUT"))
    s3.put_object(bucket, "k", b"content")
    assert [request.method for request in proxy.seen] == ["PUT", "PUT"]
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"content"


@pytest.mark.parametrize("orderly", [True, False])
def test_a_truncated_answer_is_taken_up_where_it_ended(
    s3: S3, bucket: str, through: Through, orderly: bool
) -> None:
    """A body that ends early is continued by a range of the same object, no byte twice."""
    content = os.urandom(600_000)
    s3.put_object(bucket, "k", content)
    behind, proxy = through(Rule(Truncate(200_000, orderly), method="GET"))
    assert got(behind, bucket, "k") == content
    assert len(proxy.seen) == 2


def test_an_object_replaced_in_the_middle_is_noticed(s3: S3, bucket: str, through: Through) -> None:
    """What follows a broken answer is of the same object, or it is an error."""
    s3.put_object(bucket, "k", os.urandom(600_000))
    behind, _ = through(Rule(Truncate(200_000), method="GET"))
    pieces: list[bytes] = []

    def sink(piece: memoryview) -> None:
        if not pieces:
            s3.put_object(bucket, "k", os.urandom(600_000))
        pieces.append(bytes(piece))

    with pytest.raises(PreconditionFailed):
        behind.get_object(bucket, "k", sink)


def test_ranges_are_of_the_object_that_was_meant(s3: S3, bucket: str) -> None:
    """If-Match holds a range to its object."""
    stored = s3.put_object(bucket, "k", b"0123456789")
    assert got(s3, bucket, "k", first=2, last=4, if_match=stored.etag) == b"234"
    assert got(s3, bucket, "k", first=8) == b"89"
    s3.put_object(bucket, "k", b"abcdefghij")
    with pytest.raises(PreconditionFailed):
        got(s3, bucket, "k", first=2, last=4, if_match=stored.etag)


def test_bytes_that_S3_keeps_another_checksum_of_are_refused(  # noqa: N802 - S3 is its name
    s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that does not have the object's checksum is Corrupted."""
    s3.put_object(bucket, "k", b"content")
    honest = hashlib.sha256

    def falsified(*content: bytes) -> Any:
        digest = honest(*content)
        digest.update(b"!")
        return digest

    monkeypatch.setattr("codeferry_transfer.s3.checksums.hashlib.sha256", falsified)
    with pytest.raises(Corrupted):
        got(s3, bucket, "k")


def test_a_body_changed_on_its_way_is_refused_by_the_server(
    s3: S3, client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 compares what comes with the checksum that came along, and stores nothing else."""
    from codeferry_transfer.s3.http import Connection

    send = Connection._send
    monkeypatch.setattr(
        Connection, "_send", lambda self, head, body: send(self, head, body.replace(b"c", b"k"))
    )
    failing = S3(boto3.Session(), endpoint_url=client.meta.endpoint_url, attempts=2)
    with pytest.raises(UploadRefused, match=r"BadDigest|Mismatch|Checksum"):
        failing.put_object(bucket, "k", b"content")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_lost_answer_to_completion_is_resolved_by_looking(
    s3: S3, bucket: str, through: Through
) -> None:
    """When only the answer is lost, the object made of the parts is the answer."""
    behind, _ = through(Rule(Drop(), method="POST", path="uploadId="))
    upload = s3.create_multipart(bucket, "k")
    part = s3.upload_part(bucket, "k", upload, 1, b"content")
    stored = behind.complete_multipart(bucket, "k", upload, [part])
    assert stored.version_id == s3.head_object(bucket, "k").version_id


def test_completion_with_a_part_missing_is_an_error(s3: S3, bucket: str) -> None:
    """A part that S3 does not have makes no object, even with an older one under the key."""
    s3.put_object(bucket, "k", b"older..")
    upload = s3.create_multipart(bucket, "k")
    part = s3.upload_part(bucket, "k", upload, 1, b"content")
    other = s3.create_multipart(bucket, "k")
    with pytest.raises(TransferError):
        s3.complete_multipart(bucket, "k", other, [part])
    assert got(s3, bucket, "k") == b"older.."


def test_an_error_behind_a_good_status_is_an_error(
    s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CompleteMultipartUpload may answer 200 and then say it failed: it is asked again."""
    from codeferry_transfer.s3.client import LateError

    upload = s3.create_multipart(bucket, "k")
    part = s3.upload_part(bucket, "k", upload, 1, b"content")
    answers = [b"<Error><Code>InternalError</Code></Error>"]
    end = LateError.end

    def once_failed(self: LateError) -> None:
        if answers:
            self.content = answers.pop()
        end(self)

    monkeypatch.setattr(LateError, "end", once_failed)
    s3.complete_multipart(bucket, "k", upload, [part])
    assert not answers
    assert got(s3, bucket, "k") == b"content"


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("AccessDenied", 403, AccessDenied),
        ("ExpiredToken", 400, CredentialsUnusable),
        ("SlowDown", 503, Throttled),
        ("NoSuchBucket", 404, BucketMissing),
        ("Whatever", 400, UploadRefused),
    ],
)
def test_refusals_are_told_apart(
    bucket: str, through: Through, code: str, status: int, error: type[TransferError]
) -> None:
    """S3's code decides the error, which names the object and nothing of the request."""
    s3, _ = through(Rule(Status(status, code), times=9), attempts=2)
    with pytest.raises(error) as caught:
        s3.put_object(bucket, "k", b"")
    assert "http" not in str(caught.value)
    assert "Signature=" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_after_every_attempt() -> None:
    """Nobody listening is ConnectionFailed, not a traceback."""
    s3 = S3(boto3.Session(), endpoint_url="http://127.0.0.1:9", attempts=2)
    with pytest.raises(ConnectionFailed, match="refused"):
        s3.head_object("bucket", "k")


def test_halt_ends_what_is_going_on_until_it_is_resumed(bucket: str, through: Through) -> None:
    """A request that hangs raises Halted at once, and every other until it is resumed."""
    s3, proxy = through(Rule(Hold(), method="GET"))
    s3.put_object(bucket, "k", b"content")
    raised: list[BaseException] = []

    def hang() -> None:
        try:
            got(s3, bucket, "k")
        except TransferError as error:
            raised.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    proxy.book.wait_for(lambda seen: any(request.method == "GET" for request in seen))
    s3.halt()
    thread.join(30)
    assert [type(error) for error in raised] == [Halted]
    with pytest.raises(Halted):
        s3.head_object(bucket, "k")
    s3.resume()
    assert s3.head_object(bucket, "k").size == 7


def test_a_connection_the_server_closed_meanwhile_costs_no_attempt(
    bucket: str, through: Through
) -> None:
    """An idle connection that is gone is replaced, even when there is only one attempt."""
    s3, proxy = through(attempts=2)
    s3.put_object(bucket, "k", b"1")
    for idle in s3._exchanges._pool._idle.values():
        for connection in idle:
            connection.shut()
    s3.put_object(bucket, "k", b"2")
    assert len([request for request in proxy.seen if request.method == "PUT"]) == 2


def test_owner_and_payer_go_with_every_request(
    ministack: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account that must own the bucket, and who pays, are signed into the head."""
    from codeferry_transfer.s3.http import Connection

    heads: list[bytes] = []
    send = Connection._send

    def record(self: Connection, head: bytes, body: bytes) -> None:
        heads.append(head)
        send(self, head, body)

    monkeypatch.setattr(Connection, "_send", record)
    s3 = S3(
        boto3.Session(), endpoint_url=ministack, expected_owner="000000000000", request_payer=True
    )
    s3.put_object(bucket, "k", b"")
    head = heads[0].decode()
    assert "x-amz-expected-bucket-owner: 000000000000" in head
    assert "x-amz-request-payer: requester" in head
    signed = head.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"x-amz-expected-bucket-owner", "x-amz-request-payer"} <= set(signed)
