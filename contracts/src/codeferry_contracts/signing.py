"""Signed releases: what is signed, byte by byte, and whether a signature is one.

RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2), which needs nothing but the standard
library to check. Instances run this module too, under Python 3.9 (``stacks/agent_code.py``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

EXPONENT, LEAST_BITS = 65537, 2048
# What is signed begins with this, so that a signature made for anything else is none of ours.
_HEADER = b"codeferry signed release 1\n"
# DigestInfo of a SHA-256 (RFC 8017, section 9.2, note 1).
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def instructions(
    command: Sequence[str],
    health: Sequence[str],
    *,
    install: bool,
    user: str,
    persist: Sequence[str],
) -> str:
    """Hex SHA-256 of what a run has an instance do with its archive, and as whom."""
    stated = [list(command), list(health), install, user, list(persist)]
    return hashlib.sha256(json.dumps(stated, separators=(",", ":")).encode("ascii")).hexdigest()


def message(
    *,
    stage: str,
    workflow: str,
    run_id: str,
    project: str,
    target: str,
    archive: str,
    environment: str,
    digest: str,
    instructions: str,
    sequence: int,
    expires_at: int,
) -> bytes:
    """What is signed. ``archive`` and ``environment`` are hex SHA-256 of the objects, ``digest``
    is the manifest's; both last are empty where there is none. ``run_id`` is empty where any run
    may bring the release, ``expires_at`` (seconds since 1970) 0 where it always may."""
    fields = {
        "stage": stage,
        "workflow": workflow,
        "run_id": run_id,
        "project": project,
        "target": target,
        "archive": archive,
        "environment": environment,
        "digest": digest,
        "instructions": instructions,
        "sequence": sequence,
        "expires_at": expires_at,
    }
    return _HEADER + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")


def is_signed(modulus: str, signed: bytes, value: str) -> bool:
    """Whether ``value`` (base64) is the signature of ``signed`` by the key with this hex modulus.

    The one encoding there can be is built and compared: nothing of the signature is parsed.
    """
    n = int(modulus, 16)
    size = (n.bit_length() + 7) // 8
    try:
        signature = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return False
    number = int.from_bytes(signature, "big")
    if n.bit_length() < LEAST_BITS or len(signature) != size or number >= n:
        return False
    found = pow(number, EXPONENT, n).to_bytes(size, "big")
    info = DIGEST_INFO + hashlib.sha256(signed).digest()
    expected = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    return hmac.compare_digest(found, expected)


def signed_message(
    signature: Mapping[str, Any],
    *,
    stage: str,
    workflow: str,
    project: str,
    archive: str,
    digest: str,
    instructions: str,
) -> bytes:
    """The message that a release's ``signature``, as a request states it, has to be of."""
    return message(
        stage=stage,
        workflow=workflow,
        run_id=signature["run_id"],
        project=project,
        target=signature["target"],
        archive=archive,
        environment=signature["environment"],
        digest=digest,
        instructions=instructions,
        sequence=signature["sequence"],
        expires_at=signature["expires_at"],
    )
