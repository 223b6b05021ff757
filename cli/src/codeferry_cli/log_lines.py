"""What CloudWatch Logs keeps of a command's output, as lines: functions of values, no I/O.

Run Command writes streams ``<command_id>/<instance_id>/<step>/stdout`` and ``…/stderr``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from codeferry_contracts.errors import ResultInvalid
from codeferry_contracts.result import parse_result

OUTPUTS = ("stdout", "stderr")

# Said last on stderr by the SSM agent of a step that failed. Ours exit with 1 whenever anything
# failed, whatever the command's own exit code. A step that was killed is told by its signal where
# sh becomes the script (bash), and by 128 and its number where it stays beside it (dash), of which
# 137 is the agent's own kill to the agent, and no failure to speak of.
_STEP_FAILED = re.compile(
    r"failed to run commands: (?:exit status \d+|signal: [a-z0-9/ ]+(?: \(core dumped\))?)"
)
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


@dataclass
class CommandLines:
    """The lines of one output of one instance, less the two that the command did not print.

    That is our result line, the first on stdout, and the SSM agent's word that the step failed,
    the last on stderr. Wherever else a line looks like one of these, the command has printed it.
    Events are to be given in their order, from the first that is asked for.
    """

    instance: str
    output: str
    run_id: str
    _begun: bool = field(default=False, init=False)
    _held: Line | None = field(default=None, init=False)

    def of(self, event: Mapping[str, Any]) -> Iterator[Line]:
        """The lines of the next log event; one that may be the last of all comes with the next."""
        texts = _LINE_END.split(event["message"])
        if len(texts) > 1 and not texts[-1]:
            del texts[-1]  # it ended with a line end
        for text in texts:
            line = Line(self.instance, event["timestamp"], text)
            if self._held:
                yield self._held
                self._held = None
            if self.output == "stderr" and _STEP_FAILED.fullmatch(text):
                self._held = line
            elif self._begun or self.output == "stderr" or not _is_result(text, self.run_id):
                yield line
            self._begun = True


def _is_result(text: str, run_id: str) -> bool:
    try:
        return parse_result(text).run_id == run_id
    except ResultInvalid:
        return False
