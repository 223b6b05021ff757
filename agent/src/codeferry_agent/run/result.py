"""The result of a run on an instance: one line of JSON that Run Command shows whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from codeferry_agent.run.errors import RunFailed

# SSM shows 2,400 of output and errors together, and adds some 70 of its own on failure.
RESULT_MAX_CHARACTERS = 2300
TAIL_CHARACTERS = 1000  # of a command's output in the result line, as JSON


def blank_result(run_id: str) -> dict[str, Any]:
    """The fields of contracts' InstanceResult, filled in as the run goes."""
    result: dict[str, Any] = {"codeferry_result": 1, "run_id": run_id, "status": "failed"}
    result.update(dict.fromkeys(("project", "release_id", "digest", "previous", "returned"), ""))
    result.update(files=0, bytes=0, manifest=False, replayed=False)
    result.update(warnings=[], unmet=[], error=None, ran=None, seconds={})
    return result


def interrupted(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a run whose command nobody saw end."""
    ran = {"ending": "interrupted", "exit_code": -1, "signal": 0, "seconds": 0}
    ran.update(output_bytes=0, tail="")
    error = RunFailed("interrupted", "interrupted").fields()
    return dict(recorded, status="failed", error=error, ran=ran)


def result_line(result: Mapping[str, Any]) -> str:
    """One line of at most RESULT_MAX_CHARACTERS; what does not fit is cut and counted."""
    line, error, ran = dict(result), result["error"], result.get("ran")
    if error:
        limits = {"code": 40, "message": 700, "hint": 300}
        line["error"] = {name: cut(error[name], limits[name]) for name in limits}
    for most in range(40, -1, -1):  # warnings go first, then unmet
        line["warnings"] = shorten(result["warnings"], max(0, most - 20))
        line["unmet"] = shorten(result["unmet"], min(20, most))
        if len(json.dumps(line)) <= RESULT_MAX_CHARACTERS:
            return json.dumps(line)
    if ran:
        line["ran"] = dict(ran, tail="")
        room = RESULT_MAX_CHARACTERS - len(json.dumps(line)) + len('""')
        line["ran"]["tail"] = last_lines(ran["tail"], min(room, TAIL_CHARACTERS))
    return json.dumps(line)


def last_lines(words: str, limit: int) -> str:
    """The end of ``words`` whose JSON has at most ``limit`` characters, from a line's start
    where there is one in its first half."""
    end = words[-limit:]
    while end and len(json.dumps(end)) > limit:
        end = end[max(1, (len(json.dumps(end)) - limit) // 12) :]
    line = end.find("\n") + 1 if end != words else 0
    return end[line:] if line <= len(end) // 2 else end


def shorten(items: Sequence[str], most: int) -> list[str]:
    more = [f"... and {len(items) - most} more"] if len(items) > most else []
    return [cut(item, 250) for item in items[:most]] + more


def cut(words: str, limit: int) -> str:
    """``words`` so that its JSON has at most ``limit`` characters."""
    whole = words
    while len(json.dumps(words)) > limit:
        words = words[: min(limit, len(words) * 9 // 10)]
    return words if words == whole else words[:-3] + "..."
