"""Every store keeps to the one contract: the directory and S3 (a real server)."""

from __future__ import annotations

import hashlib
import uuid
from base64 import b64encode
from pathlib import Path

import boto3
import pytest

from codeferry_agent.drain.upload import ExistingObject, Occupied, S3Store, Store
from codeferry_transfer.errors import BucketMissing
from codeferry_transfer.s3 import S3
from codeferry_transfer.s3.checksums import composite_checksum
from tests.unit.agent.drain.directory_store import DirectoryStore
from tests.unit.agent.drain.sink import Sink

PART = 5 << 20  # the smallest S3 takes, but for the last


@pytest.fixture
def bucket() -> str:
    return f"results-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> Store:
    if request.param == "directory":
        (tmp_path / bucket).mkdir()
        return DirectoryStore(tmp_path)
    endpoint = request.getfixturevalue("ministack")
    session = boto3.Session("test", "test", region_name="us-east-1")
    session.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    client = S3(session, endpoint_url=endpoint, expected_owner="000000000000", attempts=2)
    return S3Store(lambda _: client)


def sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


@pytest.mark.parametrize("key", ["plain", "a/b c|d\n'e\"-\u00e4%2F"], ids=["plain", "odd"])
@pytest.mark.parametrize("body", [b"content", b""], ids=["some", "empty"])
def test_what_is_put_is_kept(store: Store, bucket: str, key: str, body: bytes) -> None:
    """A body is kept with its size and SHA-256, under any key."""
    store.put(bucket, key, body, replace=False)
    assert store.kept(bucket, key) == ExistingObject(len(body), b64encode(sha256(body)).decode())


def test_nothing_is_kept_under_a_new_key(store: Store, bucket: str) -> None:
    """A key nobody has used keeps nothing."""
    assert store.kept(bucket, "nothing") is None


def test_s3_says_whether_it_keeps_versions(bucket: str, ministack: str) -> None:
    """What lies in a bucket without versions is gone when another object takes its place."""
    session = boto3.Session("test", "test", region_name="us-east-1")
    s3 = session.client("s3", endpoint_url=ministack)
    s3.create_bucket(Bucket=bucket)
    store = S3Store(lambda _: S3(session, endpoint_url=ministack, attempts=2))
    said = []
    for status in ("", "Enabled", "Suspended"):
        if status:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        said.append(store.put(bucket, "key", status.encode(), replace=True))
        upload = store.begin(bucket, "large")
        part = store.part(bucket, "large", upload, 1, b"part")
        said.append(store.complete(bucket, "large", upload, [part]))
    assert said == [False, False, True, True, False, False]


@pytest.mark.parametrize(("version", "stays"), [("", False), ("null", False), ("3sL4k", True)])
def test_a_null_version_is_none(sink: Sink, version: str, stays: bool) -> None:
    """Where versioning is suspended S3 calls the one version there is "null"."""
    sink.version = version
    session = boto3.Session("test", "test", region_name="us-east-1")
    store = S3Store(lambda _: S3(session, endpoint_url=sink.url, attempts=1))
    assert store.put("bucket", "key", b"1", replace=True) is stays


def test_an_object_is_replaced_only_on_request(store: Store, bucket: str) -> None:
    """A put that may not replace leaves other content alone; one that may replaces it."""
    store.put(bucket, "key", b"first!", replace=False)
    with pytest.raises(Occupied):
        store.put(bucket, "key", b"second", replace=False)
    store.put(bucket, "key", b"second", replace=True)
    assert store.kept(bucket, "key") == ExistingObject(6, b64encode(sha256(b"second")).decode())


def test_parts_become_an_object(store: Store, bucket: str) -> None:
    """Parts sent in any order become one object, with the checksum of their checksums."""
    bodies = [b"a" * PART, b"b" * PART, b"rest"]
    upload = store.begin(bucket, "large")
    sent = [store.part(bucket, "large", upload, n, bodies[n - 1]) for n in (3, 1, 2)]
    store.complete(bucket, "large", upload, sorted(sent, key=lambda part: part.number))
    assert store.kept(bucket, "large") == ExistingObject(
        sum(map(len, bodies)), composite_checksum([sha256(body) for body in bodies])
    )


def test_an_aborted_upload_leaves_nothing(store: Store, bucket: str) -> None:
    """Aborting is possible before and after the end, and leaves no object."""
    upload = store.begin(bucket, "large")
    store.part(bucket, "large", upload, 1, b"rest")
    store.abort(bucket, "large", upload)
    store.abort(bucket, "large", upload)
    assert store.kept(bucket, "large") is None


def test_a_missing_bucket_has_a_name(store: Store, bucket: str) -> None:
    """A bucket that is not there is told from any other error."""
    with pytest.raises(BucketMissing):
        store.put("no-" + bucket, "key", b"content", replace=False)


@pytest.mark.parametrize("way", ["one request", "parts"])
def test_an_object_says_what_it_is(ministack: str, bucket: str, way: str) -> None:
    """By its key, as everything else that is uploaded."""
    session = boto3.Session("test", "test", region_name="us-east-1")
    client = session.client("s3", endpoint_url=ministack)
    client.create_bucket(Bucket=bucket)
    store = S3Store(lambda _: S3(session, endpoint_url=ministack))
    if way == "parts":
        upload = store.begin(bucket, "x.csv.gz")
        part = store.part(bucket, "x.csv.gz", upload, 1, b"1")
        store.complete(bucket, "x.csv.gz", upload, [part])
    else:
        store.put(bucket, "x.csv.gz", b"1", replace=False)
    assert client.head_object(Bucket=bucket, Key="x.csv.gz")["ContentType"] == "application/gzip"
