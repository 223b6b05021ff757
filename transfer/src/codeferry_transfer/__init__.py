"""The S3 engine: streams, files and whole trees to S3 and back, in parallel and checked.

``codeferry_transfer.stream`` is for bytes that are being made, ``codeferry_transfer.transfers``
for files and trees; ``codeferry_transfer.s3`` is the client under both.
"""

from __future__ import annotations

from codeferry_transfer.errors import (
    AccessDenied,
    BucketMissing,
    ConnectionFailed,
    CredentialsUnusable,
    TransferError,
    UploadRefused,
)
from codeferry_transfer.parts import PART_SIZE

__all__ = [
    "PART_SIZE",
    "AccessDenied",
    "BucketMissing",
    "ConnectionFailed",
    "CredentialsUnusable",
    "TransferError",
    "UploadRefused",
]
