"""Streams cut into parts, and S3's errors in words."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from codeferry_transfer import AccessDenied, CredentialsUnusable, TransferError
from codeferry_transfer.parts import MOST_PARTS, SMALLEST_PART, cut, part_size_of
from codeferry_transfer.s3.botocore_credentials import translated


@given(st.lists(st.binary(max_size=40)), st.integers(1, 20))
def test_cutting_keeps_every_byte(chunks: list[bytes], size: int) -> None:
    """The parts are the stream; all but the last are full; there is always one."""
    parts = list(cut(chunks, size))
    assert b"".join(parts) == b"".join(chunks)
    assert all(len(part) == size for part in parts[:-1])
    assert len(parts) >= 1
    assert len(parts) == 1 or 0 < len(parts[-1]) <= size


def test_ten_thousand_parts_hold_the_largest_object() -> None:
    """Even from S3's smallest part size the parts allowed reach 5 TiB, none above 5 GiB."""
    sizes = [part_size_of(number, SMALLEST_PART) for number in range(1, MOST_PARTS + 1)]
    assert sum(sizes) >= 5 << 40
    assert max(sizes) <= 5 << 30


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDenied", AccessDenied),
        ("ExpiredToken", CredentialsUnusable),
        ("InvalidAccessKeyId", CredentialsUnusable),
        ("Whatever", TransferError),
    ],
)
def test_answers_become_errors_with_code_and_hint(code: str, error: type[TransferError]) -> None:
    """S3's code decides the error; its message, which may hold anything, is not repeated."""
    answer = ClientError({"Error": {"Code": code, "Message": "X-Amz-Signature=abc"}}, "UploadPart")
    with pytest.raises(error) as caught, translated("bucket", "key"):
        raise answer
    assert caught.value.hint
    assert "Signature=abc" not in str(caught.value)
