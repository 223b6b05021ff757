"""The directory of an embedded AWS, and the state file by which others find it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import boto3
import platformdirs

from codeferry_contracts.local_stage import (
    STATE_FILE,
    Credentials,
    Endpoints,
    LocalState,
    local_home,
)
from codeferry_local.errors import NotRunning


@dataclass(frozen=True)
class Home:
    """One directory per embedded AWS; a second one beside it does not collide."""

    path: Path

    @classmethod
    def default(cls) -> Home:
        """Where ``ferry --stage local`` looks for it."""
        home = local_home(os.environ, platformdirs.user_state_path("codeferry"))
        return cls(home.absolute())

    @property
    def state_file(self) -> Path:
        return self.path / STATE_FILE

    @property
    def log_file(self) -> Path:
        return self.path / "local.log"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def instances(self) -> Path:
        return self.path / "instances"

    @property
    def signing_key(self) -> Path:
        return self.path / "signing-key.pem"

    @property
    def temporary(self) -> Path:
        return self.path / "tmp"


@dataclass(frozen=True)
class Access:
    """The way to the services of an embedded AWS, whatever the user has configured."""

    endpoint: str
    region: str
    credentials: Credentials

    def client(self, service: str, endpoint: str | None = None) -> Any:
        """A boto3 client of a service, which may have an endpoint of its own."""
        return boto3.client(
            service,
            endpoint_url=endpoint or self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.credentials["access_key_id"],
            aws_secret_access_key=self.credentials["secret_access_key"],
        )

    def environment(self) -> dict[str, str]:
        """Variables that lead every AWS SDK here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.credentials["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.credentials["secret_access_key"],
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }


@dataclass(frozen=True)
class InstanceRecord:
    """``root`` is the directory that stands for the instance's filesystem root."""

    instance_id: str
    name: str
    tags: dict[str, str]
    root: str


@dataclass(frozen=True)
class State:
    """What is running; ``ferry local status --json`` prints it."""

    pid: int
    stage: str
    region: str
    account: str
    endpoints: Endpoints
    credentials: Credentials
    bucket: str
    state_machines: dict[str, str]
    instances: list[InstanceRecord]
    signing_key: str = ""

    def to_json(self) -> LocalState:
        return cast(LocalState, asdict(self))

    @property
    def access(self) -> Access:
        """The way to everything but SSM."""
        return Access(self.endpoints["aws"], self.region, self.credentials)

    def environment(self) -> dict[str, str]:
        """Variables that lead boto3, the AWS CLI, the CDK CLI and ferry here."""
        return {
            "FERRY_STAGE": "local",
            "AWS_ENDPOINT_URL_SSM": self.endpoints["ssm"],
            **self.access.environment(),
        }


def write_state(home: Home, state: State) -> None:
    """Replace the state file in one step, readable by the user alone."""
    temporary = home.state_file.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(state.to_json(), indent=2))
    temporary.replace(home.state_file)


def read_state(home: Home) -> State:
    """The state of what runs; NotRunning when its process is gone or never was."""
    try:
        document = json.loads(home.state_file.read_text())
        os.kill(document["pid"], 0)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotRunning(
            "The embedded AWS is not running.", hint="Start it: ferry local up"
        ) from error
    instances = [InstanceRecord(**record) for record in document.pop("instances")]
    return State(**document, instances=instances)
