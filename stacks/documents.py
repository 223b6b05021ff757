"""The SSM documents: a thin shell frame around the instance's own Python, as files.

In a stack of their own because the embedded AWS registers them with its own SSM.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from codeferry_contracts import parameters
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.names import RUN_ID_PATTERN
from codeferry_contracts.request import DEFAULT_TIMEOUT_SECONDS
from stacks.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
FRAMES = Path(__file__).resolve().parent / "documents"
AGENT = ROOT / "agent" / "src" / "codeferry_agent"

# Document plus parameters are at most 64 KB (SendCommand); the payload is the largest one.
DOCUMENT_LIMIT = 64 * 1024
LARGEST_PARAMETERS = parameters.PAYLOAD_LIMIT + 200
SOURCE_LINE = "@@SOURCE@@"


class DocumentTooLarge(CodeferryError):
    """A document would not fit into one SendCommand with its largest parameters."""

    code = "document_too_large"


class DocumentsStack(Stack):
    """One document per workflow, under a fixed name, updated in place as new versions."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, id_, description="Codeferry: SSM command documents", **kwargs)
        ssm.CfnDocument(
            self,
            "Sync",
            name=settings.stage.document("sync"),
            document_type="Command",
            document_format="JSON",
            target_type="/AWS::EC2::Instance",
            update_method="NewVersion",
            content=sync_document(),
        )


def sync_document() -> dict[str, Any]:
    """The content of the sync document; DocumentTooLarge when it cannot be sent."""
    script = embed(FRAMES / "sync.sh", AGENT / "apply.py")
    return checked(
        {
            "schemaVersion": "2.2",
            "description": "Codeferry: apply a release. Runs agent/apply.py with python3.",
            "parameters": _parameters(),
            "mainSteps": [
                {
                    "name": "apply",
                    "action": "aws:runShellScript",
                    "precondition": {"StringEquals": ["platformType", "Linux"]},
                    "inputs": {
                        "timeoutSeconds": f"{{{{ {parameters.TIMEOUT_PARAMETER} }}}}",
                        "runCommand": script.splitlines(),
                    },
                }
            ],
        }
    )


def embed(frame: Path, source: Path) -> str:
    """``frame`` with the line ``@@SOURCE@@`` replaced by the text of ``source``."""
    return frame.read_text().replace(SOURCE_LINE, source.read_text().rstrip("\n"))


def checked(document: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(document).encode()) + LARGEST_PARAMETERS
    if size > DOCUMENT_LIMIT:
        raise DocumentTooLarge(
            f"The document with its largest parameters has {size} bytes, over {DOCUMENT_LIMIT}.",
            hint="Shorten the embedded source.",
        )
    return document


def _parameters() -> dict[str, Any]:
    return {
        parameters.RUN_ID_PARAMETER: {
            "type": "String",
            "description": "The run this command belongs to.",
            "allowedPattern": RUN_ID_PATTERN,
        },
        parameters.PAYLOAD_PARAMETER: {
            "type": "String",
            "description": "Base64 of the JSON that apply.py reads.",
            "allowedPattern": parameters.PAYLOAD_PATTERN,
        },
        parameters.TIMEOUT_PARAMETER: {
            "type": "String",
            "description": "Seconds the step may take.",
            "default": str(DEFAULT_TIMEOUT_SECONDS),
            "allowedPattern": "^[1-9][0-9]{1,5}$",
        },
    }
