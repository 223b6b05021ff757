"""Log lines: ``[YYYY-mm-dd HH:MM:SS] LEVEL message``, or one JSON object each."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from codeferry_contracts.escaping import harmless, one_line

FIELDS = "codeferry_fields"
_OURS = "codeferry_agent"


class PlainLines(logging.Formatter):
    """For people, in local time. A message stays on one line."""

    def __init__(self) -> None:
        super().__init__("[%(asctime)s] %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base's name
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base's name
        return harmless(super().formatException(ei))


class JsonLines(logging.Formatter):
    """For programs, in ASCII; what a record carries in its extra ``FIELDS`` comes along."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, FIELDS, {}))


def set_up(*, as_json: bool, verbose: bool) -> None:
    """Send our log lines to stderr, and the warnings of libraries with them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_OURS).setLevel(logging.DEBUG if verbose else logging.INFO)
