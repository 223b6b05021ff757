"""The Content-Type of an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codeferry_transfer.location import Location
from codeferry_transfer.media_type import media_type
from codeferry_transfer.s3 import S3
from codeferry_transfer.stream import upload_stream
from codeferry_transfer.transfers import Options, upload_file


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.csv", "text/csv"),
        ("x.csv.gz", "application/gzip"),
        ("X.CSV.GZ", "application/gzip"),
        ("x.tgz", "application/gzip"),
        ("x.svgz", "application/gzip"),
        ("x.tar.bz2", "application/x-bzip2"),
        ("x.tbz2", "application/x-bzip2"),
        ("x.json.xz", "application/x-xz"),
        ("x.jsonl.zst", "application/zstd"),
        ("x.js.br", "application/x-brotli"),
        ("x.txt.lz4", "application/x-lz4"),
        ("x.txt.Z", "application/x-compress"),
        ("x.zip", "application/zip"),
        ("x.tar", "application/x-tar"),
        ("d.csv/x", "application/octet-stream"),
        (".gz", "application/octet-stream"),
    ],
)
def test_what_is_compressed_says_so(name: str, kind: str) -> None:
    """Not the type of what is in it, which nobody reads without unpacking."""
    assert media_type(f"some/dir/{name}") == kind


@pytest.mark.parametrize("size", [1, 9 << 20], ids=["one request", "parts"])
def test_every_way_up_gives_the_type_and_no_encoding(
    s3_client: S3, client: Any, bucket: str, tmp_path: Path, size: int
) -> None:
    """Files and streams, in one request or in parts; clients unpack what has an encoding."""
    source = tmp_path / "x.csv.gz"
    source.write_bytes(b"1" * size)
    upload_file(s3_client, source, Location(bucket, "file.csv.gz"), Options()).run()
    upload_stream(s3_client, bucket, "stream.csv.gz", [source.read_bytes()])
    for key in ("file.csv.gz", "stream.csv.gz"):
        head = client.head_object(Bucket=bucket, Key=key)
        assert (head["ContentType"], head.get("ContentEncoding", "")) == ("application/gzip", "")
