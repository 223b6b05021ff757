"""The embedded AWS as this command line sees it: the state file `ferry local up` writes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from codeferry_cli.errors import LocalNotRunning
from codeferry_contracts.local_stage import STATE_FILE, LocalState, local_home


@dataclass(frozen=True)
class LocalAws:
    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str
    signing_key: str = ""


def state_path() -> Path:
    """Where the running embedded AWS describes itself."""
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
        raise not_running() from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LocalNotRunning(
            f"The state of the embedded AWS cannot be read ({path}: {error!r}).",
            hint="Start it anew: ferry local down, then ferry local up",
        ) from error


def not_running() -> LocalNotRunning:
    return LocalNotRunning("The embedded AWS is not running.", hint="Start it: ferry local up")
