"""FilterLogEvents of the pinned MiniStack 1.5.33, as CloudWatch Logs has it.

MiniStack's knows neither ``logStreamNamePrefix`` nor ``nextToken``: it would mix the
output of all runs, and end after 10,000 lines. Following a run's output rests on both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
Filter = Callable[[dict[str, Any]], Answer]

PAGE = 10_000  # events; AWS's most


def by_prefix(filter_events: Filter, streams: Callable[[str], Iterable[str]]) -> Filter:
    """``filter_events`` that takes ``logStreamNamePrefix`` and pages with ``nextToken``.

    ``streams`` names the streams of a log group. A token is the time of the last event
    given out and how many of that time were.
    """

    def find(data: dict[str, Any]) -> Answer:
        wanted = dict(data)
        prefix = wanted.pop("logStreamNamePrefix", None)
        token = wanted.pop("nextToken", None)
        start, skipped = map(int, token.split("/")) if token else (wanted.get("startTime"), 0)
        if prefix is not None:
            names = [n for n in streams(data.get("logGroupName", "")) if n.startswith(prefix)]
            # Without a name MiniStack looks at every stream.
            wanted["logStreamNames"] = names or [prefix]
        if start is not None:
            wanted["startTime"] = start
        status, headers, body = filter_events(wanted)
        if status != 200:
            return status, headers, body
        return _page(status, headers, json.loads(body), skipped)

    return find


def _page(status: int, headers: dict[str, str], answer: Mapping[str, Any], skipped: int) -> Answer:
    """The answer less what an earlier page gave out, with a token when there may be more."""
    found: list[dict[str, Any]] = answer["events"]
    document = {**answer, "events": found[skipped:]}
    if len(found) >= PAGE:
        last = found[-1]["timestamp"]
        document["nextToken"] = f"{last}/{sum(e['timestamp'] == last for e in found)}"
    body = json.dumps(document).encode()
    return status, {**headers, "Content-Length": str(len(body))}, body
