"""How a program ended, in contracts' words."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from codeferry_agent.run.failures import Refused, described
from codeferry_agent.run.supervise import Ended


def ending_of(ended: Ended) -> str:
    """One of contracts' Ending."""
    if ended.reason:
        return ended.reason
    if ended.oom and (ended.signal == signal.SIGKILL or ended.exit_code == 128 + signal.SIGKILL):
        return "out_of_memory"  # a shell says so of its child
    return "signalled" if ended.signal else "exited"


def told_of(ended: Ended) -> dict[str, Any]:
    """How a program ended, as a result has it."""
    found = {"exit_code": ended.exit_code, "signal": ended.signal, "seconds": ended.seconds}
    return {"ending": ending_of(ended), **found}


def with_words(failure: Refused, words: str) -> Refused:
    """The same failure, and what else is to be said."""
    return Refused(failure.code, f"{str(failure).rstrip('.')}. {words}")


def complaint(ended: Ended, seconds: int) -> Refused | None:
    """What is wrong with how a program ended, in words."""
    ending = ending_of(ended)
    if ending == "exited":
        code = ended.exit_code
        return Refused("exit_code", f"exit code {code}") if code else None
    words = {
        "timed_out": f"timed out after {seconds} s",
        "out_of_memory": "out of memory",
        "cancelled": "cancelled",
        "interrupted": "interrupted",
        "signalled": f"killed by signal {ended.signal}{signal_name(ended.signal)}",
    }
    return Refused(ending, words[ending])


def signal_name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return ""


def interrupted(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a run whose command nobody saw end."""
    ran = {"ending": "interrupted", "exit_code": -1, "signal": 0, "seconds": 0}
    ran.update(output_bytes=0, tail="")
    failure = Refused("interrupted", "interrupted")
    return dict(recorded, status="failed", error=described(failure), ran=ran)
