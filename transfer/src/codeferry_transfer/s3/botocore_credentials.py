"""Credentials and addresses by botocore: profiles, SSO, roles, IMDSv2, endpoints, access points.

All of that are rules that change with AWS, so botocore is asked: for the credentials each
time, which it refreshes, and for an address by letting it prepare and sign one request that
is caught before it leaves. That takes a tenth of a second, most of it to read what S3 is; so
where the configuration says nothing about addresses the usual one is taken."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies

from codeferry_transfer.errors import (
    ConnectionFailed,
    TransferError,
    answer_invalid,
    no_credentials,
    refusal,
)
from codeferry_transfer.s3.address import (
    DEFAULT_REGION,
    Address,
    address_of,
    addresses_are_usual,
    endpoint_of,
    usual_url,
)
from codeferry_transfer.s3.signing import Keys, Scope

if TYPE_CHECKING:
    from boto3.session import Session

_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
)


@contextmanager
def translated(bucket: str, key: str) -> Iterator[None]:
    """Turn botocore's errors into ours, naming ``bucket`` and ``key``."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise refusal(error.operation_name, bucket, key, code) from error
    except BotoCoreError as error:
        raise _from_client(error, bucket) from error
    except (ResponseParserError, KeyError) as error:  # from STS, SSO or the metadata service
        raise answer_invalid("it was asked for credentials") from error


def _from_client(error: BotoCoreError, bucket: str) -> TransferError:
    if isinstance(error, _NO_CREDENTIALS):
        return no_credentials()
    if isinstance(error, HTTPClientError):
        return ConnectionFailed(
            f"The connection to S3 failed ({type(error).__name__}) while reaching {bucket!r}.",
            hint="Check the network, --region and AWS_ENDPOINT_URL, then try again.",
        )
    return TransferError(f"The transfer could not be made: {type(error).__name__}.")


_SCOPE = re.compile(r"Credential=[^,]*/\d{8}/([^/]+)/([^/]+)/aws4_request")


class BotocoreCredentials:
    """A session's; see ``address.Source``. Safe to use from many threads."""

    def __init__(self, session: Session, endpoint_url: str | None = None) -> None:
        self._session = session
        self._endpoint_url = endpoint_url
        self._credentials: Any = None
        self._finding = threading.Lock()

    def keys(self) -> Keys:
        if self._credentials is None:
            self._find()
        with translated("", ""):
            frozen = self._credentials.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or "")

    def authorities(self) -> str | None:
        """Those of AWS_CA_BUNDLE or ``ca_bundle`` in the profile."""
        return self._core.get_config_variable("ca_bundle") or None

    def address(self, bucket: str, region: str | None) -> Address:
        region = region or self._session.region_name or DEFAULT_REGION
        with translated(bucket, ""):
            return self._usual(bucket, region) or self._asked(bucket, region)

    @property
    def _core(self) -> Any:
        return self._session._session  # noqa: SLF001 - boto3 shows no other way to the settings

    def _find(self) -> None:
        with self._finding, translated("", ""):
            if self._credentials is None:
                self._credentials = self._session.get_credentials()
            if self._credentials is None:
                raise NoCredentialsError

    def _usual(self, bucket: str, region: str) -> Address | None:
        if not addresses_are_usual(os.environ, self._core.get_scoped_config()):
            return None
        url = usual_url(bucket, region, self._endpoint_url or endpoint_of(os.environ))
        return address_of(url, Scope(region), get_environ_proxies(url)) if url else None

    def _asked(self, bucket: str, region: str) -> Address:
        from botocore.config import Config

        client = self._session.client(
            "s3",
            endpoint_url=self._endpoint_url,
            config=Config(retries={"total_max_attempts": 1}),
            region_name=region,
        )
        client.meta.events.register_first("before-send.s3.HeadBucket", _catch)
        try:
            client.head_bucket(Bucket=bucket)
        except _Caught as caught:
            return _address(caught.request)
        finally:
            client.close()
        raise TransferError("botocore made no request.")


class _Caught(Exception):
    """Carries botocore's request out of botocore."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


def _catch(request: Any, **_: Any) -> None:
    raise _Caught(request)


def _address(request: Any) -> Address:
    authorization = request.headers.get("Authorization", "")
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    scope = _SCOPE.search(authorization)
    found = scope and address_of(
        request.url, Scope(*scope.groups()), get_environ_proxies(request.url)
    )
    if not found:
        raise TransferError(
            "Only requests signed with Signature Version 4 can be made here.",
            hint="Remove signature_version from the S3 settings of the profile.",
        )
    return found
