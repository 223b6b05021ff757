"""Phases out of a history's events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from codeferry_cli.runs.execution import _PHASE_OF_STATE, NOTHING_YET, PHASES, advance, phase_label

T0 = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)


def history(*steps: tuple[str, str, float]) -> list[dict[str, Any]]:
    """Events from (entered | exited | other, state name, seconds since the start)."""
    return [
        {
            "id": number,
            "timestamp": T0 + timedelta(seconds=second),
            "type": f"TaskState{kind.capitalize()}",
            **(
                {f"state{kind.capitalize()}EventDetails": {"name": name}} if kind != "other" else {}
            ),
        }
        for number, (kind, name, second) in enumerate(steps, start=1)
    ]


WHOLE = history(
    ("other", "", 0),
    ("entered", "Plan", 0),
    ("exited", "Plan", 1.5),
    ("entered", "Waves", 1.5),
    ("entered", "Dispatch", 2),
    ("exited", "Dispatch", 2.5),
    ("entered", "Await15", 2.5),
    ("exited", "Await15", 6),
    ("entered", "Collect", 6),
    ("exited", "Collect", 7),
    ("entered", "Verify", 7),
    ("exited", "Verify", 8),
    ("entered", "Cleanup", 8),
    ("exited", "Cleanup", 8.25),
    ("entered", "Report", 8.25),
    ("exited", "Report", 9),
)


def test_each_phase_lasts_from_its_first_state_to_its_last() -> None:
    """Await and Collect are one phase, states that are no phase's count for none."""
    timeline = advance(NOTHING_YET, WHOLE)
    seconds = {entry["phase"]: entry["seconds"] for entry in timeline.to_json()}
    assert seconds == {
        "plan": 1.5,
        "dispatch": 0.5,
        "apply": 4.5,
        "verify": 1.0,
        "cleanup": 0.25,
        "report": 0.75,
    }


def test_the_current_phase_is_the_last_begun_and_the_others_are_over() -> None:
    """A run that awaits its instances is in apply."""
    timeline = advance(NOTHING_YET, WHOLE[:7])
    assert timeline.current == "apply"
    assert timeline.over() == ["plan", "dispatch"]


def test_a_run_that_fails_in_plan_goes_on_in_cleanup() -> None:
    """Phases that never began are not listed, and plan ends where cleanup begins."""
    events = history(("entered", "Plan", 0), ("entered", "Cleanup", 3), ("exited", "Cleanup", 4))
    timeline = advance(NOTHING_YET, events)
    assert timeline.to_json() == [
        {"phase": "plan", "seconds": 3.0},
        {"phase": "cleanup", "seconds": 1.0},
    ]


def test_with_a_command_applying_is_called_running() -> None:
    """Only that phase has another word."""
    assert [phase_label(phase, command=True) for phase in PHASES] == [
        "plan", "dispatch", "run", "verify", "return", "cleanup", "report",
    ]  # fmt: skip
    assert [phase_label(phase, command=False) for phase in PHASES] == list(PHASES)


def test_nothing_has_begun_before_the_first_event() -> None:
    """An execution that was only just accepted has no current phase."""
    assert NOTHING_YET.current is None
    assert NOTHING_YET.to_json() == []


def test_a_second_batch_does_not_bring_an_earlier_phase_back() -> None:
    """Dispatch of a later batch, while the first is awaited, leaves the run in apply."""
    again = history(*[("other", "", 0)] * len(WHOLE[:7]), ("entered", "Dispatch", 6))[-1:]
    timeline = advance(advance(NOTHING_YET, WHOLE[:7]), again)
    assert timeline.current == "apply"


@given(st.lists(st.integers(0, len(WHOLE)), max_size=6))
def test_reading_in_pieces_and_twice_gives_what_reading_at_once_gives(cuts: list[int]) -> None:
    """However polls cut the history, and though they overlap, the timeline is the same."""
    timeline = NOTHING_YET
    for cut in sorted(cuts):
        timeline = advance(timeline, WHOLE[:cut])
    assert advance(timeline, WHOLE) == advance(NOTHING_YET, WHOLE)


def test_every_phase_name_is_one_a_state_can_lead_to() -> None:
    """No phase is listed that no state stands for; only a wave that failed is returned."""
    returned = history(*[("other", "", 0)] * len(WHOLE), ("entered", "Return", 60))[-1:]
    whole = advance(NOTHING_YET, WHOLE)
    assert set(whole.spans) == set(PHASES) - {"return"}
    assert set(advance(whole, returned).spans) == set(PHASES)


def test_every_state_that_works_is_in_a_phase() -> None:
    """Each task of the definition, and no state that it has not: what runs has a line."""
    definition = Path(__file__).resolve().parents[4] / "stacks/workflow/run.asl.json"
    assert set(_PHASE_OF_STATE) == set(tasks(json.loads(definition.read_text())))


def tasks(part: Any) -> Iterator[str]:
    """The names of the Task states anywhere in a definition."""
    for name, state in part.get("States", {}).items():
        if state["Type"] == "Task":
            yield name
        yield from tasks(state.get("ItemProcessor", {}))
