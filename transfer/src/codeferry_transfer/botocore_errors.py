"""What botocore raises while it finds credentials and addresses, as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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

from codeferry_transfer.errors import (
    ConnectionFailed,
    TransferError,
    answer_invalid,
    no_credentials,
    refusal,
)

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
