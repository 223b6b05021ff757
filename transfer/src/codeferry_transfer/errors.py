"""Errors of transfers between here and S3, in words a person can act on.

CodeferryError
└── TransferError
    ├── BucketMissing         the bucket does not exist
    ├── AccessDenied          the credentials are good and not enough
    ├── CredentialsUnusable   there are none, or they are expired or unknown
    ├── ConnectionFailed      no answer after every retry
    ├── ObjectMissing         there is no object under the key
    ├── PreconditionFailed    the object is not, or no longer, the one that was meant
    ├── Throttled             S3 asked to slow down until the last retry
    ├── Corrupted             bytes that arrived are not those S3 keeps a checksum of
    ├── AnswerInvalid         what answered does not say what S3 says
    ├── Halted                given up because somebody called halt()
    ├── UploadMissing         the multipart upload was completed, aborted, or never was
    ├── LocationInvalid       what was given is no place in S3
    ├── SourceEmpty           there is nothing to transfer, or to keep from deletion
    ├── PatternUnmatched      --include or --exclude names nothing, and things are to be deleted
    ├── FileGone              a file that was listed is not there any more
    ├── ObjectArchived        the object has to be restored before it can be read
    ├── FileUnfit             a file here, or the place for it, cannot be used
    ├── FileChanged           a file changed while it was being read
    └── UploadRefused         S3 answered with another error

Messages are made from the operation, the bucket, the key and the error's code, never
from a URL: URLs may carry signatures.
"""

from __future__ import annotations

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


class ObjectMissing(TransferError):
    """There is no object under the key."""

    code = "object_missing"


class PreconditionFailed(TransferError):
    """The object is not the one that was meant: it was replaced, or it is already there."""

    code = "precondition_failed"


class Throttled(TransferError):
    """S3 asked to slow down, and still did after every retry."""

    code = "throttled"


class Corrupted(TransferError):
    """What arrived is not what S3 keeps a checksum of."""

    code = "corrupted"


class AnswerInvalid(TransferError):
    """What answered is not S3, or says what S3 never says."""

    code = "answer_invalid"


class Halted(TransferError):
    """The request was given up because the transfer it belonged to was."""

    code = "halted"


class UploadMissing(TransferError):
    """There is no such multipart upload: it was completed or aborted, or never was."""

    code = "upload_missing"


class LocationInvalid(TransferError):
    """What was given is no place in S3."""

    code = "location_invalid"


class SourceEmpty(TransferError):
    """There is nothing to transfer; deleting everything on the other side was not meant."""

    code = "source_empty"


class PatternUnmatched(TransferError):
    """A pattern fits nothing, so what it was to protect may not be what it protects."""

    code = "pattern_unmatched"


class FileGone(TransferError):
    """A file is not there any more."""

    code = "file_gone"


class ObjectArchived(TransferError):
    """The object lies in an archive, from which it has to be restored before it can be read."""

    code = "object_archived"


class FileUnfit(TransferError):
    """A local file cannot be read or written, or something is in its way."""

    code = "file_unfit"


class FileChanged(TransferError):
    """A file changed while it was being read, again and again."""

    code = "file_changed"


class UploadRefused(TransferError):
    """S3 refused for a reason of its own; ``message`` has its code."""

    code = "upload_refused"


def resumable(error: BaseException) -> bool:
    """Whether what was carried so far will be of use: the same transfer may work later."""
    return isinstance(error, (ConnectionFailed, CredentialsUnusable, Throttled))


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
THROTTLING = {"SlowDown", "ServiceUnavailable", "ThrottlingException", "TooManyRequests"}
_SIGN_IN = "Sign in again (aws sso login, aws configure) or choose another --profile."


def no_credentials() -> CredentialsUnusable:
    """There is nothing to sign with."""
    return CredentialsUnusable("No usable AWS credentials.", hint=_SIGN_IN)


def answer_invalid(why: str) -> AnswerInvalid:
    """An answer that cannot be S3's; ``why`` goes on after "What answered is not AWS: "."""
    return AnswerInvalid(
        f"What answered is not AWS: {why}.",
        hint="Check the endpoint, and what is between here and AWS.",
    )


def refusal(operation: str, bucket: str, key: str, code: str) -> TransferError:
    """The error for an answer of S3 with the error ``code``."""
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
    if code in ("NoSuchKey", "NotFound", "404"):
        return ObjectMissing(f"There is no object s3://{bucket}/{key}.")
    if code == "InvalidObjectState":
        return ObjectArchived(
            f"s3://{bucket}/{key} is archived: restore it first (aws s3api restore-object), "
            "or leave it out by --exclude."
        )
    if code == "NoSuchUpload":
        return UploadMissing(f"The multipart upload of s3://{bucket}/{key} is no longer there.")
    if code in ("PreconditionFailed", "412"):
        return PreconditionFailed(f"s3://{bucket}/{key} is not, or no longer, what was expected.")
    if code in THROTTLING:
        return Throttled(
            f"S3 asked to slow down and still did after every retry: {code}.",
            hint="Try again later, or with a smaller --concurrency.",
        )
    return UploadRefused(
        f"S3 refused {operation} on s3://{bucket}/{key}: {code}.",
        hint="Try again; if it stays, look the code up among S3's error responses.",
    )


# Where the IAM action is not called like the operation.
_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "DeleteObjects": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
