"""The embedded AWS as this command line sees it: the state file `ferry local up` writes.

``{"pid": …, "endpoints": {"aws": url, "ssm": url}, "region": …, "credentials":
{"access_key_id": …, "secret_access_key": …}, …}``; the process removes it when it ends.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from codeferry_cli.errors import LocalNotRunning

HOME_VARIABLE = "CODEFERRY_LOCAL_HOME"
STATE_FILE = "state.json"


@dataclass(frozen=True)
class LocalAws:
    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str


def state_path() -> Path:
    """Where the running embedded AWS describes itself."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home) / STATE_FILE
    from platformdirs import user_state_path

    return user_state_path("codeferry") / "local" / STATE_FILE


def read_state() -> LocalAws:
    """The embedded AWS that is running. Raises LocalNotRunning when none says so."""
    path = state_path()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        os.kill(document["pid"], 0)  # was it killed, nobody removed its file
        return LocalAws(
            endpoint=document["endpoints"]["aws"],
            region=document["region"],
            access_key_id=document["credentials"]["access_key_id"],
            secret_access_key=document["credentials"]["secret_access_key"],
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
