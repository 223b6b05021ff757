"""An answer of S3 that is an error: what it says, and whether to try again."""

from __future__ import annotations

import re
from collections.abc import Mapping

from codeferry_transfer.errors import THROTTLING
from codeferry_transfer.s3 import xml
from codeferry_transfer.s3.wire import AnswerHead

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


class Refused(Exception):
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


def refused(answer: AnswerHead, body: bytes) -> Refused:
    """The error in an answer; the status alone is its code where, as to HEAD, no body came."""
    said = xml.error(body)
    code = code_of(said) or str(answer.status)
    region = answer.headers.get("x-amz-bucket-region") or said.get("Region", "")
    if answer.status not in _ELSEWHERE or not _REGION.fullmatch(region):
        region = ""
    return Refused(answer.status, code, region, answer.headers.get("date", ""))


def code_of(said: Mapping[str, str]) -> str:
    """The code that an error in XML says; empty when it says none that is one."""
    code = said.get("Code", "")
    return code if _CODE.fullmatch(code) else ""
