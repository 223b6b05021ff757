"""Corrections of the pinned MiniStack 1.5.33 where its Step Functions are kinder than AWS's.

- It invokes functions and starts executions as nobody; AWS as the state machine's role, which
  has to be allowed to.
- It takes data of any size; AWS ends the execution with ``States.DataLimitExceeded``, which
  ``States.ALL`` does not match, when the input or output of a state is over 256 KiB
  (Developer Guide, "Handling errors in workflows" and "Service quotas", "Maximum input or
  output size for a task, state, or execution").
- It calls a throttled invocation ``Lambda.Unknown``; AWS ``Lambda.TooManyRequestsException``
  ("Handling errors", "transient Lambda service exceptions").
- It reads no state machine out of a task token; AWS authorises an answer to it as the machine's
  (Service Authorization Reference, ``states:SendTaskSuccess``).
- A state that waits for a task token ignores that its function has failed; on AWS the task
  has failed then, and is retried or caught."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from codeferry_local.emulator import wrap
from codeferry_local.emulator.iam import refusal_of, session

MOST_BYTES = 262_144
DATA_LIMIT = "States.DataLimitExceeded"
THROTTLED = "Lambda.TooManyRequestsException"

_DENIED = "(Service: {}; Status Code: 403; Error Code: AccessDeniedException)"

# The state machine whose state runs, and the token that it waits for.
_machine: ContextVar[str] = ContextVar("machine", default="")
_token: ContextVar[str] = ContextVar("token", default="")

Execute = Callable[..., tuple[Any, Any]]
Error = type[Exception]  # of an error's name and its cause


def close_gaps() -> None:
    """Wrap what has to be wrapped; called before the server starts."""
    from ministack.core import iam_actions
    from ministack.services import stepfunctions as sfn
    from ministack.services import sts

    error = sfn._ExecutionError
    for name in ("_execute_task", "_execute_map", "_execute_parallel", "_execute_pass"):
        wrap(sfn, name, with_state_size_limit, error)
    wrap(sfn, "_execute_task", with_known_machine)
    wrap(sfn, "_error_matches", with_uncaught_data_limit)

    def act_as(machine: str) -> str:
        return _act_as(sfn._state_machines[machine], sts.register_session)

    def denied(name: str, service: str) -> Callable[[str], Exception]:
        return lambda cause: error(name, f"{cause} {_DENIED.format(service)}")

    wrap(
        sfn,
        "_call_lambda",
        with_permission,
        act_as,
        lambda function, _: ("lambda:InvokeFunction", function),
        denied("Lambda.AWSLambdaException", "AWSLambda"),
    )
    for name in ("_invoke_nested_start_execution", "_invoke_nested_start_execution_sync"):
        wrap(
            sfn,
            name,
            with_permission,
            act_as,
            lambda _, given: ("states:StartExecution", given["StateMachineArn"]),
            denied("StepFunctions.AWSStepFunctionsException", "AWSStepFunctions"),
        )
    wrap(sfn, "_call_lambda", with_throttling_name, error)
    wrap(sfn, "_call_lambda", with_call_size_limit, error)
    wrap(sfn, "_call_lambda", with_failed_wait, error, sfn._task_tokens)
    waiting: dict[str, str] = {}
    wrap(sfn, "_invoke_with_callback", with_known_token, waiting)
    wrap(iam_actions, "extract_resource_arn", with_machine_resource, waiting)


def with_state_size_limit(execute: Execute, error: Error) -> Execute:
    """``execute``, a state, of which neither input nor output may be over 256 KiB."""

    def run(state: Mapping[str, Any], given: Any, *rest: Any) -> tuple[Any, Any]:
        _measure(given, error)
        output, following = execute(state, given, *rest)
        _measure(output, error)
        return output, following

    return run


def _measure(value: Any, error: Error) -> None:
    """Sizes are bytes of UTF-8, of JSON as MiniStack itself writes it but without its spaces."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MOST_BYTES:
        raise error(
            DATA_LIMIT,
            f"A state's input or output of {size} bytes exceeds the maximum number of bytes "
            f"service limit, {MOST_BYTES}.",
        )


def with_call_size_limit(
    call: Callable[[str, Any], Any], error: Error
) -> Callable[[str, Any], Any]:
    """``call`` whose argument and answer may not be over the limit either, whatever the state
    keeps of them."""

    def invoke(function: str, event: Any) -> Any:
        _measure(event, error)
        answer = call(function, event)
        _measure(answer, error)
        return answer

    return invoke


def with_uncaught_data_limit(matches: Callable[..., bool]) -> Callable[..., bool]:
    """``matches`` for which only its own name matches ``States.DataLimitExceeded``."""

    def match(patterns: list[str], error: str) -> bool:
        return DATA_LIMIT in patterns if error == DATA_LIMIT else matches(patterns, error)

    return match


def with_known_machine(execute: Execute) -> Execute:
    """``execute``, a task, that knows the state machine it is of."""

    def run(
        state: Mapping[str, Any], given: Any, execution: Mapping[str, Any], context: Any
    ) -> tuple[Any, Any]:
        token = _machine.set(execution.get("stateMachineArn", ""))
        try:
            return execute(state, given, execution, context)
        finally:
            _machine.reset(token)

    return run


def with_permission(
    call: Callable[[str, Any], Any],
    act_as: Callable[[str], str],
    needs: Callable[[str, Any], tuple[str, str]],
    denied: Callable[[str], Exception],
) -> Callable[[str, Any], Any]:
    """``call`` for which the state machine's role has to allow what it ``needs``: an action, on a
    resource."""

    def invoke(named: str, given: Any) -> Any:
        machine = _machine.get()
        if machine:
            refused = refusal_of(act_as(machine), [(*needs(named, given), {})])
            if refused is not None:
                raise denied(refused["message"])
        return call(named, given)

    return invoke


def _act_as(machine: Mapping[str, Any], register: Callable[[str, dict[str, Any]], None]) -> str:
    """The access key, the state machine's name, of a session of its role."""
    from ministack.services import iam

    name, arn = machine["name"], machine["roleArn"]
    account, role = arn.split(":")[4], arn.rpartition("/")[2]
    if iam._roles.get_scoped(account, None, role) is not None:
        register(name, session(name, arn))
    return str(name)


def with_throttling_name(
    call: Callable[[str, Any], Any], error: Error
) -> Callable[[str, Any], Any]:
    """``call`` whose throttling is called as AWS calls it."""

    def invoke(function: str, event: Any) -> Any:
        try:
            return call(function, event)
        except Exception as problem:
            cause = getattr(problem, "cause", "")
            if getattr(problem, "error", "") == "Lambda.Unknown" and "TooManyRequests" in cause:
                raise error(THROTTLED, str(json.loads(cause)["message"])) from problem
            raise

    return invoke


def with_known_token(invoke: Callable[..., Any], waiting: dict[str, str]) -> Callable[..., Any]:
    """``invoke``, which waits for a task token, known to ``with_failed_wait``, and notes in
    ``waiting`` which machine waits for it (also when it has ceased: an answer may come late)."""

    def wait(resource: str, given: Any, token: str, *rest: Any) -> Any:
        waiting[token] = _machine.get()
        known = _token.set(token)
        try:
            return invoke(resource, given, token, *rest)
        finally:
            _token.reset(known)

    return wait


def with_machine_resource(
    resource_of: Callable[..., str], waiting: Mapping[str, str]
) -> Callable[..., str]:
    """``resource_of`` a request, for which an answer to a task token is about its machine."""

    def find(service: str, method: str, path: str, headers: Any, body: bytes, *rest: Any) -> str:
        found = resource_of(service, method, path, headers, body, *rest)
        if service != "states" or found != "*" or b'"taskToken"' not in body:
            return found
        return waiting.get(json.loads(body)["taskToken"]) or found

    return find


def with_failed_wait(
    call: Callable[[str, Any], Any], error: Error, tokens: Mapping[str, dict[str, Any]]
) -> Callable[[str, Any], Any]:
    """``call`` whose failure ends the wait for the task token it was made for."""

    def invoke(function: str, event: Any) -> Any:
        try:
            return call(function, event)
        except Exception as problem:
            waiting = tokens.get(_token.get())
            if waiting is not None and isinstance(problem, error):
                failed: Any = problem
                waiting["error"] = {"Error": failed.error, "Cause": failed.cause}
                waiting["event"].set()
            raise

    return invoke
