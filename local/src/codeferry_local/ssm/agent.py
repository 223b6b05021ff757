"""The agent of an instance: runs a command's steps in order and records each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from codeferry_local.ssm import parameters
from codeferry_local.ssm.commands import Invocation, StepRecord
from codeferry_local.ssm.content import SHELL_ACTION, Step
from codeferry_local.ssm.executors import (
    Ending,
    Executor,
    InvocationContext,
    NullExecutor,
    StepOutcome,
)
from codeferry_local.ssm.instances import LocalInstance
from codeferry_local.ssm.log_stream import LogShipper, StepLog
from codeferry_local.ssm.null_answer import applied
from codeferry_local.ssm.shell import ShellExecutor
from codeferry_local.ssm.status import Detail

# Exit codes that mean something to the agent.
_EXIT_WITH_SUCCESS, _EXIT_WITH_FAILURE, _STOPPED, _REBOOT = 168, 169, 137, 194
# A real instance could reboot for ever; here the step just starts again, a few times.
_MOST_REBOOTS = 3

Lock = AbstractContextManager[Any]


class Agent:
    """Runs invocations on local instances; has no state of its own."""

    def __init__(
        self,
        *,
        region: str,
        time_scale: float,
        shell: ShellExecutor | None = None,
        logs: LogShipper | None = None,
    ) -> None:
        self._region = region
        self._time_scale = time_scale
        self._logs = logs
        self._executors: dict[str, Executor] = {
            "shell": shell or ShellExecutor(),
            "null": NullExecutor(applied),
        }

    def run(self, invocation: Invocation, instance: LocalInstance, lock: Lock) -> Detail | None:
        """Run every step; the invocation's status, or None when nobody will ever know it.

        Records of steps change under ``lock`` only.
        """
        details: list[Detail] = []
        leave: Detail | None = None
        for step, record in zip(invocation.command.content.steps, invocation.steps, strict=True):
            if leave is not None and not step.final:
                _skip(record, lock, "Step execution skipped: an earlier step ended the document")
                continue
            if (step.platform or "Linux") != instance.platform_type or step.action != SHELL_ACTION:
                _skip(record, lock, "Step execution skipped due to incompatible platform")
                continue
            outcome = self._run_step(invocation, instance, step, record, lock)
            if outcome.ending is Ending.LOST:
                return None
            details.append(record.detail)
            leave = leave or _leaving(step, record, outcome)
            if step.on_failure == "successAndExit" and record.detail is Detail.FAILED:
                details[-1] = Detail.SUCCESS
        return _worst(details)

    def _run_step(
        self,
        invocation: Invocation,
        instance: LocalInstance,
        step: Step,
        record: StepRecord,
        lock: Lock,
    ) -> StepOutcome:
        with lock:
            record.detail, record.started = Detail.IN_PROGRESS, datetime.now(UTC)
        context = self._context(invocation, instance, step)
        outcome = _run_through_reboots(self._executor(instance), context)
        if outcome.ending is not Ending.LOST:
            with lock:
                _record(record, outcome)
        return outcome

    def _executor(self, instance: LocalInstance) -> Executor:
        chosen = instance.executor
        return self._executors[chosen] if isinstance(chosen, str) else chosen

    def _context(
        self, invocation: Invocation, instance: LocalInstance, step: Step
    ) -> InvocationContext:
        command = invocation.command
        texts = parameters.literal(command.content, command.bound)
        return InvocationContext(
            command_id=command.id,
            document_name=command.bare_document_name,
            step=step.name,
            script=parameters.script_text(step, texts),
            timeout_seconds=parameters.step_timeout(step, texts),
            instance=instance,
            parameters=command.bound,
            working_directory=str(parameters.substitute(step.working_directory, texts)),
            environment=parameters.variables(command.content, command.bound),
            region=self._region,
            time_scale=self._time_scale,
            interrupt=invocation.interrupt,
            log=self._log(invocation, step),
        )

    def _log(self, invocation: Invocation, step: Step) -> StepLog | None:
        command = invocation.command
        config: Mapping[str, Any] = command.request.get("CloudWatchOutputConfig", {})
        if self._logs is None or not config.get("CloudWatchOutputEnabled"):
            return None
        group = config.get("CloudWatchLogGroupName") or f"/aws/ssm/{command.bare_document_name}"
        return self._logs.step_log(group, f"{command.id}/{invocation.instance_id}/{step.name}")


def _skip(record: StepRecord, lock: Lock, why: str) -> None:
    with lock:
        record.detail, record.exit_code = Detail.SUCCESS, 0
        record.stdout = f"{why}. Step name: {record.name}"
        record.started = record.finished = datetime.now(UTC)


def _run_through_reboots(executor: Executor, context: InvocationContext) -> StepOutcome:
    outcome = executor.run(context)
    for _ in range(_MOST_REBOOTS):
        if outcome.ending is not Ending.EXITED or outcome.exit_code != _REBOOT:
            break
        outcome = executor.run(context)
    return outcome


def _record(record: StepRecord, outcome: StepOutcome) -> None:
    record.exit_code = 0 if outcome.exit_code == _EXIT_WITH_SUCCESS else outcome.exit_code
    record.stdout, record.stderr = outcome.stdout, outcome.stderr
    record.detail = _detail(outcome)
    record.finished = datetime.now(UTC)


def _detail(outcome: StepOutcome) -> Detail:
    if outcome.ending is Ending.CANCELLED:
        return Detail.CANCELLED
    # The agent takes 137 for its own kill, also when the script itself exits with it.
    if outcome.ending is Ending.TIMED_OUT or outcome.exit_code == _STOPPED:
        return Detail.EXECUTION_TIMED_OUT
    return Detail.SUCCESS if outcome.exit_code in (0, _EXIT_WITH_SUCCESS) else Detail.FAILED


def _leaving(step: Step, record: StepRecord, outcome: StepOutcome) -> Detail | None:
    """How the document ends here, if this step ends it."""
    if record.detail is Detail.CANCELLED:
        return Detail.CANCELLED
    if outcome.exit_code in (_EXIT_WITH_SUCCESS, _EXIT_WITH_FAILURE):
        return record.detail
    word = step.on_success if record.detail is Detail.SUCCESS else step.on_failure
    return record.detail if word in ("exit", "successAndExit") else None


def _worst(details: Iterable[Detail]) -> Detail:
    found = set(details)
    for detail in (Detail.CANCELLED, Detail.EXECUTION_TIMED_OUT, Detail.FAILED):
        if detail in found:
            return detail
    return Detail.SUCCESS
