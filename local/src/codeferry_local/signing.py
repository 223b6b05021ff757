"""A key of the embedded AWS's own for signed releases, where an account has one in KMS."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from codeferry_contracts.signing import EXPONENT

_BITS = 3072  # as the one in KMS


def make_key(path: Path) -> str:
    """Write a new private key to ``path`` (PKCS #8, PEM, mode 0600); its public key as KMS gives
    one: base64 of a SubjectPublicKeyInfo."""
    key = rsa.generate_private_key(EXPONENT, _BITS)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()
