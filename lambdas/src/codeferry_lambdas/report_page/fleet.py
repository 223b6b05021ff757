"""The instances on the report page: grid, waves, table, reasons, output. Values only.

What did not succeed comes first, in everything but the grid.
"""

from __future__ import annotations

import shlex
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codeferry_contracts import formatting
from codeferry_contracts.escaping import as_drawn
from codeferry_contracts.formatting import counted, seconds, size
from codeferry_contracts.report import (
    CommandOutcomeRecord,
    ErrorRecord,
    Outcome,
    Report,
    RolloutRecord,
    WaveStatus,
)
from codeferry_lambdas.report_page.text import NAME_CHARACTERS, lines, one_line, visible
from codeferry_lambdas.report_page.timeline import phases
from codeferry_lambdas.runs.outcomes import number

WORD_CHARACTERS = 40
SENTENCE_CHARACTERS = 600
COMMAND_CHARACTERS = 2000
MOST_REASONS = 30
MOST_TAILS = 50
MOST_GOOD_TAILS = 10
TAIL_CHARACTERS = 4000
ALL_TAILS_CHARACTERS = 100_000
_OPEN_TAILS = 3

Values = dict[str, Any]  # by name, for the template


@dataclass(frozen=True)
class Instance:
    """One instance: ``result`` is what became of it, ``exit_status`` how its command
    ended; ``kind`` is as formatting has it; ``wave`` is empty without a roll-out."""

    id: str
    name: str
    kind: str
    wave: str
    result: str
    exit_status: str
    release: str
    took: str

    @property
    def title(self) -> str:
        """The grid's tooltip; the script finds the instance's row by the first word."""
        wave = f"wave {self.wave}" if self.wave else ""
        return " ".join(filter(None, (self.id, self.name, wave, self.result, self.exit_status)))


@dataclass(frozen=True)
class Reason:
    """An error, and in words the instances it holds for."""

    message: str
    hint: str
    instances: str = ""


def failed_first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Failed, returned, skipped, succeeded; in each the order there was."""
    return sorted(outcomes, key=formatting.severity)


def instance(outcome: Outcome) -> Instance:
    times = phases(outcome)
    return Instance(
        id=one_line(outcome["instance_id"], NAME_CHARACTERS),
        name=one_line(outcome["name"], NAME_CHARACTERS),
        kind=formatting.status(outcome),
        wave=str(outcome.get("wave", "")),
        result=one_line(formatting.result(outcome), WORD_CHARACTERS),
        exit_status=exit_status(outcome["ran"]) if outcome["ran"] else "",
        release=one_line(formatting.release(outcome), 12).rstrip("…"),
        took=seconds(sum(times.values())) if times else "",
    )


def exit_status(ran: CommandOutcomeRecord) -> str:
    """The exit status in words."""
    match ran["ending"]:
        case "exited":
            return one_line(f"exit code {ran['exit_code']}", WORD_CHARACTERS)
        case "signalled":
            return one_line(f"killed by signal {_signal(ran['signal'])}", WORD_CHARACTERS)
        case "timed_out":
            return f"timed out after {number(ran['seconds']):.0f} s"
        case other:
            return one_line(other, WORD_CHARACTERS).replace("_", " ")


def _signal(stated: object) -> str:
    name = next((one.name for one in signal.Signals if one.value == stated), "")
    return f"{stated} ({name})" if name else str(stated)


def reason(error: ErrorRecord, ids: Sequence[str] = ()) -> Reason:
    message, hint = (lines(error[part], SENTENCE_CHARACTERS) for part in ("message", "hint"))
    return Reason(message, hint, named(ids))


def reasons(outcomes: Sequence[Outcome]) -> list[Reason]:
    """Each different error once, with the instances it holds for."""
    return [
        reason({"code": "", "message": message, "hint": hint}, ids)
        for (message, hint), ids in formatting.reasons(outcomes).items()
    ]


def named(ids: Sequence[str]) -> str:
    """``i-1, i-2 and 998 more``, harmless."""
    return formatting.some_ids([one_line(id_, NAME_CHARACTERS) for id_ in ids])


def tails(outcomes: Sequence[Outcome]) -> Values:
    """The last output of as many instances as the page has room for, few of them successes."""
    printed = [(o, o["ran"]) for o in failed_first(outcomes) if o["ran"] and o["ran"]["tail"]]
    bad = sum(outcome["status"] != "succeeded" for outcome, _ in printed)
    shown: list[Values] = []
    room = ALL_TAILS_CHARACTERS
    for outcome, ran in printed[: min(MOST_TAILS, bad + MOST_GOOD_TAILS)]:
        room -= min(len(str(ran["tail"])), TAIL_CHARACTERS)
        if room < 0:
            break
        opened = outcome["status"] != "succeeded" and len(shown) < _OPEN_TAILS
        shown.append(_tail(outcome, ran, opened or len(printed) == 1))
    return {"shown": shown, "omitted": len(printed) - len(shown)}


def _tail(outcome: Outcome, ran: CommandOutcomeRecord, opened: bool) -> Values:
    """The end of the tail: errors are there. ``opened`` spares the reader a click."""
    whole, printed = str(ran["tail"]), int(number(ran["output_bytes"]))
    cut = len(whole) > TAIL_CHARACTERS or printed > len(whole.encode(errors="replace"))
    return {
        "instance": instance(outcome),
        "text": visible(as_drawn(whole)[-TAIL_CHARACTERS:]),
        "extent": f"the end of {size(printed)}" if cut else size(printed),
        "opened": opened,
    }


# Cells of the grid shrink so that the fleet stays in view: 10,000 fit a laptop's screen.
_ROOMY, _DENSE = 100, 1500
_MARKED: dict[WaveStatus, str] = {
    "done": "succeeded",
    "failed": "failed",
    "returned": "failed",
    "untouched": "skipped",
}


def fleet(report: Report) -> Values | None:
    """Every instance of the report as a cell; None when there is none. ``legend`` has the number of
    each kind of cell; ``facts`` are those of the roll-out."""
    outcomes, rollout = report["instances"], report.get("rollout")
    if not outcomes:
        return None
    return {
        "density": _density(len(outcomes)),
        "legend": _counts(outcomes),
        "groups": _waves(outcomes, rollout) if rollout else [_group(outcomes)],
        "facts": _facts(rollout) if rollout else (),
    }


def _density(instances: int) -> str:
    if instances <= _ROOMY:
        return "roomy"
    return "dense" if instances <= _DENSE else "packed"


def _counts(outcomes: Sequence[Outcome]) -> tuple[tuple[str, int], ...]:
    """The number of each kind; of returned ones only where there are any."""
    found = Counter(map(formatting.status, outcomes))
    kinds = ("succeeded", "failed", "returned", "skipped")
    return tuple((each, found[each]) for each in kinds if found[each] or each != "returned")


def _waves(outcomes: Sequence[Outcome], rollout: RolloutRecord) -> list[Values]:
    """A group for each wave, then one of those that were in none: they were not reached."""
    members: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        members.setdefault(outcome.get("wave", 0), []).append(outcome)
    groups = [
        _group(
            members.get(number, ()),
            f"Wave {number}",
            formatting.wave(wave),
            _MARKED[wave["status"]],
        )
        for number, wave in enumerate(rollout["waves"], start=1)
    ]
    absent = members.get(0, ())
    if absent:
        words = f"{counted(len(absent), 'instance')} could not be reached"
        groups.append(_group(absent, "In no wave", words, "failed"))
    return groups


def _group(
    outcomes: Sequence[Outcome], title: str = "", words: str = "", status: str = ""
) -> Values:
    """Cells that stand together, in the plan's order. Without a roll-out ``title``, ``words`` and
    ``status`` are empty; ``spoken`` is the picture in words."""
    counts = ", ".join(f"{count} {each}" for each, count in _counts(outcomes))
    return {
        "title": title,
        "words": words,
        "status": status,
        "cells": list(map(instance, outcomes)),
        "spoken": f"{title}: {counts}" if title else counts,
    }


def _facts(rollout: RolloutRecord) -> tuple[tuple[str, str], ...]:
    stated = {
        "Health command": one_line(shlex.join(rollout["health"]), COMMAND_CHARACTERS),
        "Left alone before it": seconds(rollout["bake_seconds"]) if rollout["bake_seconds"] else "",
        "Wave returned by the run": one_line(rollout["rollback"], 2 * NAME_CHARACTERS),
    }
    return tuple((name, value) for name, value in stated.items() if value)
