"""Signing what a run will do, where the stage's releases are signed."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codeferry_cli.aws.stage import DeployedStage
from codeferry_contracts import signing
from codeferry_contracts.names import SYNC
from codeferry_contracts.request import RunRequest, Signature

# How long a run may begin, and its later waves too: what is replayed is found by its sequence
# long before.
VALID_SECONDS = 7 * 24 * 3600

Sign = Callable[[bytes], bytes]


def sign_request(
    stage: DeployedStage,
    workflow: str,
    request: RunRequest,
    *,
    archive: str,
    digest: str,
    variables: bytes = b"",
    run_id: str = "",
) -> Signature | None:
    """The signature of a request; None where the stage's releases are not signed.

    ``archive`` is the hex SHA-256 of the archive, ``digest`` its manifest's (empty without one),
    ``variables`` the object that holds the command's. Raises what KMS answers.
    """
    sign = _signer(stage)
    if sign is None:
        return None
    assert request.project
    now = time.time()
    unsigned = Signature(
        value="",
        sequence=int(now * 1000),
        target=request.target,
        expires_at=int(now) + VALID_SECONDS,
        run_id=run_id,
        environment=hashlib.sha256(variables).hexdigest() if variables else "",
    )
    kept = Signature("", unsigned.sequence, unsigned.target)
    options = request.options

    def value(of: Signature, command: tuple[str, ...], health: tuple[str, ...]) -> str:
        stated = signing.message(
            of.delivered(),
            stage=stage.name,
            workflow=workflow,
            project=request.project or "",
            archive=archive,
            digest=digest,
            command=command,
            health=health,
            install=options.install,
            user=options.user or "",
            persist=options.persist,
        )
        return base64.b64encode(sign(stated)).decode()

    return dataclasses.replace(
        unsigned,
        value=value(unsigned, request.command, options.rollout.health if options.rollout else ()),
        kept=value(kept, (), ()) if workflow == SYNC else "",
    )


def _signer(stage: DeployedStage) -> Sign | None:
    if not stage.signing:
        return None
    if stage.aws.local:
        return _by_file(Path(stage.aws.local.signing_key))
    return lambda message: _by_kms(stage, message)


def may_sign(stage: DeployedStage) -> None:
    """Raises what KMS answers whoever may not, or what reading the key file raises."""
    from botocore.exceptions import ClientError

    if stage.aws.local:
        _by_file(Path(stage.aws.local.signing_key))
        return
    try:
        _by_kms(stage, b"", DryRun=True)
    except ClientError as error:
        # What KMS says in place of an answer ("Testing your permissions").
        if error.response["Error"]["Code"] != "DryRunOperationException":
            raise


def _by_kms(stage: DeployedStage, message: bytes, **options: Any) -> bytes:
    answer = stage.aws.client("kms").sign(
        KeyId=stage.signing,
        Message=hashlib.sha256(message).digest(),
        MessageType="DIGEST",
        SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256",
        **options,
    )
    signature: bytes = answer["Signature"]
    return signature


def _by_file(path: Path) -> Sign:
    """With the key that `ferry local up --signing` has made."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA256())
