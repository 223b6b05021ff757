"""Upload the variables of a command."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.variables import Variables
from codeferry_contracts.layout import environment_key
from codeferry_contracts.request import Environment


@contextmanager
def lent(stage: DeployedStage, run_id: str, variables: Variables) -> Iterator[Environment | None]:
    """The variables in the stage's bucket while their run is started; gone if it is not.

    Once started, the run deletes them.
    """
    if not variables.values:
        yield None
        return
    environment = _put(stage, run_id, variables)
    try:
        yield environment
    except BaseException:
        _delete(stage, environment)
        raise


def _put(stage: DeployedStage, run_id: str, variables: Variables) -> Environment:
    body, key = variables.encode(), environment_key(run_id)
    answer = stage.s3.put_object(
        Bucket=stage.bucket,
        Key=key,
        Body=body,
        ContentType="application/json",
        ChecksumSHA256=base64.b64encode(hashlib.sha256(body).digest()).decode(),
    )
    return Environment(key, answer.get("VersionId"))


def _delete(stage: DeployedStage, environment: Environment) -> None:
    version = {"VersionId": environment.version_id} if environment.version_id else {}
    stage.s3.delete_object(Bucket=stage.bucket, Key=environment.key, **version)
