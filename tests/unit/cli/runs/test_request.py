"""Signed requests, by KMS and by the embedded AWS's key file, and what doctor says of it."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from codeferry_cli.aws.doctor import _signing
from codeferry_cli.aws.session import Access
from codeferry_cli.aws.signing import VALID_SECONDS, sign_request
from codeferry_contracts import signing
from codeferry_contracts.names import SCRIPT, SYNC
from codeferry_contracts.request import Archive, Options, Rollout, RunRequest, Signature
from codeferry_local.supervisor import make_key
from tests.unit.agent import signatures
from tests.unit.agent.signatures import private_key

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1"
REQUEST = RunRequest(
    Archive("archives/run-1.tar.gz"),
    "web",
    "demo",
    command=("python3", "train.py"),
    options=Options(install=True, rollout=Rollout(("100%",), health=("true",))),
)


class Stage:
    """As much of a deployed stage as signing needs."""

    name, signed_by = "dev", "somebody"

    def __init__(self, how: str, client: Any = None, key_file: str = "") -> None:
        local = SimpleNamespace(signing_key=key_file) if key_file else None
        self.signing = how
        self.aws: Any = SimpleNamespace(local=local, client=lambda service: client)


def sign(stage: Any, workflow: str = SYNC, request: RunRequest = REQUEST) -> Signature | None:
    return sign_request(
        stage, workflow, request, archive="a" * 64, digest="b" * 64, variables=b"{}", run_id="run-1"
    )


def modulus(der: bytes) -> str:
    key = load_der_public_key(der)
    assert isinstance(key, RSAPublicKey)
    return f"{key.public_numbers().n:x}"


def message(signature: Signature, *, kept: bool, workflow: str = SYNC) -> bytes:
    """What has to be signed, written out."""
    told = Signature("", signature.sequence, signature.target) if kept else signature
    return signing.message(
        told.delivered(),
        stage="dev",
        workflow=workflow,
        project="demo",
        archive="a" * 64,
        digest="b" * 64,
        command=() if kept else ("python3", "train.py"),
        health=() if kept else ("true",),
        install=True,
        user="",
        persist=Options().persist,
    )


def test_a_stage_that_signs_nothing_costs_nothing() -> None:
    assert sign(Stage("")) is None


class Kms:
    """Signs as KMS does a digest (moto's takes every message for the message itself)."""

    def sign(self, **arguments: Any) -> dict[str, bytes]:
        digest = arguments.pop("Message")
        assert arguments == {
            "KeyId": ARN,
            "MessageType": "DIGEST",
            "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
        }
        by = Prehashed(hashes.SHA256())
        return {"Signature": private_key("ours").sign(digest, padding.PKCS1v15(), by)}


def test_kms_signs_the_run_and_the_release_as_it_is_kept() -> None:
    known = signatures.modulus()
    signature = sign(Stage(ARN, Kms()))
    assert signature
    assert signature.run_id == "run-1"
    assert signature.environment == hashlib.sha256(b"{}").hexdigest()
    assert 0 <= signature.expires_at - VALID_SECONDS - signature.sequence // 1000 <= 1
    assert signing.is_valid(known, message(signature, kept=False), signature.value)
    assert signing.is_valid(known, message(signature, kept=True), signature.kept)
    assert not signing.is_valid(known, message(signature, kept=True), signature.value)


def test_a_key_file_signs_likewise_and_a_script_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    known = modulus(base64.b64decode(make_key(path)))
    assert path.stat().st_mode & 0o777 == 0o600
    signature = sign(Stage("file", key_file=str(path)), SCRIPT)
    assert signature
    assert signature.kept == ""
    right = message(signature, kept=False, workflow=SCRIPT)
    assert signing.is_valid(known, right, signature.value)
    assert not signing.is_valid(known, message(signature, kept=False), signature.value)


def test_a_later_signature_has_a_higher_sequence(tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    stage = Stage("file", key_file=str(tmp_path / "key.pem"))
    first = sign(stage)
    now = time.time()
    assert first
    assert abs(first.sequence / 1000 - now) < 60


def _answering(code: str) -> Any:
    def answer(**arguments: Any) -> Any:
        assert arguments["DryRun"]
        raise ClientError({"Error": {"Code": code, "Message": "…"}}, "Sign")

    return SimpleNamespace(sign=answer)


@pytest.mark.parametrize(
    ("code", "signed_by", "status"),
    [
        ("DryRunOperationException", "somebody", "ok"),
        ("AccessDeniedException", "somebody", "fail"),
        ("DryRunOperationException", "", "warn"),
    ],
)
def test_doctor_says_whether_you_may_sign_and_whether_anybody_asks(
    code: str, signed_by: str, status: str
) -> None:
    stage: Any = Stage(ARN, _answering(code))
    stage.signed_by = signed_by
    found = _signing(Access(), stage)
    assert found.status == status
    assert bool(found.fix) == (status != "ok")


def test_an_upload_lays_its_signature_before_the_archive(
    ferry: Any, world: Any, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive's arrival starts the run, which looks for the signature."""
    from codeferry_cli.commands import upload

    make_key(tmp_path / "key.pem")
    stage = Stage("file", key_file=str(tmp_path / "key.pem"))
    seen: list[list[str]] = []

    def signed(_: Any, *arguments: Any, **more: Any) -> Signature | None:
        found = world.client("s3").list_objects_v2(Bucket=world.bucket, Prefix="inbox/fleet/")
        seen.append([item["Key"] for item in found.get("Contents", ())])
        return sign_request(stage, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(upload, "sign_request", signed)
    answer = ferry("upload", "fleet", str(project), "--no-wait", "--json")
    assert answer.exit == 0, answer.err
    key = answer.json()["key"]
    assert key not in seen[0]
    beside = key.removesuffix(".tar.gz") + ".sig"
    body = world.client("s3").get_object(Bucket=world.bucket, Key=beside)["Body"].read()
    assert json.loads(body)["target"] == "fleet"
