"""The user data of a fleet instance: files, put together at synth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from codeferry_contracts.errors import CodeferryError

ROOT = Path(__file__).resolve().parents[2]
FILES = Path(__file__).resolve().parent
UNIT = ROOT / "agent" / "systemd" / "codeferry-drain.service"

SSM_AGENT_DROP_IN = "etc/systemd/system/amazon-ssm-agent.service.d/codeferry.conf"

# Of Amazon Linux 2023: its own python3 is 3.9, and the agent needs 3.11; and what ships logs.
PYTHON = "python3.11"
PACKAGES = (PYTHON, "amazon-cloudwatch-agent")

# EC2 takes 16 KB of user data before base64; what CloudFormation fills in is longer than the
# tokens that stand for it here.
LIMIT = 15 * 1024


class UserDataTooLarge(CodeferryError):
    """EC2 would refuse the user data."""

    code = "user_data_too_large"


@dataclass(frozen=True)
class FirstStart:
    """What ``first_start.py`` reads. URLs are ``s3://``; ``models`` may be empty; ``files`` is
    path below the root to text."""

    region: str
    stack: str
    resource: str
    group: str
    hook: str
    agent: Mapping[str, str]
    files: Mapping[str, str]
    packages: tuple[str, ...] = PACKAGES
    models: str = ""
    retry_seconds: int = 5


def user_data(settings: FirstStart) -> str:
    """The script EC2 runs at the first start; UserDataTooLarge when it could not be."""
    script = (
        (FILES / "user_data.sh")
        .read_text()
        .replace("@@SOURCE@@", (FILES / "first_start.py").read_text().rstrip("\n"))
        .replace("@@SETTINGS@@", json.dumps(asdict(settings)))
    )
    if len(script.encode()) > LIMIT:
        raise UserDataTooLarge(
            f"The user data has {len(script.encode())} bytes, over {LIMIT}.",
            hint="Shorten stacks/fleet/first_start.py.",
        )
    return script


def drain_files(*, stage: str, region: str, log_group: str) -> dict[str, str]:
    """The drain service on an instance of the fleet of ``stage``: path to text."""
    unit = f"etc/systemd/system/{UNIT.name}"
    return {
        unit: UNIT.read_text(),
        f"{unit}.d/fleet.conf": _filled("drain_service.conf", COMMAND=_command()),
        "etc/codeferry/drain.env": f"AWS_REGION={region}\nCODEFERRY_STAGE={stage}\n",
        "etc/codeferry/cloudwatch.json": _filled("cloudwatch.json", LOG_GROUP=log_group),
        "etc/logrotate.d/codeferry": _filled("logrotate.conf"),
        SSM_AGENT_DROP_IN: _filled("ssm_agent.conf"),
    }


def agent_path() -> str:
    """Where the unit looks for the agent, below the root."""
    return _started()[1].lstrip("/")


def _command() -> str:
    """What the unit starts, with the fleet's Python."""
    return " ".join([f"/usr/bin/{PYTHON}", *_started()[1:]])


def _started() -> list[str]:
    """The words of the unit's ExecStart: interpreter, agent, arguments."""
    (line,) = (line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart="))
    return line.removeprefix("ExecStart=").split(" ")


def _filled(name: str, **values: str) -> str:
    text = (FILES / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@@{key}@@", value)
    return text


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
