"""Where a bucket's requests go, and which addresses need nobody to be asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from codeferry_transfer.s3.signing import Keys, Scope

PORTS = {"http": 80, "https": 443}

# Names without a dot, which every certificate covers, and without "--", which marks
# directory buckets and access point aliases.
_BUCKET = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-[0-9]")  # of the partition "aws"
_GLOBAL = "us-east-1"  # boto3 still uses its old endpoint, unless it is told otherwise
_AWS = ("amazonaws.com", "amazonaws.com.cn", "api.aws")


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: what a connection is made to; ``proxy`` is the URL of one on the way, or empty."""

    secure: bool
    host: str
    port: int
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket: its server, the Host header, the path before the key, and who signs for it."""

    origin: Origin
    host_header: str
    base: str
    scope: Scope


class Source(Protocol):
    """Who asks, and what is known of where S3 is."""

    def keys(self) -> Keys:
        """The credentials as they are now. Raises CredentialsUnusable."""

    def address(self, bucket: str, region: str | None) -> Address:
        """The bucket's, in ``region`` or the source's own. Raises TransferError."""

    def authorities(self) -> str | None:
        """The file of the authorities to trust; None is the system's own."""


class AddressBook:
    """The addresses of buckets, each asked for once per region."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: dict[str, Address] = {}
        self._asking = threading.Lock()

    def address(self, bucket: str) -> Address:
        """Raises TransferError when the bucket's name or the configuration makes no sense."""
        known = self._known.get(bucket)
        if known is None:
            with self._asking:  # asking may take long, and no session bears two at once
                known = self._known.get(bucket) or self._source.address(bucket, None)
                self._known[bucket] = known
        return known

    def moved(self, bucket: str, region: str) -> None:
        """From now on the bucket is one of ``region``."""
        with self._asking:
            self._known[bucket] = self._source.address(bucket, region)


def address_of(url: str, scope: Scope, proxies: Mapping[str, str]) -> Address | None:
    """The address that a bucket's URL is; None when it names no host.

    ``proxies`` are URLs by scheme. Raises ValueError for a port that is none.
    """
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in PORTS:
        return None
    proxy = proxies.get(parts.scheme, "")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy.removeprefix('//')}"
    port = parts.port or PORTS[parts.scheme]
    origin = Origin(parts.scheme == "https", parts.hostname, port, proxy)
    return Address(origin, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), scope)


def usual_url(bucket: str, region: str, endpoint_url: str | None) -> str | None:
    """The URL of a bucket with a usual name, where no setting says anything of addresses.

    None for all that only botocore knows: access points, other partitions, old endpoints.
    Source: "Virtual hosting of buckets", S3 user guide; of another endpoint than AWS's
    botocore addresses buckets by path.
    """
    if not _BUCKET.fullmatch(bucket):
        return None
    if endpoint_url:
        parts = urlsplit(endpoint_url)
        ours = parts.hostname is not None and not parts.hostname.endswith(_AWS)
        bare = parts.path in ("", "/") and not parts.query and not parts.username
        return f"{parts.scheme}://{parts.netloc}/{bucket}" if ours and bare else None
    if not _REGION.fullmatch(region):
        return None
    return f"https://{bucket}.s3{'' if region == _GLOBAL else f'.{region}'}.amazonaws.com"
