"""Uploads against a real S3 server: what arrives, and what is left when they fail."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from codeferry_transfer import (
    BucketMissing,
    ConnectionFailed,
    CredentialsUnusable,
    UploadRefused,
)
from codeferry_transfer.s3 import S3
from codeferry_transfer.s3.http import Connection
from codeferry_transfer.stream import upload_stream
from tests.proxy.rules import Action, Cut, Drop, Hold, Reset, Rule, Status
from tests.proxy.server import FaultProxy

MIB = 1 << 20
PART = 5 * MIB

# What a request of a multipart upload looks like to the proxy.
A_PART: Any = {"method": "PUT", "path": "partNumber="}
COMPLETION: Any = {"method": "POST", "path": "uploadId="}


def parts_sent(proxy: FaultProxy) -> int:
    return sum("partNumber=" in request.path for request in proxy.seen)


def pieces(content: bytes, size: int = 700_001) -> Iterator[bytes]:
    return (content[i : i + size] for i in range(0, len(content), size))


def stored(client: Any, bucket: str, key: str) -> bytes:
    body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def unfinished(client: Any, bucket: str) -> list[Any]:
    uploads: list[Any] = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return uploads


def assert_nothing_left(client: Any, bucket: str) -> None:
    assert unfinished(client, bucket) == []
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("size", [0, 1, PART])
def test_small_stream_is_one_object_with_its_own_checksum(
    s3_client: S3, client: Any, bucket: str, size: int
) -> None:
    """Up to one part goes up in one request, and HEAD then shows the whole object's SHA-256."""
    content = os.urandom(size)
    done = upload_stream(
        s3_client, bucket, "k", pieces(content), part_size=PART, metadata={"project": "demo"}
    )
    head = client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (done.size, done.parts) == (size, ())
    assert head["ChecksumSHA256"] == b64encode(hashlib.sha256(content).digest()).decode()
    assert (head["VersionId"], head["Metadata"]) == (done.version_id, {"project": "demo"})
    assert stored(client, bucket, "k") == content


def test_large_stream_is_assembled_from_its_parts(s3_client: S3, client: Any, bucket: str) -> None:
    """More than a part arrives whole, in order, under the checksum of its parts."""
    content = os.urandom(3 * PART + 12_345)
    acknowledged: list[int] = []
    done = upload_stream(
        s3_client,
        bucket,
        "k",
        pieces(content),
        part_size=PART,
        progress=acknowledged.append,
        metadata={"project": "demo"},
    )
    assert stored(client, bucket, "k") == content
    assert [part.size for part in done.parts] == [PART, PART, PART, 12_345]
    assert sorted(acknowledged) == [12_345, PART, PART, PART]
    head = client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["VersionId"], head["Metadata"]) == (done.version_id, {"project": "demo"})
    assert head["ChecksumSHA256"].endswith("-4")
    assert unfinished(client, bucket) == []


def test_server_refuses_a_part_that_is_not_what_was_hashed(
    client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part whose bytes changed on the way is refused by S3 and nothing is left behind."""
    send = Connection._send

    def falsified(self: Connection, head: bytes, body: bytes) -> None:
        send(self, head, body[:-1] + bytes([body[-1] ^ 1]) if len(body) == PART else body)

    monkeypatch.setattr(Connection, "_send", falsified)
    s3 = S3(boto3.Session(), endpoint_url=client.meta.endpoint_url, attempts=2)
    with pytest.raises(UploadRefused, match=r"BadDigest|Mismatch|Checksum"):
        upload_stream(s3, bucket, "k", [os.urandom(2 * PART)], part_size=PART)
    assert_nothing_left(client, bucket)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_failing_source_aborts_the_upload(
    s3_client: S3, client: Any, bucket: str, error: type[BaseException]
) -> None:
    """An exception of the chunks, Ctrl-C included, comes back as it is; S3 keeps nothing."""

    def breaking() -> Iterator[bytes]:
        yield from pieces(os.urandom(3 * PART))
        assert unfinished(client, bucket), "the upload should have begun"
        raise error

    with pytest.raises(error):
        upload_stream(s3_client, bucket, "k", breaking(), part_size=PART)
    assert_nothing_left(client, bucket)


def test_failing_progress_aborts_the_upload(s3_client: S3, client: Any, bucket: str) -> None:
    """An exception raised by the progress callback ends the upload like any other."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload_stream(
            s3_client, bucket, "k", [os.urandom(3 * PART)], part_size=PART, progress=interrupt
        )
    assert_nothing_left(client, bucket)


def test_interrupt_does_not_wait_for_a_stuck_part(client: Any, bucket: str, faulty: Any) -> None:
    """When the source fails while a part is stuck, the upload still ends and is aborted."""
    proxy = faulty(Rule(Hold(), **A_PART))
    slow = S3(boto3.Session(), endpoint_url=proxy.url)

    def breaking() -> Iterator[bytes]:
        yield from pieces(os.urandom(3 * PART))
        proxy.book.wait_for(lambda seen: any("partNumber=" in each.path for each in seen))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload_stream(slow, bucket, "k", breaking(), part_size=PART)
    assert parts_sent(proxy) <= 2, "a part given up must not be tried again"
    assert_nothing_left(client, bucket)


@pytest.mark.parametrize("action", [Reset(), Cut(), Status(503), Drop()], ids=repr)
def test_a_failed_part_is_sent_again_alone(
    client: Any, bucket: str, faulty: Any, action: Action
) -> None:
    """A dropped connection, a SlowDown or a lost answer costs one part one more request."""
    proxy = faulty(Rule(action, **A_PART, nth=2))
    through = S3(boto3.Session(), endpoint_url=proxy.url)
    content = os.urandom(3 * PART)
    counted: list[int] = []
    done = upload_stream(
        through, bucket, "k", pieces(content), part_size=PART, progress=counted.append
    )
    assert parts_sent(proxy) == 4
    assert sum(counted) == done.size == len(content), "only acknowledged bytes count, once"
    assert stored(client, bucket, "k") == content


def test_lost_answer_to_completion_is_resolved_by_looking(
    client: Any, bucket: str, faulty: Any
) -> None:
    """When only the answer to CompleteMultipartUpload is lost the upload has succeeded."""
    proxy = faulty(Rule(Drop(), **COMPLETION))
    through = S3(boto3.Session(), endpoint_url=proxy.url)
    content = os.urandom(2 * PART)
    done = upload_stream(through, bucket, "k", pieces(content), part_size=PART)
    assert stored(client, bucket, "k") == content
    assert done.version_id == client.head_object(Bucket=bucket, Key="k")["VersionId"]
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == 1


def test_other_object_under_the_key_is_not_taken_for_ours(
    client: Any, bucket: str, faulty: Any
) -> None:
    """A completion that never happened fails although an older object of that size is there."""
    client.put_object(Bucket=bucket, Key="k", Body=bytes(2 * PART))
    proxy = faulty(Rule(Reset(), **COMPLETION, times=2))
    through = S3(boto3.Session(), endpoint_url=proxy.url, attempts=2)
    with pytest.raises(ConnectionFailed):
        upload_stream(through, bucket, "k", [os.urandom(2 * PART)], part_size=PART)
    assert stored(client, bucket, "k") == bytes(2 * PART)
    assert unfinished(client, bucket) == []


def test_missing_bucket_is_named(s3_client: S3) -> None:
    """Uploading to a bucket that is not there says which and what creates it."""
    with pytest.raises(BucketMissing, match="no-such-bucket-here") as caught:
        upload_stream(s3_client, "no-such-bucket-here", "k", [b"x"])
    assert caught.value.code == "bucket_missing"
    assert "deploy" in caught.value.hint


def test_unreachable_endpoint_is_a_failed_connection(faulty: Any) -> None:
    """When every attempt is dropped the error speaks of the connection, without any URL."""
    proxy = faulty(Rule(Reset(), method="PUT", times=2))
    through = S3(boto3.Session(), endpoint_url=proxy.url, attempts=2)
    with pytest.raises(ConnectionFailed) as caught:
        upload_stream(through, "bucket", "k", [b"x"])
    assert "http://" not in str(caught.value)
    assert "Signature" not in str(caught.value)


def test_absent_credentials_say_how_to_sign_in(
    ministack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials nothing is sent and the hint tells how to get some."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3 = S3(boto3.Session(), endpoint_url=ministack)
    with pytest.raises(CredentialsUnusable) as caught:
        upload_stream(s3, "bucket", "k", [b"x"])
    assert "sso login" in caught.value.hint
