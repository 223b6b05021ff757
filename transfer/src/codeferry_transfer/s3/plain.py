"""S3 where environment variables alone say who asks and where it is: without botocore.

To import botocore and to find everything through it takes as long as carrying some hundred
small files. Keys in the environment come first in its chain unless a profile is named; so
where they are and nothing else says anything there is nothing to ask it. What is not known to
be without meaning here is left to it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codeferry_transfer.s3.address import Address, address_of, usual_url
from codeferry_transfer.s3.signing import Keys, Scope

if TYPE_CHECKING:
    from boto3.session import Session

DEFAULT_REGION = "us-east-1"

# What says nothing of keys nor of where S3 is, or is dealt with here.
_UNDERSTOOD = {
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


@dataclass(frozen=True)
class Plain:
    """Keys that don't change, and where S3 is; see ``address.Source``.

    ``region`` empty is boto3's default. ``session`` is made for what only botocore knows.
    """

    given: Keys
    region: str
    session: Callable[[], Session]
    endpoint_url: str | None = None
    ca_file: str | None = None

    def keys(self) -> Keys:
        return self.given

    def authorities(self) -> str | None:
        return self.ca_file

    def address(self, bucket: str, region: str | None) -> Address:
        region = region or self.region or DEFAULT_REGION
        url = usual_url(bucket, region, self.endpoint_url)
        found = address_of(url, Scope(region), {}) if url else None
        if found:
            return found
        from codeferry_transfer.s3.configured import Configured

        return Configured(self.session(), self.endpoint_url).address(bucket, region)


def from_environment(
    environment: Mapping[str, str],
    session: Callable[[], Session],
    *,
    region: str = "",
    endpoint_url: str | None = None,
) -> Plain | None:
    """What the variables say, if they say all of it; None when botocore has to be asked.

    ``region`` and ``endpoint_url`` are those asked for, which count before the variables.
    Not to be used when a profile is asked for: its keys count before those of the environment.
    """
    access_key = environment.get("AWS_ACCESS_KEY_ID")
    secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key or not _is_all(environment):
        return None
    return Plain(
        Keys(access_key, secret_key, environment.get("AWS_SESSION_TOKEN", "")),
        region or region_of(environment) or "",
        session,
        endpoint_url or endpoint_of(environment),
        environment.get("AWS_CA_BUNDLE") or None,
    )


def region_of(environment: Mapping[str, str]) -> str | None:
    """The region that the variables name: AWS_REGION, then AWS_DEFAULT_REGION, which is all that
    boto3 reads (AWS SDKs and Tools Reference Guide, "AWS Region": the former is the SDKs')."""
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """The endpoint that the variables name for S3."""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None


def addresses_are_usual(environment: Mapping[str, str], profile: Mapping[str, object]) -> bool:
    """Whether neither variables nor the settings of the profile say where S3 is, but for
    region and endpoint."""
    named = {name for name in environment if name.startswith("AWS_")}
    return named <= _UNDERSTOOD | _OF_KEYS and profile.keys() <= _SETTINGS and not _has_models()


def _is_all(environment: Mapping[str, str]) -> bool:
    named = {name for name in environment if name.startswith("AWS_")}
    return (
        sys.platform == "linux"  # elsewhere the system may know of proxies
        and named <= _UNDERSTOOD
        and not any(name.lower().endswith("_proxy") for name in environment)
        and _says_nothing(environment.get("AWS_CONFIG_FILE", "~/.aws/config"))
        and _says_nothing(environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
        and not _has_models()
    )


def _says_nothing(file: str) -> bool:
    """Whether it is not there, or empty."""
    try:
        with open(os.path.expanduser(os.path.expandvars(file)), "rb") as opened:  # noqa: PTH111, PTH123 - as botocore does it
            return not opened.read(1)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _has_models() -> bool:
    """Whether the user gives botocore other rules than it brings."""
    return Path("~/.aws/models").expanduser().exists()
