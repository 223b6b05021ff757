"""The operations on commands: send, list and cancel."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from codeferry_local.ssm.api.answers import (
    Answer,
    Request,
    command_view,
    invocation_view,
    page,
    step_view,
)
from codeferry_local.ssm.commands import Command, Invocation, StepRecord, absolute, invocation_of
from codeferry_local.ssm.documents import parameters
from codeferry_local.ssm.documents.content import load
from codeferry_local.ssm.documents.store import SIZE_LIMIT, DocumentStore, Version
from codeferry_local.ssm.errors import (
    DuplicateInstanceId,
    InvalidCommandId,
    InvalidDocument,
    InvalidFilterKey,
    InvalidFilterValue,
    InvalidInstanceId,
    InvalidPluginName,
    InvocationDoesNotExist,
    MaxDocumentSizeExceeded,
    UnsupportedPlatformType,
    ValidationException,
)
from codeferry_local.ssm.faults import Faults
from codeferry_local.ssm.instances import Fleet, LocalInstance, targeted
from codeferry_local.ssm.scheduler import Scheduler

T = TypeVar("T")

_DEFAULT_TIMEOUT = 3_600


@dataclass(frozen=True, kw_only=True)
class CommandOperations:
    """SendCommand and what follows a command; holds every command ever sent."""

    documents: DocumentStore
    fleet: Fleet
    faults: Faults
    scheduler: Scheduler
    account: str
    _commands: dict[str, Command] = field(default_factory=dict)
    _sequence: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def send_command(self, request: Request) -> Answer:
        """Check everything AWS checks, start the command, and answer with it as Pending."""
        version = self.documents.get(request["DocumentName"]).version(
            request.get("DocumentVersion")
        )
        _check_hash(request, version)
        bound = parameters.bind(version.content.parameters, request.get("Parameters", {}))
        _check_size(request, version)
        instances = self._instances(request)
        _check_platform(request, version, instances)
        command = self._command(request, version, bound, instances)
        with self.scheduler.lock:
            self._commands[command.id] = command
            answer = command_view(command)
            self.scheduler.submit(command)
        return {"Command": answer}

    def list_commands(self, request: Request) -> Answer:
        """Commands, newest first."""
        with self.scheduler.lock:
            found = [c for c in self._selected(request) if _passes(request, c, _command_passes)]
            items, token = page(found, lambda command: -command.sequence, request)
            return {"Commands": [command_view(c) for c in items], "NextToken": token}

    def list_command_invocations(self, request: Request) -> Answer:
        """Invocations of one command or of all, optionally with their steps."""
        wanted = request.get("InstanceId")
        with self.scheduler.lock:
            found = (
                invocation
                for command in self._visible(self._selected(request))
                for invocation in command.invocations.values()
                if wanted in (None, invocation.instance_id)
                and _passes(request, invocation, _invocation_passes)
            )
            items, token = page(found, _invocation_key, request)
            details = request.get("Details", False)
            views = [invocation_view(i, details=details) for i in items]
            return {"CommandInvocations": views, "NextToken": token}

    def get_command_invocation(self, request: Request) -> Answer:
        """One step of one invocation, with the heads of both its outputs."""
        with self.scheduler.lock:
            command = self._commands.get(request["CommandId"])
            hidden = command is None or self.faults.hides(command.id)
            if command is None or hidden or request["InstanceId"] not in command.invocations:
                raise InvocationDoesNotExist(
                    "The command ID and managed node ID you specified didn't match any invocations."
                )
            invocation = command.invocations[request["InstanceId"]]
            return step_view(invocation, _step(invocation, request.get("PluginName")))

    def cancel_command(self, request: Request) -> Answer:
        """Cancel a command, or its invocations on some instances."""
        command = self._known(request["CommandId"])
        instance_ids = request.get("InstanceIds", [])
        foreign = [i for i in instance_ids if i not in command.invocations]
        if foreign:
            raise InvalidInstanceId(f"Not targeted by this command: {', '.join(foreign)}.")
        self.scheduler.cancel(command, instance_ids)
        return {}

    def _known(self, command_id: str) -> Command:
        with self.scheduler.lock:
            if command_id not in self._commands:
                raise InvalidCommandId(f"There is no command {command_id}.")
            return self._commands[command_id]

    def _selected(self, request: Request) -> Sequence[Command]:
        if "CommandId" in request:
            return [self._known(request["CommandId"])]
        wanted = request.get("InstanceId")
        commands = self._commands.values()
        return [c for c in commands if wanted is None or wanted in c.invocations]

    def _visible(self, commands: Iterable[Command]) -> list[Command]:
        return [command for command in commands if not self.faults.hides(command.id)]

    def _instances(self, request: Request) -> list[LocalInstance]:
        instance_ids, targets = request.get("InstanceIds"), request.get("Targets")
        if instance_ids and targets:
            raise ValidationException("Specify either InstanceIds or Targets, not both.")
        if targets:
            return targeted(self.fleet, targets, self.account)
        if not instance_ids:
            raise InvalidInstanceId("Specify InstanceIds or Targets.")
        if len(set(instance_ids)) < len(instance_ids):
            raise DuplicateInstanceId("A managed node ID is specified more than once.")
        return self.fleet.require(instance_ids, self.account)

    def _command(
        self,
        request: Request,
        version: Version,
        bound: dict[str, Any],
        instances: Sequence[LocalInstance],
    ) -> Command:
        now = datetime.now(UTC)
        timeout = request.get("TimeoutSeconds", _DEFAULT_TIMEOUT)
        execution = parameters.execution_seconds(version.content, bound)
        total = len(instances)
        command = Command(
            id=str(uuid.uuid4()),
            sequence=next(self._sequence),
            document_name=request["DocumentName"],
            document_version=request.get("DocumentVersion", "$DEFAULT"),
            content=version.content,
            document=load(version.text, version.format),
            request=request,
            bound=bound,
            requested=now,
            expires=now + timedelta(seconds=timeout + execution),
            timeout_seconds=timeout,
            execution_seconds=execution,
            max_concurrency=absolute(request.get("MaxConcurrency", "50"), total, at_least=1),
            max_errors=absolute(request.get("MaxErrors", "0"), total, at_least=0),
        )
        command.invocations = {
            i.instance_id: invocation_of(command, i.instance_id, i.name) for i in instances
        }
        return command


def _check_hash(request: Request, version: Version) -> None:
    pinned = request.get("DocumentHash")
    if pinned is None:
        return
    if request.get("DocumentHashType", "Sha256") != "Sha256" or pinned != version.sha256:
        raise InvalidDocument(
            "The specified document hash doesn't match the document's.",
            hint="The document changed since its hash was taken; describe it again.",
        )


def _check_size(request: Request, version: Version) -> None:
    given = sum(
        len(name.encode()) + sum(len(value.encode()) for value in values)
        for name, values in request.get("Parameters", {}).items()
    )
    if len(version.text.encode()) + given > SIZE_LIMIT:
        raise MaxDocumentSizeExceeded("Document and parameters together are limited to 64 KB.")


def _check_platform(request: Request, version: Version, instances: Sequence[LocalInstance]) -> None:
    platforms = version.content.platforms
    unfit = [i.instance_id for i in instances if i.platform_type not in platforms]
    # Named instances are refused at once; targeted ones end as InvalidPlatform.
    if unfit and request.get("InstanceIds"):
        raise UnsupportedPlatformType(
            f"The document runs on {', '.join(platforms)} and not on {', '.join(unfit)}."
        )


def _step(invocation: Invocation, name: str | None) -> StepRecord:
    steps = invocation.steps
    if name is None and len(steps) == 1:
        return steps[0]
    for step in steps:
        if step.name == name:
            return step
    raise InvalidPluginName(
        f"Name one of the document's steps: {', '.join(s.name for s in steps)}."
    )


def _invocation_key(invocation: Invocation) -> str:
    """Newest command first, then by instance id."""
    return f"{10**12 - invocation.command.sequence:013d} {invocation.instance_id}"


def _passes(request: Request, item: T, selects: Callable[[T, str, str], bool]) -> bool:
    return all(selects(item, f["key"], f["value"]) for f in request.get("Filters", []))


def _command_passes(command: Command, key: str, value: str) -> bool:
    if key == "ExecutionStage":
        return command.detail.terminal == (value == "Complete")
    return _common_passes(command, command.detail.status, command.detail.value, key, value)


def _invocation_passes(invocation: Invocation, key: str, value: str) -> bool:
    if key == "ExecutionStage":
        raise InvalidFilterKey("ExecutionStage can't be used with ListCommandInvocations.")
    detail = invocation.detail
    return _common_passes(invocation.command, detail.status, detail.value, key, value)


def _common_passes(command: Command, status: str, detail: str, key: str, value: str) -> bool:
    if key == "Status":
        return value in (status, detail)
    if key == "DocumentName":
        return value in (command.document_name, command.bare_document_name)
    moment = _moment(value)
    return command.requested > moment if key == "InvokedAfter" else command.requested < moment


def _moment(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise InvalidFilterValue(f"{value!r} is no timestamp like 2024-07-07T00:00:00Z.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
