"""A key for tests, and releases signed with it as ``ferry`` signs them."""

from __future__ import annotations

import base64
import dataclasses
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from codeferry_contracts import signing
from codeferry_contracts.parameters import Payload
from codeferry_contracts.request import Signature

STAGE = "dev"


@cache
def private_key(name: str) -> rsa.RSAPrivateKey:
    """A key of its own for each name."""
    return rsa.generate_private_key(signing.EXPONENT, signing.LEAST_BITS)


def modulus(name: str = "ours") -> str:
    return f"{private_key(name).public_key().public_numbers().n:x}"


def trust(name: str = "ours") -> dict[str, str]:
    """The variables by which a document pins the key."""
    return {"CODEFERRY_STAGE": STAGE, "CODEFERRY_SIGNING_KEY": modulus(name)}


def value_of(message: bytes, key: str = "ours") -> str:
    signed = private_key(key).sign(message, padding.PKCS1v15(), hashes.SHA256())
    return base64.b64encode(signed).decode()


def message_of(payload: Payload, signature: Signature, workflow: str = "sync") -> bytes:
    return signing.payload_message(signature.delivered(), payload, stage=STAGE, workflow=workflow)


def signed(payload: Payload, workflow: str = "sync", key: str = "ours", **stated: Any) -> Payload:
    """The payload with a signature of all of it; ``stated`` are fields of the signature."""
    fields: dict[str, Any] = {"value": "", "sequence": 1000, "target": "demo"} | stated
    unsigned = Signature(**fields)
    value = value_of(message_of(payload, unsigned, workflow), key)
    told = dataclasses.replace(unsigned, value=value).delivered()
    return dataclasses.replace(payload, signature=told)
