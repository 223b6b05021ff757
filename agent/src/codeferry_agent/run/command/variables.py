"""Variables of a command: the usual ones, and the run's own, which may be secrets."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from codeferry_agent.run.command.program import Account
from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.payload import FIELDS, is_argument
from codeferry_agent.run.release.download import BACKOFF

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = {"TMPDIR": "TMPDIR", "CODEFERRY_INSTANCE_ID": "AWS_SSM_INSTANCE_ID"}
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SSM_REGION_NAME")
ENVIRONMENT_LIMIT = 256 << 10
ENVIRONMENT_ATTEMPTS, ENVIRONMENT_TIMEOUT = 5, 10.0  # seconds without a byte


def whole_path() -> str:
    """The agent's PATH, and behind it the usual places that it lacks."""
    parts = [part for part in os.environ.get("PATH", "").split(":") if part]
    return ":".join(parts + [p for p in STANDARD_PATH.split(":") if p not in parts])


def standard_variables(root: Path, run_id: str, project: str, account: Account) -> dict[str, str]:
    """A clean environment: nothing of the agent's but where it is."""
    environ = os.environ
    variables = {
        "PATH": whole_path(),
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "LANG": environ.get("LANG", "C.UTF-8"),
        "PYTHONUNBUFFERED": "1",
        "CODEFERRY_ROOT": str(root),
        "CODEFERRY_RUN_ID": run_id,
        "CODEFERRY_PROJECT": project,
    }
    for ours, theirs in PASSED_ON.items():
        if environ.get(theirs):
            variables[ours] = environ[theirs]
    region = next((environ[name] for name in REGION_VARIABLES if environ.get(name)), "")
    return {**variables, **dict.fromkeys(REGION_VARIABLES[:2] if region else (), region)}


def check_url(url: str) -> None:
    if not FIELDS["url"](url):
        raise RunFailed(
            "agent_outdated",
            "The instance's SSM agent is older than 3.3.2746.0: it would write where the "
            "variables are to be had into a log that every user of the instance may read.",
        )


def fetch(url: str) -> bytes:
    """A small object; no failure quotes the URL."""
    request = urllib.request.Request(url)  # noqa: S310 - checked
    reason = ""
    for attempt in range(ENVIRONMENT_ATTEMPTS):
        time.sleep(BACKOFF * 2**attempt if attempt else 0)
        try:
            with urllib.request.urlopen(request, timeout=ENVIRONMENT_TIMEOUT) as response:  # noqa: S310
                content: bytes = response.read(ENVIRONMENT_LIMIT + 1)
                return content
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", "") or type(error).__name__
    raise RunFailed("environment_unavailable", f"The command's variables: {reason}.")


def parse_variables(content: bytes) -> dict[str, str]:
    """A JSON object of names and texts; no failure quotes any of it."""
    try:
        found = json.loads(content) if len(content) <= ENVIRONMENT_LIMIT else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(
        re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and is_argument(value)
        for name, value in found.items()
    ):
        raise RunFailed("environment_invalid", "The command's variables are not as agreed.")
    return found
