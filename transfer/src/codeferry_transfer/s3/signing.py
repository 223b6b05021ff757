"""Signature Version 4, with the key of the day kept.

Deriving the key takes four HMACs, more than all the rest of a small request; it changes with
the credentials, the day and the region. Source: "Signature Version 4 signing process",
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Keys(NamedTuple):
    """Credentials at one moment; ``token`` is empty for those without a session."""

    access_key: str
    secret_key: str
    token: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature is good for."""

    region: str
    service: str = "s3"


def encoded_path(key: str) -> str:
    """A key as it stands in a request's path: everything but unreserved characters and ``/``."""
    return quote(key, safe="/~", errors="surrogateescape")


def encoded_query(query: Mapping[str, str]) -> str:
    """The canonical query string, which is also the one sent."""
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed(
    method: str,
    path: str,
    query: str,
    headers: dict[str, str],
    payload_sha256: str,
    keys: Keys,
    scope: Scope,
    now: float,
) -> dict[str, str]:
    """``headers`` with what authenticates the request at ``now`` (seconds since 1970).

    ``headers`` have lower-case names and hold ``host``; all of them are signed, so what may
    be changed on the way does not belong there. ``path`` and ``query`` are encoded.
    """
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    complete = headers | {"x-amz-content-sha256": payload_sha256, "x-amz-date": date}
    if keys.token:
        complete["x-amz-security-token"] = keys.token
    names = sorted(complete)
    listed = ";".join(names)
    lines = "".join(f"{name}:{_trimmed(complete[name])}\n" for name in names)
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{payload_sha256}"
    credential = f"{date[:8]}/{scope.region}/{scope.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.digest(
        _signing_key(keys.secret_key, date[:8], scope),
        f"{_ALGORITHM}\n{date}\n{credential}\n{digest}".encode(),
        "sha256",
    ).hex()
    complete["authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{credential}, "
        f"SignedHeaders={listed}, Signature={signature}"
    )
    return complete


def _trimmed(value: str) -> str:
    """Runs of spaces count as one."""
    return " ".join(value.split()) if "  " in value or value[:1] == " " else value


@lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, scope: Scope) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
