"""Files that do not hold still while they are read, or are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codeferry_transfer.errors import FileChanged, FileUnfit
from codeferry_transfer.s3 import S3, FileRange, Head
from codeferry_transfer.summary import Summary
from codeferry_transfer.upload import open_regular, unchanged_content


def test_a_small_file_is_read_until_it_holds_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write between the two looks makes it read again; what is taken is one state."""
    file = tmp_path / "f"
    file.write_bytes(b"before")
    writes = [b"changed"]
    read = FileRange.read

    def disturbed(self: FileRange) -> bytes:
        content = read(self)
        if writes:
            file.write_bytes(writes.pop())
        return content

    monkeypatch.setattr(FileRange, "read", disturbed)
    with file.open("rb") as opened:
        assert unchanged_content("f", opened.fileno()) == b"changed"


def test_a_file_that_never_holds_still_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three times it is said, and nothing is sent."""
    file = tmp_path / "f"
    file.write_bytes(b"")
    read = FileRange.read

    def disturbed(self: FileRange) -> bytes:
        content = read(self)
        file.write_bytes(b"x" * (len(content) + 1))
        return content

    monkeypatch.setattr(FileRange, "read", disturbed)
    with file.open("rb") as opened, pytest.raises(FileChanged):
        unchanged_content("f", opened.fileno())


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_what_is_no_regular_file_is_not_read_and_does_not_block(tmp_path: Path, kind: str) -> None:
    """A pipe nobody writes to and a link are refused at once."""
    place = tmp_path / "f"
    if kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to("/etc/hostname")
    with pytest.raises((FileUnfit, OSError)):
        open_regular(str(place))


def test_a_large_file_that_changes_makes_no_object(
    s3_client: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed between its parts, the upload is aborted and the file named."""
    from codeferry_transfer.location import Location
    from codeferry_transfer.transfers import Options, upload_file

    file = tmp_path / "large"
    file.write_bytes(os.urandom(9 << 20))
    upload_part = S3.upload_part

    def disturbed(self: S3, *arguments: object) -> object:
        with file.open("ab") as more:
            more.write(b"!")
        return upload_part(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(S3, "upload_part", disturbed)
    summary: Summary = upload_file(s3_client, file, Location(bucket, "k"), Options()).run()
    assert [failure.code for failure in summary.failures] == ["file_changed"]
    assert list(s3_client.list_multipart_uploads(bucket)) == []
    assert [page.objects for page in s3_client.list_objects(bucket)] == [[]]


def test_sha256_is_only_of_whole_objects() -> None:
    """A checksum of parts is not taken for one of the content."""
    assert Head(1, "", 0, {"sha256": "AAAA-2"}).sha256 is None
