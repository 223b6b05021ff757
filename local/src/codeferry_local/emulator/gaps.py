"""Corrections of the pinned MiniStack 1.5.33 where it departs from AWS in a way that matters here.

- It ignores ``Range`` on a read that names a version; S3 answers 206. Ranged reads of one
  version are how the manifest is found and large archives are downloaded.
- Its "Object Created" events name no version; S3's do. The version is part of a run's id.
- It names every exception of a Python function "Runtime.HandlerError"; Lambda names it by
  its class, and that is what a state machine's Retry and Catch match.
- It leaves the states inside a Map out of the execution history; Step Functions lists
  them. They are how ``ferry`` shows dispatch and apply.
- It gives all functions one access key; Lambda gives each its own role's. Who made a call,
  or signed a URL, is what IAM policies are compared with.
- A wait for a task token cannot be shortened as its other waits can (``SFN_WAIT_SCALE``): here
  it is multiplied by ``CODEFERRY_TASK_TOKEN_SCALE``, for tests.
- Its FilterLogEvents knows neither ``logStreamNamePrefix`` nor ``nextToken``: it would mix the
  output of all runs, and end after 10,000 lines. Following a run's output rests on both.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from codeferry_local.emulator import wrap
from codeferry_local.emulator.iam import session

Answer = tuple[int, dict[str, str], bytes]

# The last line of a traceback: the class, with its module, and the message.
_RAISED = re.compile(r"^(?:\w+\.)*([A-Z]\w*)(?::|$)", re.MULTILINE)

# Workers are kept and used again, so few at a time are also few that have to be started.
WORKERS_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))

TASK_TOKEN_SCALE = "CODEFERRY_TASK_TOKEN_SCALE"  # noqa: S105 - the name of a factor

_version: ContextVar[str] = ContextVar("version", default="")

Filter = Callable[[dict[str, Any]], Answer]
PAGE = 10_000  # events; AWS's most


def close_gaps() -> None:
    """Wrap what has to be wrapped; called before the server starts."""
    from ministack.core import lambda_runtime
    from ministack.services import cloudwatch_logs, eventbridge, lambda_svc, s3, stepfunctions, sts

    wrap(s3, "_get_object", with_ranges, s3._parse_range)
    wrap(s3, "_fire_s3_event", with_known_version)
    wrap(eventbridge, "_dispatch_event", with_version_id)
    wrap(lambda_svc, "_execute_function_warm", with_concurrency_limit, WORKERS_AT_ONCE)
    wrap(lambda_svc, "_execute_function_warm", with_error_class)
    wrap(stepfunctions, "_execute_task", with_map_history, stepfunctions._add_event)
    scale = float(os.environ.get(TASK_TOKEN_SCALE, "1"))
    wrap(stepfunctions, "_invoke_with_callback", with_scaled_timeout, scale)
    groups = cloudwatch_logs._log_groups
    wrap(
        cloudwatch_logs,
        "_filter_log_events",
        with_prefix_and_pages,
        lambda group: groups.get(group, {}).get("streams", ()),
    )
    wrap(lambda_runtime, "execution_credentials", with_role_session, sts.register_session)


def with_ranges(
    get_object: Callable[..., Answer], parse_range: Callable[[str, int], tuple[int, int] | None]
) -> Callable[..., Answer]:
    """``get_object`` that also honours Range where it answered with the whole object."""

    def get(
        bucket: str,
        key: str,
        headers: Mapping[str, str],
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        status, answer, body = get_object(bucket, key, headers, query)
        wanted = headers.get("range", "")
        found = parse_range(wanted, len(body)) if status == 200 and wanted else None
        if found is None:
            return status, answer, body
        start, end = found
        part = body[start : end + 1]
        # S3 gives no checksum of the whole object with a part of it.
        part_headers = {
            k: v for k, v in answer.items() if not k.lower().startswith("x-amz-checksum")
        }
        part_headers |= {
            "Content-Length": str(len(part)),
            "Content-Range": f"bytes {start}-{end}/{len(body)}",
        }
        return 206, part_headers, part

    return get


def with_known_version(fire: Callable[..., None]) -> Callable[..., None]:
    """``fire`` that lets ``naming_version`` know which version its event is about."""
    signature = inspect.signature(fire)

    def announce(*arguments: Any, **named: Any) -> None:
        given = signature.bind(*arguments, **named).arguments
        token = _version.set(given.get("version_id") or "")
        try:
            fire(*arguments, **named)
        finally:
            _version.reset(token)

    return announce


def with_version_id(dispatch: Callable[..., Any]) -> Callable[..., Any]:
    """``dispatch`` that adds ``version-id`` to the S3 events of versioned objects."""

    def deliver(event: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        version = _version.get()
        if event.get("Source") == "aws.s3" and version:
            detail = json.loads(event["Detail"])
            detail["object"]["version-id"] = version
            event = event | {"Detail": json.dumps(detail)}
        return dispatch(event, *arguments, **named)

    return deliver


def with_error_class(execute: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """``execute`` whose errors carry the name of the exception's class."""

    def invoke(*arguments: Any) -> dict[str, Any]:
        result = execute(*arguments)
        body = result.get("body")
        if result.get("error") and isinstance(body, dict):
            raised = _RAISED.findall(result.get("log", ""))
            if body.get("errorType") == "Runtime.HandlerError" and raised:
                result["body"] = body | {"errorType": raised[-1]}
        return result

    return invoke


def with_concurrency_limit(execute: Callable[..., Any], most: int) -> Callable[..., Any]:
    """``execute`` of which at most ``most`` calls are under way; the others wait."""
    turns = threading.BoundedSemaphore(most)

    def invoke(*arguments: Any) -> Any:
        with turns:
            return execute(*arguments)

    return invoke


def with_map_history(
    execute_task: Callable[..., Any], add_event: Callable[..., None]
) -> Callable[..., Any]:
    """``execute_task`` that also enters a Map's tasks into the execution's history."""

    def execute(
        state: Mapping[str, Any], given: Any, execution: dict[str, Any], context: dict[str, Any]
    ) -> Any:
        if "Map" not in context:  # the caller has entered it already
            return execute_task(state, given, execution, context)
        name = context["State"]["Name"]
        entered = {"name": name, "input": json.dumps(given)}
        add_event(execution, "TaskStateEntered", {"stateEnteredEventDetails": entered})
        answer = execute_task(state, given, execution, context)
        left = {"name": name, "output": json.dumps(answer[0])}
        add_event(execution, "TaskStateExited", {"stateExitedEventDetails": left})
        return answer

    return execute


def with_scaled_timeout(invoke: Callable[..., Any], scale: float) -> Callable[..., Any]:
    """``invoke``, which waits for a task token, with its state's timeout times ``scale``."""

    def wait(resource: str, given: Any, token: str, state: dict[str, Any]) -> Any:
        if "TimeoutSeconds" in state:
            state = state | {"TimeoutSeconds": state["TimeoutSeconds"] * scale}
        return invoke(resource, given, token, state)

    return wait


def with_role_session(
    credentials: Callable[..., dict[str, str]],
    register_session: Callable[[str, dict[str, Any]], None],
) -> Callable[..., dict[str, str]]:
    """``credentials`` that are a session of the function's role, under the function's name.

    The name is secret and token as well: all workers of a function share one session.
    """

    def give(function: Mapping[str, Any]) -> dict[str, str]:
        name = function["FunctionName"]
        register_session(name, session(name, function["Role"]))
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return credentials(function) | dict.fromkeys(keys, name)

    return give


def with_prefix_and_pages(filter_events: Filter, streams: Callable[[str], Iterable[str]]) -> Filter:
    """``filter_events`` that takes ``logStreamNamePrefix`` and pages with ``nextToken``.

    ``streams`` names the streams of a log group. A token is the time of the last event
    given out and how many of that time were.
    """

    def find(data: dict[str, Any]) -> Answer:
        wanted = dict(data)
        prefix = wanted.pop("logStreamNamePrefix", None)
        token = wanted.pop("nextToken", None)
        start, skipped = map(int, token.split("/")) if token else (wanted.get("startTime"), 0)
        if prefix is not None:
            names = [n for n in streams(data.get("logGroupName", "")) if n.startswith(prefix)]
            # Without a name MiniStack looks at every stream.
            wanted["logStreamNames"] = names or [prefix]
        if start is not None:
            wanted["startTime"] = start
        status, headers, body = filter_events(wanted)
        if status != 200:
            return status, headers, body
        return _page(status, headers, json.loads(body), skipped)

    return find


def _page(status: int, headers: dict[str, str], answer: Mapping[str, Any], skipped: int) -> Answer:
    """The answer less what an earlier page gave out, with a token when there may be more."""
    found: list[dict[str, Any]] = answer["events"]
    document = {**answer, "events": found[skipped:]}
    if len(found) >= PAGE:
        last = found[-1]["timestamp"]
        document["nextToken"] = f"{last}/{sum(e['timestamp'] == last for e in found)}"
    body = json.dumps(document).encode()
    return status, {**headers, "Content-Length": str(len(body))}, body
