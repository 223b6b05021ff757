"""Parameter Store, which the embedded AWS has: its operations are passed on.

One endpoint serves all of SSM, so a client that is led here for Run Command asks here for
parameters too: the CDK CLI for the version of its bootstrap stack, before each deployment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from codeferry_local.ssm.errors import InternalServerError, SsmError

Request = dict[str, Any]
Answer = dict[str, Any]

_PASSED_ON = (
    "DeleteParameter",
    "DeleteParameters",
    "DescribeParameters",
    "GetParameter",
    "GetParameterHistory",
    "GetParameters",
    "GetParametersByPath",
    "LabelParameterVersion",
    "PutParameter",
)


def parameter_operations(ssm: Callable[[], Any]) -> dict[str, Callable[[Request], Answer]]:
    """Operation name to what does it, by the client that ``ssm`` gives when it is first needed."""
    return {name: partial(_pass_on, ssm, name) for name in _PASSED_ON}


def _pass_on(ssm: Callable[[], Any], operation: str, request: Request) -> Answer:
    """The other's answer or error; values are neither kept nor logged."""
    try:
        answer: Answer = getattr(ssm(), xform_name(operation))(**request)
    except ClientError as error:
        refusal = error.response["Error"]
        raise SsmError(refusal.get("Message", ""), code=refusal["Code"]) from error
    except BotoCoreError as error:
        raise InternalServerError(
            f"The embedded AWS, which keeps the parameters, does not answer: {error}"
        ) from error
    return {member: value for member, value in answer.items() if member != "ResponseMetadata"}
