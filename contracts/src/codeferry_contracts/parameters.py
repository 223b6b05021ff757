"""The parameters of the stage's SSM documents, and how long the work on an instance may take.

Everything variable travels as one base64 parameter, so that no value is ever
interpolated into shell; ``allowedPattern`` admits base64 alphabet only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codeferry_contracts.names import SCRIPT

RUN_ID_PARAMETER = "runId"
PAYLOAD_PARAMETER = "payload"
PROJECT_PARAMETER = "project"  # of the document that asks for records alone
TIMEOUT_PARAMETER = "executionTimeout"
AGENT_URL_PARAMETER = "agentUrl"
# Of interpolationType ENV_VAR: the SSM agent hands it over as an environment variable. What stands
# as {{ name }} in a script it writes into a log that every user of the instance may read.
ENVIRONMENT_URL_PARAMETER = "environmentUrl"
ENVIRONMENT_URL_VARIABLE = f"SSM_{ENVIRONMENT_URL_PARAMETER}"

# Document and parameters share SendCommand's 64 KB. The limit is not in the pattern: RE2,
# which the agent is built with, counts no repetition beyond 1,000.
PAYLOAD_LIMIT = 24_000
PAYLOAD_PATTERN = "^[A-Za-z0-9+/]+={0,2}$"
LONGEST_URL = 3000  # a presigned URL with a session token has 1,500 to 2,500 characters
# It stands between single quotes in a shell script; empty where the instance has the agent.
AGENT_URL_PATTERN = "^(https?://[A-Za-z0-9.:-]+/[A-Za-z0-9._~/%?&=+-]+)?$"
_AGENT = re.compile(r"agent sha256 ([0-9a-f]{64})\.")


@dataclass(frozen=True)
class Payload:
    """The input of ``codeferry_agent.run``, as JSON.

    ``url`` is the presigned GET of one object version; ``size`` in bytes; ``digest``
    and ``files`` are the manifest's, empty and -1 when the archive brought none.
    ``unpacked_bytes`` is how much its files may come to, ``unpacked_files`` how many files,
    links and directories there may be.
    ``user`` empty means the instance's first login user. ``command`` empty means none:
    the release is applied and that is all. ``environment`` says that the command has variables,
    whose presigned GET is a parameter of its own; ``command_seconds`` is the command's timeout.
    ``signature`` is a signed release's: what a request states of it, but for ``kept``.
    In a roll-out ``returning`` is set: ``bake_seconds`` after the switch ``health`` is run, and
    when it or the command fails the release before is made current again.
    """

    run_id: str
    project: str
    url: str
    sha256: str
    size: int
    digest: str
    files: int
    unpacked_bytes: int
    unpacked_files: int
    keep_releases: int
    strict: bool
    user: str
    persist: tuple[str, ...]
    expect_files: tuple[str, ...]
    expect_directories: tuple[str, ...]
    command: tuple[str, ...] = ()
    command_seconds: int = 0
    environment: bool = False
    install: bool = False
    returning: bool = False
    bake_seconds: int = 0
    health: tuple[str, ...] = ()
    signature: Mapping[str, Any] | None = None

    def encode(self) -> str:
        return _encoded(self)


@dataclass(frozen=True)
class RollbackPayload:
    """The input of ``restore.py``, as JSON.

    ``release`` is the release to make current, empty for the one that was before;
    ``leaving`` is the only release that may be left, empty for any.
    """

    run_id: str
    project: str
    release: str = ""
    leaving: str = ""

    def encode(self) -> str:
        return _encoded(self)


def _encoded(payload: Payload | RollbackPayload) -> str:
    """Base64 of compact JSON. Without a signature it fits an agent of before there were any."""
    document = asdict(payload)
    if document.get("signature", "") is None:
        del document["signature"]
    text = json.dumps(document, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


def ssm_parameters(
    payload: Payload | RollbackPayload,
    timeout_seconds: int,
    agent_url: str = "",
    environment_url: str = "",
) -> dict[str, list[str]]:
    """The ``Parameters`` of SendCommand. Without ``agent_url`` they fit documents of before
    there was one, and instances that have the agent."""
    stated = {
        RUN_ID_PARAMETER: [payload.run_id],
        PAYLOAD_PARAMETER: [payload.encode()],
        TIMEOUT_PARAMETER: [str(timeout_seconds)],
    }
    urls = {AGENT_URL_PARAMETER: agent_url, ENVIRONMENT_URL_PARAMETER: environment_url}
    return stated | {name: [url] for name, url in urls.items() if url}


def document_description(workflow: str, agent_sha256: str, key: str = "") -> str:
    """A document's description, by which the workflow knows which agent the document wants, and
    whose signature it asks for."""
    asks = f" Releases signed by {key_id(key)}." if key else ""
    return f"Codeferry {workflow}: agent sha256 {agent_sha256}.{asks}"


def key_id(key: str) -> str:
    """What a public key, given as its hex modulus, is called."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def asks_for(description: str, key: str) -> bool:
    """Whether a document of that description takes nothing that this key has not signed."""
    return description.endswith(f" Releases signed by {key_id(key)}.")


def agent_of(description: str) -> str:
    """SHA-256 of the agent that a document wants; empty of one that carries its code itself."""
    found = _AGENT.search(description)
    return found[1] if found else ""


def decode_payload(text: str) -> dict[str, Any]:
    """The JSON of an encoded payload."""
    document: dict[str, Any] = json.loads(base64.b64decode(text, validate=True))
    return document


SHORTEST_STEP_SECONDS, LONGEST_STEP_SECONDS = 30, 172_800  # the latter is Run Command's own
APPLY_SECONDS = 900  # lock, download, unpack, switch, and the installation of dependencies
# Between a command's timeout and the end of the step: TERM, grace, KILL, and the record.
STOP_SECONDS = 60
HEALTH_SECONDS = 60  # of a health command
LONGEST_BAKE_SECONDS = 3600
LONGEST_COMMAND_SECONDS = LONGEST_STEP_SECONDS - APPLY_SECONDS - STOP_SECONDS
SCRIPT_SECONDS = 300  # of a script that states none


def command_seconds(workflow: str, stated: int | None) -> int:
    """How long the command of a run may take."""
    return stated or (SCRIPT_SECONDS if workflow == SCRIPT else LONGEST_COMMAND_SECONDS)


def step_seconds(
    workflow: str, stated: int | None, *, command: bool, bake: int | None = None
) -> int:
    """The executionTimeout of the step: its work, with a command or without one.

    ``bake`` is how long a release is left alone before its health is asked for; None outside
    of roll-outs.
    """
    watching = 0 if bake is None else bake + HEALTH_SECONDS + STOP_SECONDS
    if not command:
        return max(SHORTEST_STEP_SECONDS, stated or APPLY_SECONDS) + watching
    work = APPLY_SECONDS + command_seconds(workflow, stated) + STOP_SECONDS + watching
    return min(work, LONGEST_STEP_SECONDS)
