"""Lines of a command's output as CloudWatch Logs keeps them: functions of values, no I/O.

Run Command writes streams ``<command_id>/<instance_id>/<step>/stdout`` and ``…/stderr``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from codeferry_contracts.errors import ResultInvalid
from codeferry_contracts.escaping import last_drawn
from codeferry_contracts.result import parse_result

OUTPUTS = ("stdout", "stderr")

# Said last on stderr by the SSM agent of a step that failed. Ours exit with 1 whenever anything
# failed, whatever the command's own exit code. A step that was killed is told by its signal where
# sh becomes the script (bash), and by 128 and its number where it stays beside it (dash), of which
# 137 is the agent's own kill to the agent, and no failure to speak of.
_STEP_FAILED = re.compile(
    r"failed to run commands: (?:exit status \d+|signal: [a-z0-9/ ]+(?: \(core dumped\))?)"
)


@dataclass(frozen=True)
class Line:
    """One line an instance printed; ``time`` in milliseconds since 1970, as it was logged.

    ``redrawn`` is that a progress bar has drawn it over itself: ``text`` is how it was left, and
    the next such line of the instance may be the same bar further on.
    """

    instance: str
    time: int
    text: str
    redrawn: bool = False

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


def stream_owner(stream: str, command_id: str) -> tuple[str, str] | None:
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
        texts = event["message"].split("\n")
        if len(texts) > 1 and not texts[-1]:
            del texts[-1]  # it ended with a line end
        for printed in texts:
            text = last_drawn(printed)
            line = Line(
                self.instance, event["timestamp"], text, redrawn=text != printed.rstrip("\r")
            )
            if self._held:
                yield self._held
                self._held = None
            if self.output == "stderr" and _STEP_FAILED.fullmatch(text):
                self._held = line
            elif self._begun or self.output == "stderr" or not _is_result(text, self.run_id):
                yield line
            self._begun = True


def final_lines(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines of one instance, of each progress bar only how it ended."""
    held: Line | None = None
    for line in lines:
        if held and not line.redrawn:
            yield held
        held = line if line.redrawn else None
        if not line.redrawn:
            yield line
    if held:
        yield held


def _is_result(text: str, run_id: str) -> bool:
    try:
        return parse_result(text).run_id == run_id
    except ResultInvalid:
        return False
