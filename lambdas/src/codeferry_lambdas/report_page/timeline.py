"""The timeline of the report page: the time each phase took on each instance. Values only."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from codeferry_contracts import formatting
from codeferry_contracts.formatting import seconds
from codeferry_contracts.report import Outcome
from codeferry_lambdas.report_page.text import NAME_CHARACTERS, one_line
from codeferry_lambdas.runs.outcomes import number

PHASES = ("lock", "download", "extract", "activate", "install", "execute", "bake", "health")
MOST_BARS = 60
_MOST_TICKS = 5
_MOST_PHASES = 12  # an instance may name phases as it likes
_PHASE_CHARACTERS = 24
_STEPS = (
    *(digit * 10.0**power for power in (-3, -2, -1, 0) for digit in (1, 2, 5)),
    *(10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0),
    *(3600.0 * hours for hours in (1, 2, 3, 6, 12)),
)


def timeline(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """The phases of the instances that reported any; None when none did. ``bars``: the failed
    first, then the slowest; ``omitted`` instances have none."""
    timed = [(outcome, phases(outcome)) for outcome in outcomes if phases(outcome)]
    if not timed:
        return None
    timed.sort(key=lambda item: (formatting.severity(item[0]), -sum(item[1].values())))
    shown = timed[:MOST_BARS]
    longest = max(sum(times.values()) for _, times in shown)
    return {
        "bars": [_bar(outcome, times, longest) for outcome, times in shown],
        "omitted": len(timed) - len(shown),
        "ticks": _ticks(longest),
        "phases": _legend([times for _, times in shown]),
        "spread": _spread([sum(times.values()) for _, times in timed]),
    }


def phases(outcome: Outcome) -> dict[str, float]:
    """Seconds by phase, in the order of the work; only what is a time at all."""
    stated: Mapping[str, object] = outcome["seconds"]
    times = {
        one_line(name, _PHASE_CHARACTERS): number(value)
        for name, value in list(stated.items())[:_MOST_PHASES]
        if number(value) > 0
    }
    return dict(sorted(times.items(), key=lambda item: _kind(item[0])))


def _kind(phase: str) -> int:
    return PHASES.index(phase) if phase in PHASES else len(PHASES)


def _bar(outcome: Outcome, times: Mapping[str, float], longest: float) -> dict[str, Any]:
    """A segment for each phase: ``left`` and ``width`` in percent of the common scale, ``kind`` its
    place among the phases that have a colour. ``spoken`` is the picture in words."""
    segments, left = [], 0.0
    for phase, value in times.items():
        segments.append(
            {
                "phase": phase,
                "kind": _kind(phase),
                "left": _percent(left / longest),
                "width": _percent(value / longest),
                "seconds": seconds(value),
            }
        )
        left += value
    return {
        "instance_id": one_line(outcome["instance_id"], NAME_CHARACTERS),
        "name": one_line(outcome["name"], NAME_CHARACTERS),
        "kind": formatting.status(outcome),
        "wave": str(outcome.get("wave", "")),
        "segments": segments,
        "total": seconds(left),
        "spoken": ", ".join(f"{phase} {seconds(value)}" for phase, value in times.items()),
    }


def _ticks(longest: float) -> list[dict[str, str]]:
    """A few round times on the scale."""
    step = next((s for s in _STEPS if longest / s <= _MOST_TICKS), 24 * 3600.0)
    times = [step * n for n in range(int(min(longest / step, 2 * _MOST_TICKS)) + 1)]
    return [{"left": _percent(time / longest), "label": _short(time)} for time in times]


def _short(time: float) -> str:
    if time < 60:
        return f"{time:g} s"
    return f"{time / 60:g} min" if time < 3600 else f"{time / 3600:g} h"


def _legend(shown: Sequence[Mapping[str, float]]) -> tuple[tuple[int, str], ...]:
    """The phases that occur: what has no colour of its own shares one."""
    kinds = sorted({_kind(phase) for times in shown for phase in times})
    return tuple((kind, PHASES[kind] if kind < len(PHASES) else "other") for kind in kinds)


def _spread(totals: Sequence[float]) -> str:
    """The middle and the end of the distribution, in words; empty for one instance."""
    if len(totals) < 2:
        return ""
    return f"Median {seconds(statistics.median(totals))}, slowest {seconds(max(totals))}."


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
