"""The local SSM server: the parts put together behind one URL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore import xform_name

from codeferry_local.emulator.control import Journal
from codeferry_local.emulator.lifecycle import expire
from codeferry_local.ssm.agent.polling import Messages, PollingAgents
from codeferry_local.ssm.agent.shell import OUTPUT_RATE, ShellExecutor
from codeferry_local.ssm.agent.steps import Agent
from codeferry_local.ssm.api.access import Authorize, access_key, call_of, check_allowed
from codeferry_local.ssm.api.aws import Clients, Refusing, parameter_operations
from codeferry_local.ssm.api.commands import CommandOperations
from codeferry_local.ssm.api.control import Control
from codeferry_local.ssm.api.documents import DocumentOperations
from codeferry_local.ssm.api.http import DropResponse, HttpServer
from codeferry_local.ssm.api.instances import InstanceOperations
from codeferry_local.ssm.api.messages import POLL_SECONDS, MessageOperations
from codeferry_local.ssm.api.service_model import check_request, serialize, ssm_model
from codeferry_local.ssm.documents.store import DocumentStore
from codeferry_local.ssm.errors import (
    SerializationException,
    SsmError,
    ThrottlingException,
    UnknownOperationException,
)
from codeferry_local.ssm.events import Announcer, EventSink, RuleEvents
from codeferry_local.ssm.faults import Faults
from codeferry_local.ssm.instances import Executor, Fleet, LocalInstance
from codeferry_local.ssm.output import LogShipper
from codeferry_local.ssm.scheduler import Scheduler

Operation = Callable[[dict[str, Any]], dict[str, Any]]


class SsmServer:
    """SSM Run Command on one machine: ``start()``, then talk to ``url`` with any SDK.

    aws_endpoint: where CloudWatch Logs, EventBridge, Lambda and Parameter Store are; without
        it output is not logged, no event is delivered (unless ``event_sink`` takes them), and
        there are no parameters.
    time_scale: multiplies every wait (delivery and execution timeouts, delays), so a
        test needs no 30 s; reported values stay unscaled.
    disk_cap: bytes of each output file of a step; the rest is not written.
    paced: what only costs time on a genuine agent costs it here, too (scaled): its log is
        written once a second and waited for, its output taken at OUTPUT_RATE, and it has room
        for so many commands. Everything else is as the genuine agent has it always.
    executor: what carries commands out on instances that are registered without saying.
    poll_seconds: how long an agent's call for messages is held where there are none.
    authorize: asked before every operation whether the caller may; without it everybody may.
    """

    def __init__(
        self,
        *,
        region: str = "us-east-1",
        account_id: str = "000000000000",
        aws_endpoint: str | None = None,
        event_sink: EventSink | None = None,
        time_scale: float = 1.0,
        disk_cap: int = 64 * 1024 * 1024,
        paced: bool = True,
        executor: str = "shell",
        poll_seconds: float = POLL_SECONDS,
        authorize: Authorize | None = None,
    ) -> None:
        self._executor = executor
        self._account = account_id
        self._region = region
        self._authorize = authorize
        self._time_scale = time_scale
        self.documents = DocumentStore()
        self.faults = Faults()
        self.fleet = Fleet()
        self.journal = Journal()
        clients = Clients(endpoint=aws_endpoint, region=region, account=account_id)
        self._sink = event_sink or (RuleEvents(clients) if aws_endpoint else None)
        pace = time_scale if paced else None
        self._logs = None
        if aws_endpoint:
            self._logs = LogShipper(lambda: self._logs_client(clients), pace=pace)
        announcer = Announcer(
            sink=self._sink,
            faults=self.faults,
            account=account_id,
            region=region,
            time_scale=time_scale,
        )
        self._messages = Messages()
        polling = PollingAgents(self._messages)
        self._scheduler = Scheduler(
            fleet=self.fleet,
            faults=self.faults,
            agent=Agent(
                region=region,
                time_scale=time_scale,
                shell=ShellExecutor(disk_cap=disk_cap, rate=OUTPUT_RATE if paced else None).run,
                logs=self._logs,
            ),
            polling=polling,
            announcer=announcer,
            time_scale=time_scale,
            paced=paced,
        )
        self._operations = self._find_operations()
        self._of_agents = MessageOperations(
            fleet=self.fleet,
            messages=self._messages,
            agents=polling,
            url=lambda: self.url,
            poll_seconds=poll_seconds,
        ).by_name()
        if aws_endpoint:
            self._operations |= parameter_operations(lambda: clients("ssm"))
        control = Control(
            faults=self.faults,
            fleet=self.fleet,
            journal=self.journal,
            announce_start=announcer.announce_start,
            advance=self.advance,
            executor=executor,
            expire=lambda *what: expire(clients("s3"), *what),
        )
        self._http = HttpServer(self.call, control.handle)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="ssm-http"
        )

    @property
    def url(self) -> str:
        """The endpoint, for AWS_ENDPOINT_URL_SSM."""
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> SsmServer:
        """Serve, from a thread of its own."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Hang up, kill what runs, deliver what is queued, end every thread."""
        self._messages.stop()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self._http.close_connections()
        self._scheduler.stop()
        if self._sink is not None:
            self._sink.stop()
        if self._logs is not None:
            self._logs.stop()

    def __enter__(self) -> SsmServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_instance(
        self,
        instance_id: str,
        root: Path,
        *,
        tags: dict[str, str] | None = None,
        name: str = "",
        executor: str | Executor | None = None,
        platform_type: str = "Linux",
    ) -> LocalInstance:
        """Register an instance whose file system is ``root``."""
        instance = LocalInstance(
            instance_id=instance_id,
            root=root,
            tags=tags or {},
            name=name,
            executor=executor or self._executor,
            platform_type=platform_type,
        )
        self.fleet.add(instance)
        return instance

    def advance(self, seconds: float) -> None:
        """Let so many seconds (before ``time_scale``) pass at once for delivery and total
        timeouts, slow starts, losses and late events; a step that runs keeps its own clock."""
        self._scheduler.timers.advance(seconds * self._time_scale)

    def call(self, operation: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        """Do one operation of the API and note it in the journal."""
        try:
            answer = self._call(operation, body, headers)
        except SsmError as error:
            self.journal.add(call_of(operation, body, headers, error.code))
            raise
        self.journal.add(call_of(operation, body, headers, None))
        if self.faults.drops_response(operation):
            raise DropResponse
        return answer

    def _logs_client(self, clients: Clients) -> Any:
        how = self.faults.plan.logs
        return clients("logs") if how == "accept" else Refusing(how)

    def _call(self, operation: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        if operation in self._of_agents:
            return self._of_agents[operation](_object(body))
        if operation not in self._operations:
            raise UnknownOperationException(f"The local SSM has no operation {operation!r}.")
        if self._authorize is not None:
            check_allowed(
                self._authorize,
                access_key(headers),
                operation,
                body if isinstance(body, dict) else {},
                region=self._region,
                account=self._account,
            )
        if self.faults.throttles(operation):
            raise ThrottlingException("Rate exceeded")
        return serialize(operation, self._operations[operation](check_request(operation, body)))

    def _find_operations(self) -> dict[str, Operation]:
        subjects = (
            DocumentOperations(self.documents, self._account),
            InstanceOperations(self.fleet, self.faults, self.documents),
            CommandOperations(
                documents=self.documents,
                fleet=self.fleet,
                faults=self.faults,
                scheduler=self._scheduler,
                account=self._account,
            ),
        )
        return {
            name: getattr(subject, xform_name(name))
            for name in ssm_model().operation_names
            for subject in subjects
            if hasattr(subject, xform_name(name))
        }


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise SerializationException("The request must be an object.")
    return body
