"""Signatures are botocore's, byte for byte."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from codeferry_transfer.s3.signing import (
    EMPTY_SHA256,
    Keys,
    Scope,
    encoded_path,
    encoded_query,
    signed,
)

NOW = 1_790_000_000.0
HOST = "bucket.s3.eu-west-1.amazonaws.com"

keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


def botocores(path: str, query: str, extra: dict[str, str], token: str) -> str:
    """The Authorization header botocore gives the same request."""
    url = f"https://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest("GET", url, headers={**extra, "X-Amz-Content-SHA256": EMPTY_SHA256})
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    auth: Any = S3SigV4Auth(Credentials("AKID", "secret", token or None), "s3", "eu-west-1")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    return str(signature)


@given(keys, st.dictionaries(values.filter(bool), values, max_size=3), st.sampled_from(["", "tok"]))
def test_signature_is_botocores(key: str, query: dict[str, str], token: str) -> None:
    """Whatever the key and query hold, the signature is the one botocore makes."""
    path, encoded = "/" + encoded_path(key), encoded_query(query)
    extra = {"x-amz-meta-note": "two  spaces"}
    headers = signed(
        "GET",
        path,
        encoded,
        {"host": HOST, **extra},
        EMPTY_SHA256,
        Keys("AKID", "secret", token),
        Scope("eu-west-1"),
        NOW,
    )
    signature = headers["authorization"].rpartition("Signature=")[2]
    assert signature == botocores(path, encoded, extra, token)


@pytest.mark.parametrize("key", ["a/../b", "./a", "a//b", "/a"])
def test_paths_are_not_normalised(key: str) -> None:
    """S3 keys are no paths: dots and empty names stay what they are."""
    assert encoded_path(key) == key
