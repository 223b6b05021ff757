"""What each Lambda may do, and why: read by the stack and by the generator of docs/iam.md.

Values only: ``Arns`` holds CloudFormation tokens in a deployment and readable
placeholders in the docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codeferry_contracts import layout
from codeferry_contracts.target import TARGET_TAG


@dataclass(frozen=True)
class Arns:
    """The resources a permission can name."""

    bucket: str
    table: str
    document: str
    instances: str
    state_machine: str
    event_bus: str

    def objects(self, prefix: str) -> str:
        return f"{self.bucket}/{prefix}*"


@dataclass(frozen=True)
class Permission:
    """One IAM statement with its reason."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    why: str
    conditions: Mapping[str, Any] = field(default_factory=dict)


def permissions(arns: Arns) -> dict[str, list[Permission]]:
    """Every function's permissions beyond writing its own log."""
    return {
        "start": [_start_execution(arns)],
        "plan": _plan(arns),
        "check": [_resolve_target()],
        "dispatch": _dispatch(arns),
        "await": [_keep_token(arns), _look_at_commands(), _complete_task(arns)],
        "resume": [_find_token(arns), _complete_task(arns)],
        "collect": [_read_record(arns), _write_record(arns), _look_at_invocations(), _count(arns)],
        "verify": [_read_record(arns), _write_record(arns), _read_archives(arns)],
        "cleanup": [_read_record(arns), *_cleanup(arns)],
        "report": [_read_record(arns), _write_record(arns), _announce(arns)],
        "abort": [_read_record(arns), *_cleanup(arns), _write_record(arns), _announce(arns)],
    }


def _start_execution(arns: Arns) -> Permission:
    return Permission(
        ("states:StartExecution",),
        (arns.state_machine,),
        "An upload into the inbox starts a run.",
    )


def _archives(arns: Arns) -> tuple[str, ...]:
    return (arns.objects(layout.ARCHIVES_PREFIX), arns.objects(layout.INBOX_PREFIX))


def _read_archives(arns: Arns) -> Permission:
    return Permission(
        ("s3:GetObject", "s3:GetObjectVersion"),
        _archives(arns),
        "Reads the archive's size, checksum and manifest, pinned to one version.",
    )


def _read_record(arns: Arns) -> Permission:
    return Permission(
        ("s3:GetObject",), (arns.objects(layout.RUNS_PREFIX),), "Reads the run's record."
    )


def _write_record(arns: Arns) -> Permission:
    return Permission(
        ("s3:PutObject",), (arns.objects(layout.RUNS_PREFIX),), "Writes the run's record."
    )


def _plan(arns: Arns) -> list[Permission]:
    return [
        _read_archives(arns),
        _write_record(arns),
        _resolve_target(),
        Permission(
            ("ssm:DescribeDocument",),
            (arns.document,),
            "Pins the document's version and hash for the whole run.",
        ),
        Permission(
            ("dynamodb:PutItem",), (arns.table,), "An older upload never replaces a newer one."
        ),
    ]


def _resolve_target() -> Permission:
    return Permission(
        ("ec2:DescribeInstances", "ssm:DescribeInstanceInformation"),
        ("*",),
        "Resolves the target. Neither action can be narrowed to resources.",
    )


def _dispatch(arns: Arns) -> list[Permission]:
    return [
        Permission(
            ("ssm:SendCommand",), (arns.document,), "Sends the stage's own document, no other."
        ),
        Permission(
            ("ssm:SendCommand",),
            (arns.instances,),
            f"Only instances that carry the tag {TARGET_TAG} can be reached.",
            conditions={"StringLike": {f"aws:ResourceTag/{TARGET_TAG}": "?*"}},
        ),
        Permission(
            ("ssm:ListCommands", "ssm:CancelCommand", "ssm:DescribeInstanceInformation"),
            ("*",),
            "Finds a command whose answer was lost, cancels one whose run was ended meanwhile, "
            "and sees which instances SSM still knows. None can be narrowed to resources.",
        ),
        Permission(
            ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:GetItem", "dynamodb:Query"),
            (arns.table,),
            "Reserves the batch before sending it and counts failures against the error budget.",
        ),
        _read_record(arns),
        Permission(
            ("s3:GetObject", "s3:GetObjectVersion"),
            _archives(arns),
            "Signs the GET the instances use: a signature carries its signer's rights.",
        ),
    ]


def _keep_token(arns: Arns) -> Permission:
    return Permission(("dynamodb:PutItem",), (arns.table,), "Keeps the task token by command.")


def _find_token(arns: Arns) -> Permission:
    return Permission(("dynamodb:GetItem",), (arns.table,), "Finds the task token of a command.")


def _look_at_commands() -> Permission:
    return Permission(
        ("ssm:ListCommands",),
        ("*",),
        "Sees whether the command has already ended. Cannot be narrowed to resources.",
    )


def _look_at_invocations() -> Permission:
    return Permission(
        ("ssm:ListCommandInvocations",),
        ("*",),
        "Reads each instance's result line. Cannot be narrowed to resources.",
    )


def _complete_task(arns: Arns) -> Permission:
    return Permission(
        ("states:SendTaskSuccess",), (arns.state_machine,), "Lets the waiting run go on."
    )


def _count(arns: Arns) -> Permission:
    return Permission(
        ("dynamodb:GetItem", "dynamodb:UpdateItem"),
        (arns.table,),
        "Finds the batch's command and records how many of the batch failed.",
    )


def _cleanup(arns: Arns) -> list[Permission]:
    return [
        Permission(
            ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"),
            _archives(arns),
            "Deletes the archive and what an interrupted upload left.",
        ),
        Permission(
            ("s3:ListBucketVersions", "s3:ListBucketMultipartUploads"),
            (arns.bucket,),
            "Finds the archive's versions and unfinished uploads.",
        ),
        Permission(
            ("dynamodb:PutItem", "dynamodb:Query", "dynamodb:DeleteItem"),
            (arns.table,),
            "Closes the run, finds its commands and forgets their tokens.",
        ),
        Permission(
            ("ssm:CancelCommand",),
            ("*",),
            "Stops what still runs. Cannot be narrowed to resources.",
        ),
    ]


def _announce(arns: Arns) -> Permission:
    return Permission(("events:PutEvents",), (arns.event_bus,), "Announces that the run finished.")
