"""The SSM documents: a thin shell frame around the instance's own Python, as files.

In a stack of their own because the embedded AWS registers them with its own SSM.
"""

from __future__ import annotations

import base64
import bz2
import graphlib
import hashlib
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from codeferry_contracts import names, parameters, timing
from codeferry_contracts.errors import CodeferryError
from stacks.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
FRAMES = Path(__file__).resolve().parent / "documents"
# What an instance runs.
SOURCES = ROOT / "agent" / "src" / "codeferry_agent" / "run"
IMPORT = re.compile(r"^from codeferry_agent\.run(?:\.(\w+))? import (.+)$", re.MULTILINE)
STEPS = {names.SYNC: "apply", names.SCRIPT: "script", names.ROLLBACK: "restore"}
RESULT_SECONDS = 30

# Document plus parameters are at most 64 KB (SendCommand); the payload is the largest one.
DOCUMENT_LIMIT = 64 * 1024
LARGEST_PARAMETERS = parameters.PAYLOAD_LIMIT + 200


class DocumentTooLarge(CodeferryError):
    """A document would not fit into one SendCommand with its largest parameters."""

    code = "document_too_large"


class DocumentsStack(Stack):
    """One document per workflow, under a fixed name, updated in place as new versions."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, id_, description="Codeferry: SSM command documents", **kwargs)
        for workflow in STEPS:
            ssm.CfnDocument(
                self,
                workflow.capitalize(),
                name=settings.stage.document(workflow),
                document_type="Command",
                document_format="JSON",
                target_type="/AWS::EC2::Instance",
                update_method="NewVersion",
                content=document(workflow),
            )


def document(workflow: str) -> dict[str, Any]:
    """The content of a workflow's document; DocumentTooLarge when it cannot be sent.

    The first step does the work. The second says how a command ended: of each step's output
    Run Command shows the head only, and in the first one's that is taken by the command.
    """
    step, timeout = STEPS[workflow], f"{{{{ {parameters.TIMEOUT_PARAMETER} }}}}"
    return checked(
        {
            "schemaVersion": "2.2",
            "description": f"Codeferry {workflow}: codeferry_agent.run, {digest()}.",
            "parameters": _parameters(),
            "mainSteps": [
                _step(step, program(workflow), {"timeoutSeconds": timeout}),
                _step(
                    "result",
                    (FRAMES / "result.sh").read_text(),
                    {"timeoutSeconds": str(RESULT_SECONDS), "finallyStep": True},
                ),
            ],
        }
    )


def program(workflow: str) -> str:
    """The first step's shell script: the frame, the loader and the sources."""
    loader = (FRAMES / "load.py").read_text().rstrip("\n")
    loader = loader.replace("@@WORKFLOW@@", workflow).replace("@@SOURCES@@", pack(sources()))
    return (FRAMES / "run.sh").read_text().replace("@@SOURCE@@", loader)


def pack(sources: dict[str, bytes]) -> str:
    """Sources by name as one text of a third of their length; load.py has the way back.

    Base 85, with letters that neither JSON, HTML nor SSM's own braces give a meaning to.
    """
    document = json.dumps({name: source.decode() for name, source in sources.items()})
    letters = base64.b85encode(bz2.compress(document.encode(), 9)).decode()
    return "\n".join(textwrap.wrap(letters.translate(str.maketrans("{<>&", ".,:/")), 1000))


def checked(content: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(content).encode()) + LARGEST_PARAMETERS
    if size > DOCUMENT_LIMIT:
        raise DocumentTooLarge(
            f"The document with its largest parameters has {size} bytes, over {DOCUMENT_LIMIT}.",
            hint="Shorten the embedded sources.",
        )
    return content


def _step(name: str, script: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "action": "aws:runShellScript",
        "precondition": {"StringEquals": ["platformType", "Linux"]},
        "inputs": {**inputs, "runCommand": script.splitlines()},
    }


def sources() -> dict[str, bytes]:
    """The modules by name, each after those that it imports."""
    found = {path.stem: path.read_bytes() for path in sorted(SOURCES.glob("[!_]*.py"))}
    graph = {name: _imported(source.decode()) for name, source in found.items()}
    return {name: found[name] for name in graphlib.TopologicalSorter(graph).static_order()}


def _imported(source: str) -> list[str]:
    """Modules by name: of ``from codeferry_agent.run.a import x`` and ``… .run import a, b``.

    In an order of their own: it decides that of the sources, and so the document's bytes.
    """
    found = IMPORT.findall(source)
    words = {
        word for module, names in found for word in ([module] if module else names.split(", "))
    }
    return sorted(words)


def digest() -> str:
    """Which sources they are: the SHA-256 of what ``sha256sum`` prints of them, by name."""
    lines = [
        f"{hashlib.sha256(source).hexdigest()}  {name}.py\n"
        for name, source in sorted(sources().items())
    ]
    return f"sha256 {hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _parameters() -> dict[str, Any]:
    return {
        parameters.RUN_ID_PARAMETER: {
            "type": "String",
            "description": "The run this command belongs to.",
            "allowedPattern": names.RUN_ID_PATTERN,
        },
        parameters.PAYLOAD_PARAMETER: {
            "type": "String",
            "description": "Base64 of the JSON that codeferry_agent.run reads.",
            "allowedPattern": parameters.PAYLOAD_PATTERN,
        },
        parameters.TIMEOUT_PARAMETER: {
            "type": "String",
            "description": "Seconds the work may take.",
            "default": str(timing.APPLY_SECONDS),
            "allowedPattern": "^[1-9][0-9]{1,5}$",
        },
    }
