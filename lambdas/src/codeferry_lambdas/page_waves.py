"""The fleet on the report page, cut into the waves of a roll-out if there was one. Values only."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codeferry_contracts import formatting
from codeferry_contracts.formatting import counted, seconds
from codeferry_contracts.report import Outcome, Report, RolloutRecord, WaveStatus
from codeferry_lambdas.page_fleet import COMMAND_CHARACTERS, Instance, instance
from codeferry_lambdas.page_text import NAME_CHARACTERS, one_line

# Cells of the grid shrink so that the fleet stays in view: 10,000 fit a laptop's screen.
_ROOMY, _DENSE = 100, 1500
_MARKED: dict[WaveStatus, str] = {
    "done": "succeeded",
    "failed": "failed",
    "returned": "failed",
    "untouched": "skipped",
}


@dataclass(frozen=True)
class Group:
    """Cells that stand together, in the plan's order. Without a roll-out ``title``, ``words``
    and ``status`` are empty; ``spoken`` is the picture in words."""

    title: str
    words: str
    status: str
    cells: tuple[Instance, ...]
    spoken: str


@dataclass(frozen=True)
class Fleet:
    """``legend`` has the number of each kind of cell; ``facts`` are those of the roll-out."""

    density: str
    legend: tuple[tuple[str, int], ...]
    groups: tuple[Group, ...]
    facts: tuple[tuple[str, str], ...]


def fleet(report: Report) -> Fleet | None:
    """Every instance of the report as a cell; None when there is none."""
    outcomes, rollout = report["instances"], report.get("rollout")
    if not outcomes:
        return None
    return Fleet(
        density=_density(len(outcomes)),
        legend=_counts(outcomes),
        groups=_waves(outcomes, rollout) if rollout else (_group(outcomes),),
        facts=_facts(rollout) if rollout else (),
    )


def _density(instances: int) -> str:
    if instances <= _ROOMY:
        return "roomy"
    return "dense" if instances <= _DENSE else "packed"


def _counts(outcomes: Sequence[Outcome]) -> tuple[tuple[str, int], ...]:
    """How many there are of each kind; of returned ones only where there are any."""
    found = Counter(map(formatting.status, outcomes))
    kinds = ("succeeded", "failed", "returned", "skipped")
    return tuple((each, found[each]) for each in kinds if found[each] or each != "returned")


def _waves(outcomes: Sequence[Outcome], rollout: RolloutRecord) -> tuple[Group, ...]:
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
    return tuple(groups)


def _group(
    outcomes: Sequence[Outcome], title: str = "", words: str = "", status: str = ""
) -> Group:
    counts = ", ".join(f"{count} {each}" for each, count in _counts(outcomes))
    return Group(
        title=title,
        words=words,
        status=status,
        cells=tuple(map(instance, outcomes)),
        spoken=f"{title}: {counts}" if title else counts,
    )


def _facts(rollout: RolloutRecord) -> tuple[tuple[str, str], ...]:
    stated = {
        "Health command": one_line(shlex.join(rollout["health"]), COMMAND_CHARACTERS),
        "Left alone before it": seconds(rollout["bake_seconds"]) if rollout["bake_seconds"] else "",
        "Wave returned by the run": one_line(rollout["rollback"], 2 * NAME_CHARACTERS),
    }
    return tuple((name, value) for name, value in stated.items() if value)
