"""The addresses of buckets; the usual ones without asking botocore."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from codeferry_transfer.s3.signing import Keys, Scope

PORTS = {"http": 80, "https": 443}
DEFAULT_REGION = "us-east-1"

# What says nothing of keys nor of where S3 is, or is dealt with here.
UNDERSTOOD_VARIABLES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_OUTPUT",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_EXECUTION_ENV",
    "AWS_MAX_ATTEMPTS",
    "AWS_PAGER",
    "AWS_REGION",
    "AWS_RETRY_MODE",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
}
# What says who asks, but not where S3 is.
_OF_KEYS = {
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
}
# The same of the settings of a profile.
_SETTINGS = {
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "ca_bundle",
    "credential_process",
    "credential_source",
    "duration_seconds",
    "external_id",
    "mfa_serial",
    "output",
    "region",
    "role_arn",
    "role_session_name",
    "source_profile",
    "sso_account_id",
    "sso_region",
    "sso_registration_scopes",
    "sso_role_name",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
}

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


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """The endpoint that the variables name for S3."""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None


def addresses_are_usual(environment: Mapping[str, str], profile: Mapping[str, object]) -> bool:
    """Whether neither variables nor the settings of the profile say where S3 is, but for
    region and endpoint."""
    named = {name for name in environment if name.startswith("AWS_")}
    return (
        named <= UNDERSTOOD_VARIABLES | _OF_KEYS
        and profile.keys() <= _SETTINGS
        and not has_own_models()
    )


def has_own_models() -> bool:
    """Whether the user gives botocore other rules than it brings."""
    return Path("~/.aws/models").expanduser().exists()
