"""S3 where environment variables alone say who asks and where it is: without botocore.

To import botocore and to find everything through it takes as long as carrying some hundred
small files. Keys in the environment come first in its chain unless a profile is named; so
where they are and nothing else says anything there is nothing to ask it. What is not known to
be without meaning here is left to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codeferry_transfer.s3.address import (
    DEFAULT_REGION,
    UNDERSTOOD_VARIABLES,
    Address,
    address_of,
    endpoint_of,
    has_own_models,
    usual_url,
)
from codeferry_transfer.s3.signing import Keys, Scope

if TYPE_CHECKING:
    from boto3.session import Session


@dataclass(frozen=True)
class EnvironmentCredentials:
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
        from codeferry_transfer.s3.botocore_credentials import BotocoreCredentials

        return BotocoreCredentials(self.session(), self.endpoint_url).address(bucket, region)


def from_environment(
    environment: Mapping[str, str],
    session: Callable[[], Session],
    *,
    region: str = "",
    endpoint_url: str | None = None,
) -> EnvironmentCredentials | None:
    """What the variables say, if they say all of it; None when botocore has to be asked.

    ``region`` and ``endpoint_url`` are those asked for, which count before the variables.
    Not to be used when a profile is asked for: its keys count before those of the environment.
    """
    access_key = environment.get("AWS_ACCESS_KEY_ID")
    secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key or not _is_all(environment):
        return None
    return EnvironmentCredentials(
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


def _is_all(environment: Mapping[str, str]) -> bool:
    named = {name for name in environment if name.startswith("AWS_")}
    return (
        sys.platform == "linux"  # elsewhere the system may know of proxies
        and named <= UNDERSTOOD_VARIABLES
        and not any(name.lower().endswith("_proxy") for name in environment)
        and _says_nothing(environment.get("AWS_CONFIG_FILE", "~/.aws/config"))
        and _says_nothing(environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
        and not has_own_models()
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
