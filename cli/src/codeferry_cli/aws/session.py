"""Sessions and clients: the user's own AWS configuration, or the running embedded AWS's."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeferry_cli.errors import LocalNotRunning
from codeferry_contracts.local_stage import STATE_FILE, LocalState, local_home
from codeferry_contracts.names import DEFAULT_STAGE

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config

LOCAL_STAGE = "local"

_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_ATTEMPTS = 8
_LOCAL_ATTEMPTS = 4  # what is on this machine and does not answer is not running


@dataclass(frozen=True)
class Access:
    """The deployment, and as whom. Empty means: what the AWS configuration says."""

    stage: str = DEFAULT_STAGE
    profile: str | None = None
    region: str | None = None

    @property
    def is_local(self) -> bool:
        return self.stage == LOCAL_STAGE

    def flags(self) -> str:
        """The options that repeat this choice in a command suggested to the user."""
        chosen = {"--profile": self.profile, "--region": self.region}
        return "".join(f" {flag} {value}" for flag, value in chosen.items() if value)


@dataclass(frozen=True)
class LocalAws:
    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str
    signing_key: str = ""


def state_path() -> Path:
    """The file in which the running embedded AWS describes itself."""
    from platformdirs import user_state_path  # heavy, and rarely wanted

    return local_home(os.environ, user_state_path("codeferry")) / STATE_FILE


def read_state() -> LocalAws:
    """The embedded AWS that is running. Raises LocalNotRunning when none says so."""
    path = state_path()
    try:
        document: LocalState = json.loads(path.read_text(encoding="utf-8"))
        os.kill(document["pid"], 0)  # was it killed, nobody removed its file
        return LocalAws(
            endpoint=document["endpoints"]["aws"],
            region=document["region"],
            access_key_id=document["credentials"]["access_key_id"],
            secret_access_key=document["credentials"]["secret_access_key"],
            signing_key=document.get("signing_key", ""),
        )
    except (FileNotFoundError, ProcessLookupError) as error:
        raise local_not_running() from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LocalNotRunning(
            f"The state of the embedded AWS cannot be read ({path}: {error!r}).",
            hint="Start it anew: ferry local down, then ferry local up",
        ) from error


def local_not_running() -> LocalNotRunning:
    return LocalNotRunning("The embedded AWS is not running.", hint="Start it: ferry local up")


class Aws:
    """The AWS that a command calls; clients are made on first use and kept.

    ``hurried`` is for what would rather have no answer than wait for one.
    """

    def __init__(self, access: Access, *, hurried: bool = False) -> None:
        self.access = access
        self.hurried = hurried
        self.local = read_state() if access.is_local else None
        self._clients: dict[str, Any] = {}

    @cached_property
    def session(self) -> Session:
        """Made on first use: not everything needs botocore. Raises what botocore raises."""
        return _local_session(self.local) if self.local else _user_session(self.access)

    @property
    def region(self) -> str:
        return self.session.region_name or ""

    @property
    def endpoint(self) -> str | None:
        """The one endpoint of everything on the embedded AWS; None on AWS."""
        return self.local.endpoint if self.local else None

    def client(self, service: str) -> Any:
        """The boto3 client of ``service``. Raises what botocore raises."""
        if service not in self._clients:
            self._clients[service] = self.session.client(
                service, endpoint_url=self.endpoint, config=self.config()
            )
        return self._clients[service]

    def config(self) -> Config:
        """Patient with throttling, impatient with a network that is not there."""
        from botocore.config import Config

        settings: dict[str, Any] = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
            "tcp_keepalive": True,
        }
        if self.local:  # it is on this machine: no proxy, no bucket host names
            settings |= {"proxies": {}, "s3": {"addressing_style": "path"}}
            settings["retries"]["total_max_attempts"] = _LOCAL_ATTEMPTS
        if self.hurried:
            settings |= {"connect_timeout": 1, "read_timeout": 2}
            settings["retries"]["total_max_attempts"] = 1
        return Config(**settings)


def _user_session(access: Access) -> Session:
    import boto3

    from codeferry_transfer.s3 import region_of

    region = access.region or region_of(os.environ)
    return boto3.Session(profile_name=access.profile or None, region_name=region)


def _local_session(local: LocalAws) -> Session:
    """A session that reads nothing of the user's: a broken AWS profile must not matter here."""
    import boto3
    import botocore.session

    nothing = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    return boto3.Session(
        aws_access_key_id=local.access_key_id,
        aws_secret_access_key=local.secret_access_key,
        region_name=local.region,
        botocore_session=nothing,
    )
