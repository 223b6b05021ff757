"""What CloudWatch Logs keeps of a command's output, as lines: functions of values, no I/O.

Run Command writes streams ``<command_id>/<instance_id>/<step>/stdout`` and ``…/stderr``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from codeferry_contracts.result import RESULT_KEY

OUTPUTS = ("stdout", "stderr")

_NOT_THE_COMMANDS = {
    "stdout": re.compile(rf'{{"{RESULT_KEY}"'),
    "stderr": re.compile(r"failed to run commands: exit status \d+$"),
}
# A carriage return alone is a progress bar drawing over itself: each state is a line here.
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Line:
    """One line an instance printed; ``time`` in milliseconds since 1970, as it was logged."""

    instance: str
    time: int
    text: str

    def to_json(self) -> dict[str, str]:
        moment = datetime.fromtimestamp(self.time / 1000, UTC)
        return {
            "instance": self.instance,
            "time": moment.isoformat(timespec="milliseconds"),
            "text": self.text,
        }


def stream_name(command_id: str, instance_id: str, step: str, output: str) -> str:
    """The log stream of one output of one step; ``output`` is one of OUTPUTS."""
    return f"{command_id}/{instance_id}/{step}/{output}"


def owner(stream: str, command_id: str) -> tuple[str, str] | None:
    """Instance and output of a stream of that command; None of any other stream."""
    found = re.fullmatch(rf"{re.escape(command_id)}/([^/]+)/.+/(stdout|stderr)", stream)
    return (found[1], found[2]) if found else None


def lines_of(instance: str, output: str, event: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of one log event, less what the command did not print itself.

    That is our result line, and the agent's word that the step exited with 1: it always
    does when anything failed, whatever the command's own exit code.
    """
    texts = _LINE_END.split(event["message"])
    if len(texts) > 1 and not texts[-1]:
        del texts[-1]  # it ended with a line end
    for text in texts:
        if not _NOT_THE_COMMANDS[output].match(text):
            yield Line(instance, event["timestamp"], text)
