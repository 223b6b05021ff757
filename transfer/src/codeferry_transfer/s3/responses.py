"""Read the headers of S3's responses, and error responses: their code, and whether to try again."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from functools import lru_cache

from codeferry_transfer.errors import THROTTLING
from codeferry_transfer.s3 import xml
from codeferry_transfer.s3.http import ResponseHead
from codeferry_transfer.s3.values import Head, Stored, whole_number
from codeferry_transfer.s3.xml import reading

_CHECKSUM = "x-amz-checksum-"
_METADATA = "x-amz-meta-"
_MD5 = re.compile(r'"([0-9a-f]{32})"')
_64 = "[A-Za-z0-9+/]"
_CHECKSUM_VALUE = re.compile(f"(?!-)(?:{_64}{{4}})*(?:{_64}{{2}}==|{_64}{{3}}=)?(?:-[0-9]{{1,5}})?")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_UNENCRYPTED = ("", "AES256")  # with KMS or a customer's key the ETag is no MD5


@reading
def head_of(answer: ResponseHead) -> Head:
    """The object that GetObject or HeadObject answered with. Raises AnswerInvalid."""
    headers = answer.headers
    checksums, metadata = {}, {}
    for name, value in headers.items():
        if name.startswith(_CHECKSUM) and name != "x-amz-checksum-type":
            checksums[name[len(_CHECKSUM) :]] = _checksum(value)
        elif name.startswith(_METADATA):
            metadata[name[len(_METADATA) :]] = value
    return Head(
        span_of(answer)[2],
        headers.get("etag", ""),
        moment_of(headers.get("last-modified", "")),
        checksums,
        headers.get("x-amz-version-id"),
        metadata,
        _md5_of(headers),
        whole_number(headers["content-length"]) if "x-amz-mp-parts-count" in headers else None,
    )


@reading
def span_of(answer: ResponseHead) -> tuple[int, int, int]:
    """Where the answer's bytes begin, where they end (exclusive), and of how many they are."""
    ranged = answer.headers.get("content-range")
    if ranged is None:
        size = whole_number(answer.headers["content-length"])
        return 0, size, size
    found = _RANGE.fullmatch(ranged)
    if found is None:
        raise ValueError("not a range")
    first, last, size = map(int, found.groups())
    if not first <= last < size:
        raise ValueError("not within the object")
    return first, last + 1, size


def _checksum(stated: str) -> str:
    if not _CHECKSUM_VALUE.fullmatch(stated):
        raise ValueError("not base64")
    return stated


def stored_of(answer: ResponseHead, sha256: bytes | None) -> Stored:
    return Stored(answer.headers.get("etag", ""), answer.headers.get("x-amz-version-id"), sha256)


def _md5_of(headers: dict[str, str]) -> bytes | None:
    found = _MD5.fullmatch(headers.get("etag", ""))
    encryption = headers.get("x-amz-server-side-encryption", "")
    own_key = "x-amz-server-side-encryption-customer-algorithm" in headers
    if not found or own_key or encryption not in _UNENCRYPTED:
        return None
    return bytes.fromhex(found.group(1))


# By hand, because email.utils takes longer to import than a small transfer, and to parse
# longer than the rest of the head.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"..., (\d\d) (...) ([1-9]\d{3}) (\d\d):(\d\d):(\d\d) GMT")


@lru_cache(maxsize=64)
def moment_of(http_date: str) -> float:
    """Seconds since 1970 of HTTP's date (RFC 9110, IMF-fixdate); 0 when it is none."""
    found = _DATE.fullmatch(http_date)
    if found is None or found[2] not in _MONTHS:
        return 0.0
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    return float(timegm((year, _MONTHS.index(found[2]) + 1, day, hour, minute, second)))


# Worth another attempt although the status is not 5xx. A digest that does not fit is a body
# changed on its way, since what was hashed is what was sent.
_PASSING = {
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
# What S3 says of itself; anything else is not repeated, neither in messages nor to AWS.
_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_ELSEWHERE = (301, 307, 400, 403)


class ErrorResponse(Exception):
    """S3's error answer; ``region`` is where it says the bucket is, ``date`` its own clock."""

    def __init__(self, status: int, code: str, region: str = "", date: str = "") -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.region = region
        self.date = date

    @property
    def throttled(self) -> bool:
        return self.status in (429, 503) or self.code in THROTTLING

    @property
    def passing(self) -> bool:
        """Whether the same request may be answered otherwise a little later."""
        return self.status >= 500 or self.throttled or self.code in _PASSING


def error_response(answer: ResponseHead, body: bytes) -> ErrorResponse:
    """The error in an answer; the status alone is its code where, as to HEAD, no body came."""
    said = xml.error(body)
    code = code_of(said) or str(answer.status)
    region = answer.headers.get("x-amz-bucket-region") or said.get("Region", "")
    if answer.status not in _ELSEWHERE or not _REGION.fullmatch(region):
        region = ""
    return ErrorResponse(answer.status, code, region, answer.headers.get("date", ""))


def code_of(said: Mapping[str, str]) -> str:
    """The code that an error in XML says; empty when it says none that is one."""
    code = said.get("Code", "")
    return code if _CODE.fullmatch(code) else ""
