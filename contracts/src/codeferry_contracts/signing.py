"""Signed releases: what is signed, byte by byte, and whether a signature is one.

RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2), which needs nothing but the standard
library to check. Instances run this module too, under Python 3.9
(``stacks/workflow/agent_code.py``).
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
# What of a signature is signed with the rest: which run may bring it (any where empty), whom to,
# with which variables (the SHA-256 of their object), when it was made, until when (0: always).
_SIGNED = ("run_id", "target", "environment", "sequence", "expires_at")
# DigestInfo of a SHA-256 (RFC 8017, section 9.2, note 1).
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def message(
    signature: Mapping[str, Any],
    *,
    stage: str,
    workflow: str,
    project: str,
    archive: str,
    digest: str,
    command: Sequence[str],
    health: Sequence[str],
    install: bool,
    user: str,
    persist: Sequence[str],
) -> bytes:
    """What is signed, for a ``signature`` as an instance gets it (its own value aside).

    ``archive`` is the hex SHA-256 of the object, ``digest`` the manifest's, empty where there is
    none; the rest is what a run has an instance do with it, and as whom.
    """
    instructions = [list(command), list(health), install, user, list(persist)]
    fields = {
        "stage": stage,
        "workflow": workflow,
        "project": project,
        "archive": archive,
        "digest": digest,
        "instructions": hashlib.sha256(_json(instructions)).hexdigest(),
        **{name: signature[name] for name in _SIGNED},
    }
    return _HEADER + _json(fields)


def payload_message(
    signature: Mapping[str, Any], payload: Any, *, stage: str, workflow: str
) -> bytes:
    """The message that the signature of a ``parameters.Payload`` has to be of."""
    return message(
        signature,
        stage=stage,
        workflow=workflow,
        project=payload.project,
        archive=payload.sha256,
        digest=payload.digest,
        command=payload.command,
        health=payload.health,
        install=payload.install,
        user=payload.user,
        persist=payload.persist,
    )


def _json(content: Any) -> bytes:
    """The one way in which it is written: ASCII, sorted, without spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")


def is_valid(modulus: str, signed: bytes, value: str) -> bool:
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
