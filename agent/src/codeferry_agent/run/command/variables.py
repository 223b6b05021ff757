"""A command's variables: the usual ones, and the run's own, which may be secrets."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request

from codeferry_agent.run.command.program import STANDARD_PATH
from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.payload import text
from codeferry_agent.run.release.download import BACKOFF

ENVIRONMENT_LIMIT = 256 << 10
ENVIRONMENT_ATTEMPTS, ENVIRONMENT_TIMEOUT = 5, 10.0  # seconds without a byte


def whole_path(path: str) -> str:
    """The agent's PATH, and behind it the usual places that it lacks."""
    parts = [part for part in path.split(":") if part]
    return ":".join(parts + [p for p in STANDARD_PATH.split(":") if p not in parts])


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
    fits = text("[^\\x00\\ud800-\\udc7f\\udd00-\\udfff]*")
    try:
        found = json.loads(content) if len(content) <= ENVIRONMENT_LIMIT else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(
        re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and fits(value)
        for name, value in found.items()
    ):
        raise RunFailed("environment_invalid", "The command's variables are not as agreed.")
    return found
