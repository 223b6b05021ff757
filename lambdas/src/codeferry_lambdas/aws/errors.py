"""The errors of the workflow, and the form in which they travel through Step Functions.

CodeferryError
└── WorkflowError
    ├── SettingsMissing      the function's environment lacks variables
    ├── AwsUnavailable       AWS throttled or failed; the workflow tries again
    ├── AwsRefused           AWS answered no
    ├── ArchiveMissing       there is no such archive, or it may not be read
    ├── ArchiveUnfit         the archive is empty, too large, or not the one meant
    ├── ArchiveSuperseded    a newer upload under the same key was planned before
    ├── SignatureRefused     the stage takes signed releases only, and this is none
    ├── NoInstances          the target matches nothing that can be reached
    ├── RunTooLarge          the run would outgrow what Step Functions or SSM carry
    ├── RunClosed            the run was cleaned up while a batch was still starting
    ├── NothingToReturn      the run to be undone has given its release to no instance
    ├── WaveFailed           a wave of a roll-out failed, and is to be returned
    ├── WaveReturned         a wave of a roll-out failed, and has returned by itself
    └── VerificationFailed   an instance reports another tree than the archive holds"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping

from botocore.exceptions import ClientError

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.report import ErrorRecord

# S3 answers 403 for what is not there where the role may not list the bucket.
ABSENT = frozenset({"NoSuchKey", "404", "AccessDenied", "403"})
THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
}
_TRANSIENT = THROTTLED | {"InternalError", "PriorRequestNotComplete", "RequestTimeout"}
_DENIED_ON = re.compile(r"on resource: (arn:[\w:/*.-]+)")
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


class WorkflowError(CodeferryError):
    """The root of what this member raises."""

    code = "workflow_error"


class SettingsMissing(WorkflowError):
    code = "settings_missing"


class AwsUnavailable(WorkflowError):
    code = "aws_unavailable"


class AwsRefused(WorkflowError):
    code = "aws_refused"


class ArchiveMissing(WorkflowError):
    code = "archive_missing"


class ArchiveUnfit(WorkflowError):
    code = "archive_unfit"


class ArchiveSuperseded(WorkflowError):
    code = "archive_superseded"


class SignatureRefused(WorkflowError):
    code = "signature_invalid"


class NoInstances(WorkflowError):
    code = "no_instances"


class RunTooLarge(WorkflowError):
    code = "run_too_large"


class RunClosed(WorkflowError):
    code = "run_closed"


class NothingToReturn(WorkflowError):
    code = "nothing_to_return"


class WaveFailed(WorkflowError):
    code = "wave_failed"


class WaveReturned(WorkflowError):
    code = "wave_failed"


class VerificationFailed(WorkflowError):
    code = "verification_failed"


def code_of(error: ClientError) -> str:
    return error.response["Error"]["Code"]


@contextlib.contextmanager
def ignored(*codes: str) -> Iterator[None]:
    """AWS's errors with these codes change nothing: there was nothing to do."""
    try:
        yield
    except ClientError as error:
        if code_of(error) not in codes:
            raise


def from_aws(error: ClientError) -> WorkflowError:
    """AWS's answer as an error of ours.

    A refused SendCommand is named without AWS's text, which may quote the parameters; of one that
    a policy denies, with what it was denied on.
    """
    answer = error.response.get("Error", {})
    code, text = answer.get("Code", "Unknown"), answer.get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    call = error.operation_name
    said = f"{call} failed: {code}." if call == "SendCommand" else f"{call} failed: {code}: {text}"
    if code in _TRANSIENT or status >= 500:
        return AwsUnavailable(said, hint="Run it again: AWS was busy for longer than we waited.")
    if code in _DENIED and call == "SendCommand":
        return _send_denied(text)
    if code in _DENIED:
        return AwsRefused(said, hint=f"The function's role lacks the permission for {call}.")
    return AwsRefused(said)


def _send_denied(text: str) -> AwsRefused:
    """Tells what IAM stands against apart from what SSM or the instance does."""
    named = _DENIED_ON.search(text)
    return AwsRefused(
        f"A policy denies SendCommand{f' on {named[1]}' if named else ''}.",
        hint="dispatch may send the stage's documents, to instances that carry the tag "
        "codeferry:target and no other stage's codeferry:stage: a tag that has changed meanwhile, "
        "or a policy of the organisation or account, stands against it. "
        "ferry doctor TARGET --deep asks IAM.",
    )


def for_step_functions(error: CodeferryError) -> CodeferryError:
    """The same error, under the same class name, with its JSON as text.

    Class name and text are all that Lambda passes on: Step Functions matches the first
    and hands the second to the states after, which read it with ``read_failure``.
    """
    spoken = type(type(error).__name__, (type(error),), {"__str__": _as_json})
    copy: CodeferryError = spoken(error.message, hint=error.hint, code=error.code)
    return copy


def _as_json(error: CodeferryError) -> str:
    return json.dumps(error.to_json())


def read_failure(failure: Mapping[str, str]) -> ErrorRecord:
    """The error behind a Catch's ``{"Error", "Cause"}``, whoever raised it."""
    name, cause = failure.get("Error", ""), failure.get("Cause", "")
    text = _member(cause, "errorMessage") or cause
    code, message = _member(text, "code"), _member(text, "message")
    if code and message:
        return {"code": code, "message": message, "hint": _member(text, "hint")}
    if name in ("States.Timeout", "Sandbox.Timedout"):
        message = "A step of the workflow took longer than it may."
        return {"code": "step_timed_out", "message": message, "hint": "Run it again."}
    return {
        "code": "internal_error",
        "message": f"A step of the workflow failed: {name}: {text[:500]}".strip(": "),
        "hint": "The function's log in CloudWatch has the details.",
    }


def _member(text: str, name: str) -> str:
    """``name`` in the JSON object ``text``, as a string; empty when there is none."""
    try:
        value = json.loads(text)[name]
    except (ValueError, KeyError, TypeError):
        return ""
    return value if isinstance(value, str) else ""
