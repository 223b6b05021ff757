"""The variables of a command: read from ``--env``, lent to the run, never shown.

They may be secrets, so they are in no request, no report and no message: only in an object
of their own, which the run deletes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import VariableRefused
from codeferry_cli.options.types import is_text
from codeferry_contracts.layout import environment_key
from codeferry_contracts.request import Environment

MOST_BYTES = 256 * 1024  # what an instance takes, as JSON

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Variables:
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> list[str]:
        return sorted(self.values)

    def encode(self) -> bytes:
        """The object the instance fetches: a JSON object of strings."""
        return json.dumps(dict(self.values)).encode()


def parse_variables(texts: Sequence[str], own: Mapping[str, str]) -> Variables:
    """The variables of ``NAME=VALUE`` or ``NAME``, which is taken from ``own``; the last wins.

    Raises VariableRefused.
    """
    found = Variables(dict(_parse(n, text, own) for n, text in enumerate(texts, start=1)))
    if len(found.encode()) > MOST_BYTES:
        raise VariableRefused(
            f"The variables of --env are more than {MOST_BYTES // 1024} KiB together.",
            hint="Put what is large into a file of the project.",
        )
    return found


def _parse(number: int, text: str, own: Mapping[str, str]) -> tuple[str, str]:
    name, stated, value = text.partition("=")
    if not _NAME.fullmatch(name):
        # Not quoted: with a sign missing or one too many, this is a piece of a value.
        raise VariableRefused(
            f"--env number {number} does not begin with the name of a variable.",
            hint="Give NAME=VALUE, or NAME to pass on your own. A name has letters, digits and"
            " underscores, and no digit first.",
        )
    if not stated:
        if name not in own:
            raise VariableRefused(
                f"--env {name}: you have no variable of that name.",
                hint=f"Set it, or give its value: --env {name}=VALUE",
            )
        value = own[name]
    if not is_text(value):
        raise VariableRefused(
            f"The value of --env {name} is not UTF-8 text without NUL.",
            hint="Encode it, for example as base64, and decode it in the command.",
        )
    return name, value


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
