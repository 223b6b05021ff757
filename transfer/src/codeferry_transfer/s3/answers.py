"""What the headers of S3's answers say."""

from __future__ import annotations

import re
from base64 import b64decode
from calendar import timegm
from email.utils import parsedate

from codeferry_transfer.s3.values import Head, Stored
from codeferry_transfer.s3.wire import AnswerHead

_CHECKSUM = "x-amz-checksum-"
_METADATA = "x-amz-meta-"
_MD5 = re.compile(r'"([0-9a-f]{32})"')
_UNENCRYPTED = ("", "AES256")  # with KMS or a customer's key the ETag is no MD5


def head_of(answer: AnswerHead) -> Head:
    """The object that GetObject or HeadObject answered with."""
    headers = answer.headers
    ranged = headers.get("content-range", "")  # bytes 0-9/100
    checksums, metadata = {}, {}
    for name, value in headers.items():
        if name.startswith(_CHECKSUM) and name != "x-amz-checksum-type":
            checksums[name[len(_CHECKSUM) :]] = value
        elif name.startswith(_METADATA):
            metadata[name[len(_METADATA) :]] = value
    return Head(
        int(ranged.rpartition("/")[2] if ranged else headers.get("content-length", 0)),
        headers.get("etag", ""),
        _moment(headers.get("last-modified", "")),
        checksums,
        headers.get("x-amz-version-id"),
        metadata,
        _md5_of(headers),
        int(headers["content-length"]) if "x-amz-mp-parts-count" in headers else None,
    )


def stored_of(answer: AnswerHead, sha256: bytes | None) -> Stored:
    return Stored(answer.headers.get("etag", ""), answer.headers.get("x-amz-version-id"), sha256)


def checksum_of(answer: AnswerHead) -> bytes | None:
    """The SHA-256 of the bytes sent, as S3 confirms it."""
    confirmed = answer.headers.get("x-amz-checksum-sha256")
    return b64decode(confirmed) if confirmed else None


def _md5_of(headers: dict[str, str]) -> bytes | None:
    found = _MD5.fullmatch(headers.get("etag", ""))
    encryption = headers.get("x-amz-server-side-encryption", "")
    own_key = "x-amz-server-side-encryption-customer-algorithm" in headers
    if not found or own_key or encryption not in _UNENCRYPTED:
        return None
    return bytes.fromhex(found.group(1))


def _moment(http_date: str) -> float:
    parsed = parsedate(http_date)
    return float(timegm(parsed)) if parsed else 0.0
