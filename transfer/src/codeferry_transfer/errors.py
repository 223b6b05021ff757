"""What can go wrong between here and S3, in words a person can act on.

CodeferryError
└── TransferError
    ├── BucketMissing         the bucket does not exist
    ├── AccessDenied          the credentials are good and not enough
    ├── CredentialsUnusable   there are none, or they are expired or unknown
    ├── ConnectionFailed      no answer after every retry
    └── UploadRefused         S3 answered with another error

Messages are made from the operation, the bucket, the key and the error's code, never
from a URL: URLs may carry signatures.
"""

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

from codeferry_contracts.errors import CodeferryError


class TransferError(CodeferryError):
    """A transfer could not be completed."""

    code = "transfer_failed"


class BucketMissing(TransferError):
    """The bucket does not exist."""

    code = "bucket_missing"


class AccessDenied(TransferError):
    """S3 knows the caller and does not let it."""

    code = "access_denied"


class CredentialsUnusable(TransferError):
    """No credentials, or ones that are expired or not known to AWS."""

    code = "credentials_unusable"


class ConnectionFailed(TransferError):
    """S3 could not be reached, or stopped answering, after every retry."""

    code = "connection_failed"


class UploadRefused(TransferError):
    """S3 refused for a reason of its own; ``message`` has its code."""

    code = "upload_refused"


_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "KMS.AccessDenied"}
_UNUSABLE = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
)
_SIGN_IN = "Sign in again (aws sso login, aws configure) or choose another --profile."


@contextmanager
def translated(bucket: str, key: str) -> Iterator[None]:
    """Turn botocore's errors into ours, naming ``bucket`` and ``key``."""
    try:
        yield
    except ClientError as error:
        raise _from_answer(error, bucket, key) from error
    except BotoCoreError as error:
        raise _from_client(error, bucket) from error


def _from_answer(error: ClientError, bucket: str, key: str) -> TransferError:
    code = error.response.get("Error", {}).get("Code", "unknown")
    operation = error.operation_name
    if code == "NoSuchBucket":
        return BucketMissing(
            f"The bucket {bucket!r} does not exist.",
            hint="Deploy the stage (cdk deploy), or check --stage, --region and --profile.",
        )
    if code in _DENIED:
        return AccessDenied(
            f"Access denied: {operation} on s3://{bucket}/{key}.",
            hint=f"The credentials need permission for s3:{_ACTIONS.get(operation, operation)}.",
        )
    if code in _UNUSABLE:
        return CredentialsUnusable(f"AWS does not accept the credentials: {code}.", hint=_SIGN_IN)
    return UploadRefused(
        f"S3 refused {operation} on s3://{bucket}/{key}: {code}.",
        hint="Try again; if it stays, look the code up among S3's error responses.",
    )


# Where the IAM action is not called like the operation.
_ACTIONS = {
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}


def _from_client(error: BotoCoreError, bucket: str) -> TransferError:
    if isinstance(error, _NO_CREDENTIALS):
        return CredentialsUnusable("No usable AWS credentials.", hint=_SIGN_IN)
    if isinstance(error, HTTPClientError):
        return ConnectionFailed(
            f"The connection to S3 failed ({type(error).__name__}) while reaching {bucket!r}.",
            hint="Check the network, --region and AWS_ENDPOINT_URL, then try again.",
        )
    return TransferError(f"The transfer could not be made: {type(error).__name__}.")
