"""The result line: what an instance says about one run, in one line of JSON on stdout.

``agent``'s single-file scripts write it and cannot import this module; the tests hold
the two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from codeferry_contracts.errors import ResultInvalid

RESULT_FORMAT = 1
RESULT_KEY = "codeferry_result"
# ListCommandInvocations gives 2,500 characters, but the SSM agent has by then cut output and
# errors together to 2,500 bytes, older ones to 2,400 (amazon-ssm-agent, iohandler.go), and adds
# a few words of its own when a step fails.
RESULT_MAX_CHARACTERS = 2300

_MOST = 10**18  # of anything that is counted or measured

Status = Literal["applied", "unchanged", "restored", "ran", "failed", "running"]
ExitStatus = Literal[
    "exited",
    "signalled",
    "timed_out",
    "out_of_memory",
    "cancelled",
    "interrupted",
    "not_started",
]


@dataclass(frozen=True)
class CommandOutcome:
    """How a command ended.

    ``exit_code`` is its own, -1 unless it exited; ``signal`` is the number that ended it, 0
    otherwise. ``output_bytes`` counts all that it printed, ``tail`` is the last of it as
    text, control characters included.
    """

    ending: ExitStatus
    exit_code: int = -1
    signal: int = 0
    seconds: float = 0.0
    output_bytes: int = 0
    tail: str = ""


@dataclass(frozen=True)
class InstanceResult:
    """One instance's answer.

    ``status``: ``applied`` (the release is now current), ``unchanged`` (it already was),
    ``restored`` (an earlier one is current again),
    ``ran`` (a script, which makes no release) or ``failed``; ``running`` while its command
    is at work, in a line that a later one replaces. ``ran`` is how the command ended, None
    without one. ``digest`` and ``files`` describe the tree found on disk after
    unpacking. ``previous`` is the release that was current before. ``manifest`` says
    whether the archive brought one. ``replayed`` marks an answer from the record of an
    earlier delivery of the same run. ``seconds`` is by phase. ``unmet`` lists expected
    paths that do not exist. ``returned`` is the release that is current again because this
    one failed in a roll-out. ``error`` has code, message and hint when failed.
    """

    run_id: str
    status: Status
    project: str = ""
    release_id: str = ""
    digest: str = ""
    files: int = 0
    bytes: int = 0
    previous: str = ""
    manifest: bool = False
    replayed: bool = False
    warnings: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    returned: str = ""
    error: Mapping[str, str] | None = None
    ran: CommandOutcome | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def parse_result(stdout: str) -> InstanceResult:
    """Find and read the result line in the head of a step's output.

    Raises ResultInvalid when there is none or it is not of this format.
    """
    for line in stdout.splitlines():
        if line.startswith(f'{{"{RESULT_KEY}"'):
            return _read(line)
    raise ResultInvalid(
        "The instance sent no result line.",
        hint="Read the command's output in the SSM console: the step may not have started.",
    )


def _read(line: str) -> InstanceResult:
    try:
        document = json.loads(line)
        if document[RESULT_KEY] != RESULT_FORMAT or document["status"] not in Status.__args__:  # type: ignore[attr-defined]
            raise ResultInvalid("The instance's result line has an unknown format.")
        fields = {k: _read_field(k, document[k]) for k in _FIELDS if k in document}
        return InstanceResult(**fields)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultInvalid(f"The instance's result line cannot be read: {error!r}.") from error


def _read_field(name: str, value: Any) -> Any:
    """A field as the workflow may use it: an instance can say anything."""
    if not _FITS.get(name, _is_text)(value):
        raise TypeError(f"{name} is {type(value).__name__}")
    if name == "ran":
        return value and CommandOutcome(**value)
    return tuple(value) if isinstance(value, list) else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and abs(value) <= _MOST


def _is_number(value: Any) -> bool:
    """Python reads NaN and Infinity, which no other reader of a report does."""
    return type(value) in (int, float) and abs(value) <= _MOST


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_error(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_text, value.values())))


def _is_seconds(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_ran(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.get("ending") not in ExitStatus.__args__:  # type: ignore[attr-defined]
        return False
    counts = ("exit_code", "signal", "output_bytes")
    return (
        all(_is_count(value.get(name, 0)) for name in counts)
        and _is_number(value.get("seconds", 0))
        and _is_text(value.get("tail", ""))
    )


_FIELDS = tuple(InstanceResult.__dataclass_fields__)
_FITS: Mapping[str, Callable[[Any], bool]] = {
    "files": _is_count,
    "bytes": _is_count,
    "manifest": lambda value: isinstance(value, bool),
    "replayed": lambda value: isinstance(value, bool),
    "warnings": _is_texts,
    "unmet": _is_texts,
    "error": _is_error,
    "ran": _is_ran,
    "seconds": _is_seconds,
}
