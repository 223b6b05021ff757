"""One encoding is a signature's, and one number."""

from __future__ import annotations

import base64

import pytest

from codeferry_contracts import signing
from tests.unit.agent.signatures import modulus, private_key, value_of


def test_a_signature_is_of_its_message_and_key() -> None:
    value = value_of(b"message")
    assert signing.is_valid(modulus(), b"message", value)
    assert not signing.is_valid(modulus(), b"massage", value)
    assert not signing.is_valid(modulus("theirs"), b"message", value)


def test_another_number_of_the_same_rest_is_none() -> None:
    """RFC 8017, 5.2.2: the representative is below n. Where s + n has as many bytes, nothing but
    that tells it from s."""
    n = private_key("ours").public_key().public_numbers().n
    for number in range(1000):
        message = b"%d" % number
        s = int.from_bytes(base64.b64decode(value_of(message)), "big")
        if (s + n).bit_length() <= 2048:
            break
    else:
        pytest.fail("no signature of a thousand is small enough")
    other = base64.b64encode((s + n).to_bytes(256, "big")).decode()
    assert signing.is_valid(modulus(), message, value_of(message))
    assert not signing.is_valid(modulus(), message, other)


def test_a_short_key_signs_nothing() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = rsa.generate_private_key(signing.EXPONENT, 1024)
    value = base64.b64encode(key.sign(b"message", padding.PKCS1v15(), hashes.SHA256())).decode()
    short = f"{key.public_key().public_numbers().n:x}"
    assert not signing.is_valid(short, b"message", value)


@pytest.mark.parametrize("value", ["", "=", "AA==", "not base64", "ä", "A" * 344])
def test_what_is_no_signature_is_an_answer_and_no_error(value: str) -> None:
    assert not signing.is_valid(modulus(), b"message", value)
