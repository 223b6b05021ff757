"""The state file of the embedded AWS, by which ``ferry`` finds it: its path and content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

HOME_VARIABLE = "CODEFERRY_LOCAL_HOME"
STATE_FILE = "state.json"


def local_home(environ: Mapping[str, str], user_state: Path) -> Path:
    """The directory of the embedded AWS: the variable's, else below the user's state directory."""
    chosen = environ.get(HOME_VARIABLE)
    return Path(chosen) if chosen else user_state / "local"


class Endpoints(TypedDict):
    aws: str
    ssm: str


class Credentials(TypedDict):
    access_key_id: str
    secret_access_key: str


class LocalInstanceState(TypedDict):
    """``root`` is the directory that stands for the instance's filesystem root."""

    instance_id: str
    name: str
    tags: dict[str, str]
    root: str


class LocalState(TypedDict):
    """The state file, there while its process (``pid``) runs; ``ferry local status --json``.

    ``state_machines`` is workflow to ARN; ``signing_key`` the file of the key that releases are
    signed with, empty where they are not.
    """

    pid: int
    stage: str
    region: str
    account: str
    endpoints: Endpoints
    credentials: Credentials
    bucket: str
    state_machines: dict[str, str]
    instances: list[LocalInstanceState]
    signing_key: str
