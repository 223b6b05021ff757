"""Where a bucket's requests go, as botocore itself would send them.

Endpoints, path or virtual-host style, dual-stack, FIPS, access point ARNs and the settings
in ~/.aws/config are rules that botocore knows and that change; so it is asked, by letting it
prepare and sign one request that is caught before it leaves.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.config import Config

from codeferry_transfer.errors import TransferError, translated
from codeferry_transfer.s3.signing import Scope

if TYPE_CHECKING:
    from boto3.session import Session

_SCOPE = re.compile(r"Credential=[^,]*/\d{8}/([^/]+)/([^/]+)/aws4_request")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: what a connection is made to."""

    secure: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket: its server, the Host header, the path before the key, and who signs for it."""

    origin: Origin
    host_header: str
    base: str
    scope: Scope


class _Caught(Exception):
    """Carries botocore's request out of botocore."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


class AddressBook:
    """The addresses of buckets, each asked for once per region."""

    def __init__(self, session: Session, endpoint_url: str | None, config: Config | None) -> None:
        self._session = session
        self._endpoint_url = endpoint_url
        once = Config(retries={"total_max_attempts": 1})
        self._config = config.merge(once) if config else once
        self._known: dict[str, Address] = {}
        self._asking = threading.Lock()

    def address(self, bucket: str) -> Address:
        """Raises TransferError when the bucket's name or the configuration makes no sense."""
        known = self._known.get(bucket)
        if known is None:
            with self._asking:  # making a client takes long, and no session bears two at once
                known = self._known.get(bucket) or self._asked(bucket, None)
                self._known[bucket] = known
        return known

    def moved(self, bucket: str, region: str) -> None:
        """From now on the bucket is one of ``region``."""
        with self._asking:
            self._known[bucket] = self._asked(bucket, region)

    def _asked(self, bucket: str, region: str | None) -> Address:
        with translated(bucket, ""):
            client = self._session.client(
                "s3",
                endpoint_url=self._endpoint_url,
                config=self._config,
                region_name=region or self._session.region_name or "us-east-1",
            )
            client.meta.events.register_first("before-send.s3.HeadBucket", _catch)
            try:
                client.head_bucket(Bucket=bucket)
            except _Caught as caught:
                return _address(caught.request)
            finally:
                client.close()
        raise TransferError("botocore made no request.")


def _catch(request: Any, **_: Any) -> None:
    raise _Caught(request)


def _address(request: Any) -> Address:
    url = urlsplit(request.url)
    authorization = request.headers.get("Authorization", "")
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    scope = _SCOPE.search(authorization)
    if scope is None or url.hostname is None:
        raise TransferError(
            "Only requests signed with Signature Version 4 can be made here.",
            hint="Remove signature_version from the S3 settings of the profile.",
        )
    port = url.port or _PORTS[url.scheme]
    return Address(
        Origin(url.scheme == "https", url.hostname, port),
        url.netloc.rpartition("@")[2],
        url.path.rstrip("/"),
        Scope(*scope.groups()),
    )
