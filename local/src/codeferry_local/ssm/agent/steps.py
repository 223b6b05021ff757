"""The agent of an instance: runs a command's steps in order and records each.

Every rule here is the genuine agent's: ``RunPlugins`` (agent/framework/runpluginutil) for the
order and what ends a document, ``DocumentResultAggregator`` (agent/contracts/aggregator.go) for
how the whole ended. docs/local.md lists what is as there and what is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from codeferry_local.ssm.commands import Detail, Invocation, StepRecord
from codeferry_local.ssm.documents import parameters
from codeferry_local.ssm.documents.content import SHELL_ACTION, Step
from codeferry_local.ssm.instances import (
    EXIT_WITH_FAILURE,
    EXIT_WITH_SUCCESS,
    OUTCOMES,
    REBOOT,
    STOPPED,
    Executor,
    InvocationContext,
    LocalInstance,
    Outcome,
    StepResult,
    applied,
    null_executor,
)
from codeferry_local.ssm.output import LogShipper, StepLog, both, head

# A real instance could reboot for ever; here the step just starts again, a few times.
_MOST_REBOOTS = 3
_ENDED_BY = (
    "\nStep exited with code 168. Therefore, marking step as succeeded."
    " Further document steps will be skipped.",
    "\nStep exited with code 169. Therefore, marking step as Failed."
    " Further document steps will be skipped.",
    "\nStep was found to have onFailure property. Further document steps will be skipped.",
)

Lock = AbstractContextManager[Any]


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Runs invocations on local instances; has no state of its own."""

    region: str
    time_scale: float
    shell: Executor
    logs: LogShipper | None = None

    def run(self, invocation: Invocation, instance: LocalInstance, lock: Lock) -> Detail | None:
        """Run every step; the invocation's status, or None when nobody will ever know it.

        Records of steps change under ``lock`` only.
        """
        command = invocation.command
        if parameters.breaks_its_pattern(command.content, command.bound):
            # ParseSendCommandMessage: the document is refused before any step.
            return Detail.FAILED
        left = False
        for step, record in zip(command.content.steps, invocation.steps, strict=True):
            reason = _skipped(step, instance, left=left)
            if reason:
                self._settle(record, lock, Detail.SKIPPED, 0, output=reason)
                continue
            result = self._run_step(invocation, instance, step, record, lock)
            if result.outcome is Outcome.LOST:
                return None
            left = left or _leaves(step, record)
        return _worst(record.detail for record in invocation.steps)

    def _run_step(
        self,
        invocation: Invocation,
        instance: LocalInstance,
        step: Step,
        record: StepRecord,
        lock: Lock,
    ) -> StepResult:
        with lock:
            record.detail, record.started = Detail.IN_PROGRESS, datetime.now(UTC)
        result = self._result(invocation, instance, step)
        if result.outcome is not Outcome.LOST:
            self._report(step, record, result, lock)
        return result

    def _result(self, invocation: Invocation, instance: LocalInstance, step: Step) -> StepResult:
        reason = invocation.interrupt.reason
        if reason is not None:
            # Execute of runscript.go: a step that follows a cancelled one is never started,
            # the finallyStep neither.
            return StepResult(exit_code=1, outcome=OUTCOMES[reason])
        try:
            context = self._context(invocation, instance, step)
        except parameters.InvalidProperties as error:
            return StepResult(exit_code=1, stderr=str(error))
        return _run_through_reboots(self._executor(instance), context)

    def _report(self, step: Step, record: StepRecord, result: StepResult, lock: Lock) -> None:
        """Record what the agent replies of a step that ran (RunPlugins)."""
        code, detail = result.exit_code, _detail(result)
        stdout, stderr = result.stdout, result.stderr
        output = both(stdout, "" if code == EXIT_WITH_SUCCESS else stderr)
        succeeded, failed, modified = _ENDED_BY
        if code == EXIT_WITH_SUCCESS:
            detail, stdout, stderr = Detail.SUCCESS, stdout + succeeded, ""
        elif code == EXIT_WITH_FAILURE:
            stdout, stderr = stdout + failed, stderr + failed
        elif detail is Detail.FAILED and step.on_failure in ("exit", "successAndExit"):
            stdout, stderr = stdout + modified, stderr + modified
            if step.on_failure == "successAndExit":
                detail, code = Detail.SUCCESS, EXIT_WITH_SUCCESS
        self._settle(
            record,
            lock,
            detail,
            code,
            stdout=head(stdout),
            stderr=head(stderr),
            output=output,
        )

    def _settle(
        self,
        record: StepRecord,
        lock: Lock,
        detail: Detail,
        exit_code: int,
        *,
        stdout: str = "",
        stderr: str = "",
        output: str = "",
    ) -> None:
        with lock:
            record.detail, record.exit_code = detail, exit_code
            record.stdout, record.stderr, record.output = stdout, stderr, output
            record.finished = datetime.now(UTC)
            record.started = record.started or record.finished

    def _executor(self, instance: LocalInstance) -> Executor:
        if isinstance(instance.executor, str):
            return self.shell if instance.executor == "shell" else null_executor(applied)
        return instance.executor

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
            region=self.region,
            time_scale=self.time_scale,
            interrupt=invocation.interrupt,
            log=self._log(invocation, step),
        )

    def _log(self, invocation: Invocation, step: Step) -> StepLog | None:
        command = invocation.command
        config: Mapping[str, Any] = command.request.get("CloudWatchOutputConfig", {})
        if self.logs is None or not config.get("CloudWatchOutputEnabled"):
            return None
        group = config.get("CloudWatchLogGroupName") or f"/aws/ssm/{command.bare_document_name}"
        return self.logs.step_log(group, f"{command.id}/{invocation.instance_id}/{step.name}")


def _skipped(step: Step, instance: LocalInstance, *, left: bool) -> str:
    """Why the step does not run, in the agent's words; empty when it does."""
    if left and not step.final:
        return (
            f"Plugin with name {step.action} and id {step.name} skipped due to prior step with "
            "an exit condition"
        )
    if step.action != SHELL_ACTION:
        return (
            f"Step execution skipped due to unsupported plugin: {step.action}."
            f" Step name: {step.name}"
        )
    if (step.platform or "Linux") != instance.platform_type:
        return (
            "Step execution skipped due to unsatisfied preconditions: "
            f"'\"StringEquals\": [platformType, {step.platform}]'. Step name: {step.name}"
        )
    return ""


def _run_through_reboots(executor: Executor, context: InvocationContext) -> StepResult:
    """The last attempt's result with the output of all: their files are added to."""
    result = executor(context)
    for _ in range(_MOST_REBOOTS):
        if result.outcome is not Outcome.EXITED or result.exit_code != REBOOT:
            break
        before, result = result, executor(context)
        result = replace(
            result, stdout=before.stdout + result.stdout, stderr=before.stderr + result.stderr
        )
    return result


def _detail(result: StepResult) -> Detail:
    """GetStatus of pluginutil_unix.go, by the exit code."""
    if result.outcome is Outcome.CANCELLED:
        return Detail.CANCELLED
    # The agent takes 137 for its own kill, also when the script itself exits with it.
    if result.outcome is Outcome.TIMED_OUT or result.exit_code == STOPPED:
        return Detail.EXECUTION_TIMED_OUT
    return Detail.SUCCESS if result.exit_code == 0 else Detail.FAILED


def _leaves(step: Step, record: StepRecord) -> bool:
    """Whether the document ends with this step (getShouldPluginSkipBasedOnControlFlow).

    A step that timed out or was cancelled has not failed: onFailure says nothing of it.
    """
    return (
        record.exit_code in (EXIT_WITH_SUCCESS, EXIT_WITH_FAILURE)
        or (record.detail is Detail.FAILED and step.on_failure == "exit")
        or (record.detail is Detail.SUCCESS and step.on_success == "exit")
    )


def _worst(details: Iterable[Detail]) -> Detail:
    """Failed > TimedOut > Cancelled > Success: "a contract between SSM service and agent"."""
    found = set(details)
    for detail in (Detail.FAILED, Detail.EXECUTION_TIMED_OUT, Detail.CANCELLED):
        if detail in found:
            return detail
    return Detail.SUCCESS
