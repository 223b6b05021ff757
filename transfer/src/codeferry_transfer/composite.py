"""The checksum of an object that was put together from parts."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence


def composite_of(digests: Sequence[bytes]) -> str:
    """What S3 keeps for a multipart object: the SHA-256 of the parts' SHA-256s, and their count."""
    whole = hashlib.sha256(b"".join(digests)).digest()
    return f"{b64encode(whole).decode()}-{len(digests)}"
