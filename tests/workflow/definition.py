"""The definition as a value, and walks over it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "stacks/workflow/run.asl.json"
FUNCTIONS = ("Plan", "Dispatch", "Await", "Collect", "Verify", "Cleanup", "Report")
SUBSTITUTIONS = {
    "Partition",
    "Workflow",
    "DocumentName",
    "RollbackMachine",
    *(f"{name}Function" for name in FUNCTIONS),
}

State = dict[str, Any]
Machine = dict[str, Any]


def load() -> Machine:
    machine: Machine = json.loads(PATH.read_text())
    return machine


def placeholders() -> set[str]:
    """What the stack must substitute: ``${Name}``."""
    return set(re.findall(r"\$\{(\w+)\}", PATH.read_text()))


def substituted(functions: Mapping[str, str], rollback: str = "arn:aws:states:::m") -> Machine:
    """The definition as CloudFormation would deploy it."""
    values = {f"{name}Function": arn for name, arn in functions.items()}
    values |= {"Partition": "aws", "Workflow": "sync", "DocumentName": "codeferry-test-sync"}
    values["RollbackMachine"] = rollback
    machine: Machine = json.loads(
        re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], PATH.read_text())
    )
    return machine


def machines(machine: Machine) -> Iterator[Machine]:
    """The machine and, inside its Maps, the machines of their iterations."""
    yield machine
    for state in machine["States"].values():
        if state["Type"] == "Map":
            yield from machines(state["ItemProcessor"])


def states(machine: Machine) -> dict[str, State]:
    """Every state by name, however deep."""
    return {name: state for m in machines(machine) for name, state in m["States"].items()}


def targets(state: State) -> list[str]:
    """Every state that may come next."""
    choices = [choice["Next"] for choice in state.get("Choices", ())]
    caught = [catcher["Next"] for catcher in state.get("Catch", ())]
    plain = [state[field] for field in ("Next", "Default") if field in state]
    return [*plain, *choices, *caught]
