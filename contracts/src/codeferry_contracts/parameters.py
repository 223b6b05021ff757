"""What the workflow hands to an instance: the parameters of the stage's SSM documents.

Everything variable travels as one base64 parameter, so that no value is ever
interpolated into shell; ``allowedPattern`` admits base64 alphabet only.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from typing import Any

RUN_ID_PARAMETER = "runId"
PAYLOAD_PARAMETER = "payload"
TIMEOUT_PARAMETER = "executionTimeout"

# Document and parameters share SendCommand's 64 KB; the document has the larger part.
PAYLOAD_LIMIT = 12_000
PAYLOAD_PATTERN = rf"^[A-Za-z0-9+/]{{4,{PAYLOAD_LIMIT}}}={{0,2}}$"


@dataclass(frozen=True)
class ApplyPayload:
    """The input of ``apply.py``, as JSON.

    ``url`` is the presigned GET of one object version; ``size`` in bytes; ``digest``
    and ``files`` are the manifest's, empty and -1 when the archive brought none.
    ``user`` empty means the instance's first login user.
    """

    run_id: str
    project: str
    url: str
    sha256: str
    size: int
    digest: str
    files: int
    keep_releases: int
    strict: bool
    user: str
    persist: tuple[str, ...]
    expect_files: tuple[str, ...]
    expect_directories: tuple[str, ...]

    def encode(self) -> str:
        """Base64 of compact JSON."""
        text = json.dumps(asdict(self), separators=(",", ":"))
        return base64.b64encode(text.encode()).decode()


def ssm_parameters(payload: ApplyPayload, timeout_seconds: int) -> dict[str, list[str]]:
    """The ``Parameters`` of SendCommand."""
    return {
        RUN_ID_PARAMETER: [payload.run_id],
        PAYLOAD_PARAMETER: [payload.encode()],
        TIMEOUT_PARAMETER: [str(timeout_seconds)],
    }


def decode_payload(text: str) -> dict[str, Any]:
    """The JSON of an encoded payload."""
    document: dict[str, Any] = json.loads(base64.b64decode(text, validate=True))
    return document
