"""Places in S3 as people write them: ``s3://bucket/key``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codeferry_transfer.errors import LocationInvalid

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}")
_ACCESS_POINT = re.compile(r"arn:[^/]+?:(s3|s3-object-lambda|s3-outposts):[^/]*")
_LOOKS = "It looks like s3://bucket/path, or s3://<access point ARN>/path."


@dataclass(frozen=True)
class Location:
    """A bucket (or access point ARN) and a key or the beginning of keys, perhaps empty."""

    bucket: str
    path: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}"

    @property
    def directory(self) -> Location:
        """The same place as a directory: ``data`` is ``data/`` and never ``data2``."""
        if not self.path or self.path.endswith("/"):
            return self
        return Location(self.bucket, f"{self.path}/")

    @property
    def name(self) -> str:
        """What a file of this key is called; empty for a directory."""
        return self.path.rpartition("/")[2]

    def below(self, relative: str) -> Location:
        return Location(self.bucket, self.directory.path + relative)


def parse_location(text: str) -> Location:
    """Raises LocationInvalid, which says what a location looks like."""
    if not text.startswith("s3://"):
        raise LocationInvalid(f"{text!r} is no place in S3.", hint=_LOOKS)
    rest = text.removeprefix("s3://")
    bucket, path = _split_arn(rest) if rest.startswith("arn:") else rest.partition("/")[::2]
    if not bucket.startswith("arn:") and not _BUCKET.fullmatch(bucket):
        raise LocationInvalid(f"{bucket!r} cannot be the name of a bucket.", hint=_LOOKS)
    return Location(bucket, path)


def _split_arn(rest: str) -> tuple[str, str]:
    """``arn:…:accesspoint/name/key``, also with a colon before the name and for Outposts."""
    if not _ACCESS_POINT.match(rest):
        raise LocationInvalid(f"{rest!r} is no access point's ARN.", hint=_LOOKS)
    parts = rest.split("/")
    of_arn = 4 if ":outpost/" in rest else 2 if ":accesspoint/" in rest else 1
    return "/".join(parts[:of_arn]), "/".join(parts[of_arn:])
