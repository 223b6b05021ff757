"""The archive as an object in S3."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zipfile
from typing import Any

import pytest

from codeferry_contracts.errors import ArchiveInvalid
from codeferry_contracts.request import Archive
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import ArchiveMissing, ArchiveUnfit
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.releases import archives
from codeferry_lambdas.runs.record import PinnedArchive, Unpacked
from tests.unit.lambdas.factories import ENTRIES, KEY, packed_archive, plain_archive

LIMIT = 1 << 30


def put(body: bytes, **more: Any) -> str:
    answer = clients.s3().put_object(Bucket="codeferry-dev-artifacts", Key=KEY, Body=body, **more)
    return answer["VersionId"]


def pinned(settings: Settings, archive: Archive, limit: int = LIMIT) -> PinnedArchive:
    found = archives.find_archive(settings.bucket, archive)
    return archives.pin(settings.bucket, archive, found, limit)


def test_pins_the_newest_version(settings: Settings) -> None:
    """Without a version the newest is taken and pinned, with size and SHA-256."""
    put(b"old")
    version = put(b"new one", ChecksumAlgorithm="SHA256")
    found = pinned(settings, Archive(KEY))
    assert found == PinnedArchive(KEY, version, 7, hashlib.sha256(b"new one").hexdigest())


def test_takes_the_version_asked_for(settings: Settings) -> None:
    """A request for an older version gets that one."""
    version = put(b"old")
    put(b"newer")
    assert pinned(settings, Archive(KEY, version_id=version)).size == 3


def test_reads_the_hash_when_nobody_knows_it(settings: Settings) -> None:
    """Without a SHA-256 in the request or on the object the bytes are read."""
    put(b"bytes", ChecksumAlgorithm="CRC32")
    assert pinned(settings, Archive(KEY)).sha256 == hashlib.sha256(b"bytes").hexdigest()


def test_requests_hash_is_trusted_without_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When only the request has a SHA-256 it is taken: the instance will check it."""
    put(b"bytes", ChecksumAlgorithm="CRC32")
    monkeypatch.setattr(archives, "read_sha256", None)
    assert pinned(settings, Archive(KEY, sha256="a" * 64)).sha256 == "a" * 64


def test_mismatch(settings: Settings) -> None:
    """An object with another SHA-256 than the request's is refused."""
    put(b"bytes", ChecksumAlgorithm="SHA256")
    with pytest.raises(ArchiveUnfit) as raised:
        pinned(settings, Archive(KEY, sha256="a" * 64))
    assert raised.value.code == "archive_mismatch"


@pytest.mark.parametrize(
    ("body", "code"), [(b"", "archive_empty"), (b"x" * 9, "archive_too_large")]
)
def test_sizes(settings: Settings, body: bytes, code: str) -> None:
    """Empty and too large archives are refused."""
    put(body)
    with pytest.raises(ArchiveUnfit) as raised:
        pinned(settings, Archive(KEY), limit=8)
    assert raised.value.code == code


@pytest.mark.parametrize("archive", [Archive("inbox/a/b.tar.gz"), Archive(KEY, version_id="nope")])
def test_missing(settings: Settings, archive: Archive) -> None:
    """A missing key or version is named, with what to do."""
    put(b"there")
    with pytest.raises(ArchiveMissing) as raised:
        archives.find_archive(settings.bucket, archive)
    assert archive.key in raised.value.message
    assert "upload it again" in raised.value.hint


def test_composite_checksum_is_no_hash() -> None:
    """A multipart object's SHA-256 is a checksum of checksums and is not taken for one."""
    whole = archives._whole_sha256
    assert whole({"ChecksumSHA256": "AAAA-3"}) == ""
    assert whole({"ChecksumSHA256": "AAAA", "ChecksumType": "COMPOSITE"}) == ""
    assert whole({"ChecksumSHA256": "AQID", "ChecksumType": "FULL_OBJECT"}) == "010203"


def test_manifest(settings: Settings) -> None:
    """The manifest is read from the tail of an archive of ours."""
    put(packed_archive("demo"))
    manifest = archives.read_manifest(settings.bucket, pinned(settings, Archive(KEY)))
    assert manifest is not None
    assert manifest.summary.project == "demo"
    assert manifest.entries == ENTRIES


def test_manifest_from_a_server_that_ignores_range(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers a ranged GET with the whole object is read to the right place."""
    put(packed_archive("demo"))
    archive, client = pinned(settings, Archive(KEY)), clients.s3()
    get = client.get_object
    # The parameter has boto3's spelling.
    monkeypatch.setattr(client, "get_object", lambda Range, **rest: get(**rest))  # noqa: N803
    monkeypatch.setattr(archives, "_READ_BYTES", 10)
    manifest = archives.read_manifest(settings.bucket, archive)
    assert manifest is not None
    assert manifest.entries == ENTRIES


@pytest.mark.parametrize(
    "body",
    [plain_archive(), gzip.compress(bytes(10240)), gzip.compress(b"")],
    ids=["gnu", "empty tar", "nothing"],
)
def test_foreign_archive_has_none(settings: Settings, body: bytes) -> None:
    """An archive GNU tar made has no manifest, and one without a member neither."""
    put(body)
    assert archives.read_manifest(settings.bucket, pinned(settings, Archive(KEY))) is None


def zipped() -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w") as file:
        file.writestr("train.py", b"x" * 5000)
    return made.getvalue()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (lzma.compress(gzip.decompress(plain_archive())), "compressed with xz"),
        (bytes.fromhex("28b52ffd240061"), "compressed with Zstandard"),
        (bz2.compress(gzip.decompress(plain_archive())), "compressed with bzip2"),
        (zipped(), "a zip file"),
        (gzip.decompress(plain_archive()), "a plain tar"),
        (b"x", "no gzip file"),
        (gzip.compress(b"a,b,c\n" * 1000), "a gzip file that holds no tar"),
    ],
    ids=["xz", "zstd", "bzip2", "zip", "tar", "tiny", "csv.gz"],
)
def test_what_is_no_tar_in_gzip_is_called_what_it_is(
    settings: Settings, body: bytes, says: str
) -> None:
    """Whatever it is named, it is refused before anything is sent, with how to make one."""
    put(body)
    with pytest.raises(ArchiveUnfit, match=says) as raised:
        archives.read_manifest(settings.bucket, pinned(settings, Archive(KEY)))
    assert (raised.value.code, "tar -czf" in raised.value.hint) == ("archive_format", True)


def test_a_manifest_announces_what_comes_out(settings: Settings) -> None:
    """The bytes of its files; the files, their directories, and what describes them."""
    put(packed_archive("demo"))
    archive = pinned(settings, Archive(KEY))
    manifest = archives.read_manifest(settings.bucket, archive)
    assert archives.unpacked(Archive(KEY), archive, manifest) == Unpacked(8, 2 + 1 + 3)
    enough = Archive(KEY, unpacked_bytes=8, unpacked_files=3)
    assert archives.unpacked(enough, archive, manifest) == Unpacked(8, 2 + 1 + 3)
    for less, says in (
        (Archive(KEY, unpacked_bytes=7), "holds 8 bytes; the request allows 7"),
        (Archive(KEY, unpacked_files=2), "holds 3 files and directories; the request allows 2"),
    ):
        with pytest.raises(ArchiveUnfit, match=says):
            archives.unpacked(less, archive, manifest)


def test_without_a_manifest_the_request_announces_it() -> None:
    """A bound that is generous where it says nothing, and grows with the archive."""
    small, large = (PinnedArchive(KEY, "null", size, "") for size in (1000, 1 << 30))
    assert archives.unpacked(Archive(KEY), small, None) == Unpacked(8 << 30, 250_000)
    assert archives.unpacked(Archive(KEY), large, None) == Unpacked(200 << 30, 250_000)
    asked = Archive(KEY, unpacked_bytes=1 << 40, unpacked_files=10**6)
    assert archives.unpacked(asked, small, None) == Unpacked(1 << 40, 10**6)


@pytest.mark.parametrize("limit", ["MANIFEST_LIMIT", "MOST_FILES"])
def test_more_files_than_a_run_can_carry(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Too long a manifest is refused in words, with how many files there may be."""
    put(packed_archive("demo"))
    monkeypatch.setattr(archives.layout, limit, 1)
    with pytest.raises(ArchiveUnfit, match="lists more files than a run can carry"):
        archives.read_manifest(settings.bucket, pinned(settings, Archive(KEY)))


def test_lying_footer(settings: Settings) -> None:
    """A footer that points beyond the archive is refused, not followed."""
    whole = packed_archive()
    put(whole[-60:])
    with pytest.raises(ArchiveInvalid):
        archives.read_manifest(settings.bucket, pinned(settings, Archive(KEY)))
