"""SSM Run Command on this machine: an HTTP server that really executes documents."""

from __future__ import annotations

from codeferry_local.ssm.errors import SsmError
from codeferry_local.ssm.events import Event, EventSink
from codeferry_local.ssm.executors import (
    Executor,
    InvocationContext,
    NullExecutor,
    StepOutcome,
)
from codeferry_local.ssm.faults import FaultPlan, Faults
from codeferry_local.ssm.instances import LocalInstance
from codeferry_local.ssm.server import SsmServer

__all__ = [
    "Event",
    "EventSink",
    "Executor",
    "FaultPlan",
    "Faults",
    "InvocationContext",
    "LocalInstance",
    "NullExecutor",
    "SsmError",
    "SsmServer",
    "StepOutcome",
]
