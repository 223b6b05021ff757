"""The SSM documents: a shell frame that fetches the agent and hands it its work.

In a stack of their own because the embedded AWS registers them with its own SSM.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from codeferry_contracts import names, parameters
from codeferry_contracts.errors import CodeferryError
from stacks.settings import Settings
from stacks.workflow.agent_code import agent_sha256

FRAMES = Path(__file__).resolve().parents[1] / "documents"
STEPS = {names.SYNC: "apply", names.SCRIPT: "script", names.ROLLBACK: "restore"}
RESULT_SECONDS = 30

# Document plus parameters are at most 64 KB (SendCommand); the payload is the largest one.
DOCUMENT_LIMIT = 64 * 1024
LARGEST_PARAMETERS = parameters.PAYLOAD_LIMIT + 2 * parameters.LONGEST_URL + 200


class DocumentTooLarge(CodeferryError):
    """A document would not fit into one SendCommand with its largest parameters."""

    code = "document_too_large"


class DocumentsStack(Stack):
    """One document per workflow and one that asks for records, each under a fixed name, updated in
    place as new versions."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, id_, description="Codeferry: SSM command documents", **kwargs)
        contents = {workflow: document(workflow, settings) for workflow in STEPS}
        for name, content in {**contents, names.RECORD: record_document()}.items():
            ssm.CfnDocument(
                self,
                name.capitalize(),
                name=settings.stage.document(name),
                document_type="Command",
                document_format="JSON",
                target_type="/AWS::EC2::Instance",
                update_method="NewVersion",
                content=content,
            )


def document(workflow: str, settings: Settings) -> dict[str, Any]:
    """The content of a workflow's document; DocumentTooLarge when it cannot be sent.

    The first step does the work. The second says how a command ended: of each step's output
    Run Command shows the head only, and in the first one's that is taken by the command.
    """
    step, timeout = STEPS[workflow], f"{{{{ {parameters.TIMEOUT_PARAMETER} }}}}"
    return checked(
        {
            "schemaVersion": "2.2",
            "description": parameters.document_description(
                workflow, agent_sha256(), settings.signing_modulus
            ),
            "parameters": _parameters(),
            "mainSteps": [
                _step(step, program(workflow, settings), {"timeoutSeconds": timeout}),
                _step(
                    "result",
                    (FRAMES / "result.sh").read_text(),
                    {"timeoutSeconds": str(RESULT_SECONDS), "finallyStep": True},
                ),
            ],
        }
    )


def record_document() -> dict[str, Any]:
    """The content of the document that has instances say what they have on record of a run."""
    return {
        "schemaVersion": "2.2",
        "description": "Codeferry: what is on record of a run.",
        "parameters": {
            parameters.RUN_ID_PARAMETER: _parameters()[parameters.RUN_ID_PARAMETER],
            parameters.PROJECT_PARAMETER: {
                "type": "String",
                "description": "The run's project.",
                "allowedPattern": names.PROJECT_PATTERN,
            },
        },
        "mainSteps": [
            _step(
                names.RECORD,
                (FRAMES / "record.sh").read_text(),
                {"timeoutSeconds": str(RESULT_SECONDS)},
            )
        ],
    }


def program(workflow: str, settings: Settings) -> str:
    """The first step's shell script: what finds a Python, and what brings the agent to it; and
    whose signature it is to ask for."""
    source = (FRAMES / "fetch.py").read_text().rstrip("\n")
    source = source.replace("@@WORKFLOW@@", workflow).replace("@@SHA256@@", agent_sha256())
    frame = (FRAMES / "run.sh").read_text().replace("# @@TRUST@@\n", _trust(settings))
    return frame.replace("@@SOURCE@@", source)


def _trust(settings: Settings) -> str:
    """The line that pins the key; nothing where releases are not signed."""
    key, stage = settings.signing_modulus, settings.stage.name
    return f"export CODEFERRY_STAGE='{stage}' CODEFERRY_SIGNING_KEY='{key}'\n" if key else ""


def checked(content: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(content).encode()) + LARGEST_PARAMETERS
    if size > DOCUMENT_LIMIT:
        raise DocumentTooLarge(
            f"The document with its largest parameters has {size} bytes, over {DOCUMENT_LIMIT}.",
            hint="Shorten stacks/documents/fetch.py.",
        )
    return content


def _step(name: str, script: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "action": "aws:runShellScript",
        "precondition": {"StringEquals": ["platformType", "Linux"]},
        "inputs": {**inputs, "runCommand": script.splitlines()},
    }


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
        parameters.AGENT_URL_PARAMETER: {
            "type": "String",
            "description": "Presigned GET of the agent, for an instance that lacks it.",
            "default": "",
            "allowedPattern": parameters.AGENT_URL_PATTERN,
        },
        parameters.ENVIRONMENT_URL_PARAMETER: {
            "type": "String",
            "description": "Presigned GET of the command's variables; never put into a script.",
            "default": "",
            "interpolationType": "ENV_VAR",
            "allowedPattern": parameters.AGENT_URL_PATTERN,
        },
        parameters.TIMEOUT_PARAMETER: {
            "type": "String",
            "description": "Seconds the work may take.",
            "default": str(parameters.APPLY_SECONDS),
            "allowedPattern": "^[1-9][0-9]{1,5}$",
        },
    }
