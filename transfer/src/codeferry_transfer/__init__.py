"""The S3 engine: streams of bytes into objects, in parallel and checked by the server."""

from __future__ import annotations

from codeferry_transfer.client import make_client
from codeferry_transfer.errors import (
    AccessDenied,
    BucketMissing,
    ConnectionFailed,
    CredentialsUnusable,
    TransferError,
    UploadRefused,
)
from codeferry_transfer.multipart import Part
from codeferry_transfer.parts import PART_SIZE
from codeferry_transfer.upload import Uploaded, upload_stream

__all__ = [
    "PART_SIZE",
    "AccessDenied",
    "BucketMissing",
    "ConnectionFailed",
    "CredentialsUnusable",
    "Part",
    "TransferError",
    "UploadRefused",
    "Uploaded",
    "make_client",
    "upload_stream",
]
