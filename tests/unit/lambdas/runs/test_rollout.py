"""Roll-outs: waves, the one that failed, whom it concerns, and what the report says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts.report import Outcome
from codeferry_contracts.request import parse_request
from codeferry_lambdas.aws.errors import NothingToReturn, WaveFailed, WaveReturned
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.batches import schedule
from codeferry_lambdas.handlers import dispatch
from codeferry_lambdas.planning import rollback
from codeferry_lambdas.runs import rollout
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Plan, Record, Run
from codeferry_lambdas.runs.report import Known, build_report
from tests.unit.lambdas.factories import KEY, instances, outcome, plan
from tests.unit.lambdas.fleet.test_targets import answer, launch

A, B = "a" * 20, "b" * 20
REQUEST = {
    "archive": {"key": KEY},
    "target": "web",
    "options": {"rollout": {"waves": ["1", "3"], "health": ["true"]}},
}
shares = st.one_of(st.integers(1, 12_000).map(str), st.integers(1, 100).map(lambda p: f"{p}%"))


def rolled_out(**changes: Any) -> Plan:
    """One instance, then two, then three; budget 0."""
    fields = {"rollout": ((0,), (1,), (2,)), "budget": 0, "request": REQUEST} | changes
    return plan(1, 2, 3, **fields)


def ended(*statuses: str, **changes: Any) -> list[Outcome]:
    """Outcomes of the first instances: ``+`` has the release now, ``=`` had it before, ``!``
    failed with it, ``<`` failed and went back, ``.`` was not sent to."""
    kinds: dict[str, dict[str, Any]] = {
        "+": {},
        "=": {"change": "unchanged", "previous": B},
        "!": {"status": "failed", "change": ""},
        "<": {"status": "failed", "change": "", "returned": A},
        ".": {"status": "skipped", "command_id": "", "release_id": "", "change": ""},
    }
    error = {"code": "health_failed", "message": "It is ill.", "hint": ""}
    return [
        outcome(
            instance,
            **{"command_id": "c", "release_id": B, "previous": A, **kinds[status], **changes},
            error=error if status in "!<" else None,
        )
        for instance, status in zip(instances(6), "".join(statuses), strict=True)
    ]


@given(st.integers(1, 10_000), shares, st.lists(shares, min_size=1, max_size=8))
def test_stages_cut_the_fleet_without_losing_anybody(
    fleet: int, concurrency: str, stages: list[str]
) -> None:
    """Every instance once, each batch in one stage, no stage empty, and never more at once than
    without stages."""
    found = schedule(fleet, concurrency, stages)
    assert sum(found.sizes) == fleet
    assert [n for stage in found.stages for n in stage] == list(range(len(found.sizes)))
    assert [n for wave in found.waves for n in wave] == list(range(len(found.sizes)))
    assert all(found.stages)
    assert found.concurrency <= max(schedule(fleet, concurrency).concurrency, 1)
    ends = {max(stage) for stage in found.stages}
    assert all(max(wave) in ends or not ends & set(wave) for wave in found.waves)


@pytest.mark.parametrize(
    ("fleet", "stages", "sizes"),
    [
        (6, ["1", "50%"], [1, 2, 3]),
        (100, ["1", "10%", "50%", "100%"], [1, 9, 40, 50]),
        (3, ["1%", "2%", "100%"], [1, 2]),
        (3, ["7"], [3]),
        (5, ["3", "1", "4"], [3, 1, 1]),
    ],
)
def test_stages_are_cumulative(fleet: int, stages: list[str], sizes: list[int]) -> None:
    """Each says how many have it by its end; what adds nobody is left out."""
    found = schedule(fleet, "100%", stages)
    assert [sum(found.sizes[n] for n in stage) for stage in found.stages] == sizes


def test_a_roll_out_that_goes_well_has_no_failed_wave(run: Run) -> None:
    """Nothing is raised, and every wave is done."""
    outcomes = ended("++++++")
    rollout.require_healthy(rolled_out(), run, outcomes, "prod")
    found = rollout.describe(rolled_out(), outcomes, {})
    assert found is not None
    assert [wave["status"] for wave in found["waves"]] == ["done"] * 3


@pytest.mark.parametrize(
    ("statuses", "error", "shown"),
    [
        ("+!+...", WaveFailed, ["done", "failed", "untouched"]),
        ("+<+...", WaveFailed, ["done", "failed", "untouched"]),
        ("+<<...", WaveReturned, ["done", "returned", "untouched"]),
        ("<.....", WaveReturned, ["returned", "untouched", "untouched"]),
        ("+=<...", WaveReturned, ["done", "returned", "untouched"]),
        ("+++<++", WaveFailed, ["done", "done", "failed"]),
    ],
)
def test_the_last_wave_that_was_sent_is_the_one_that_failed(
    run: Run, statuses: str, error: type[Exception], shown: list[str]
) -> None:
    """It is to be returned if any of it has the release now and had another before."""
    outcomes = ended(statuses)
    with pytest.raises(error, match="It is ill") as raised:
        rollout.require_healthy(rolled_out(), run, outcomes, "prod")
    keeps = f"ferry rollback run:{run.id} --stage prod" in raised.value.hint
    assert keeps == (shown[0] == "done")
    found = rollout.describe(rolled_out(), outcomes, {})
    assert found is not None
    assert [wave["status"] for wave in found["waves"]] == shown


def test_what_was_returned_does_not_count_as_a_success() -> None:
    """The healthy instances of a wave that went back say so; others keep their outcome."""
    outcomes = ended("+!+...")
    done = {"rollback": {"run_id": "back-1", "status": "SUCCEEDED"}}
    statuses = [o["status"] for o in rollout.returned(rolled_out(), outcomes, done)]
    assert statuses == ["succeeded", "failed", "failed", "skipped", "skipped", "skipped"]
    assert rollout.returned(rolled_out(), outcomes, {}) == outcomes
    found = rollout.describe(rolled_out(), outcomes, done)
    assert found is not None
    assert (found["waves"][1]["status"], found["rollback"]) == ("returned", "back-1")


def test_each_outcome_says_its_wave() -> None:
    """Also of instances that no record is left of; without a roll-out there is no such word."""
    outcomes = ended("+!+...")
    assert [o.get("wave") for o in rollout.with_waves(rolled_out(), outcomes)] == [1, 2, 2, 3, 3, 3]
    known = Known(
        run=Run("run-1", "2026-11-12T00:00:00.000Z", "sync"), stage="dev", request=REQUEST,
        finished_at="2026-11-12T00:01:00.000+00:00", state={}, plan=rolled_out(),
        outcomes=outcomes[:3],
    )  # fmt: skip
    assert [o.get("wave") for o in build_report(known)["instances"]] == [1, 2, 2, 3, 3, 3]
    assert "wave" not in rollout.with_waves(plan(1, 2, 3), outcomes)[0]


def test_a_budget_lets_a_wave_have_failures(run: Run) -> None:
    """As many as the request says, over all waves."""
    rollout.require_healthy(rolled_out(budget=1), run, ended("+!++++"), "prod")
    with pytest.raises(WaveFailed):
        rollout.require_healthy(rolled_out(budget=1), run, ended("+!+!++"), "prod")


def test_without_a_roll_out_nothing_is_judged(run: Run) -> None:
    """A run that many instances failed in is no matter of waves."""
    rollout.require_healthy(plan(1, 2, 3, budget=0), run, ended("!!!!!!"), "prod")


def test_who_is_unreachable_does_not_stop_a_roll_out(
    ledger: Ledger, run: Run, settings: Settings
) -> None:
    """It says nothing about the release; without waves it counts against the budget."""
    absent = (object(),)
    made = rolled_out(unreachable=absent)
    assert dispatch.count_failed(made, ledger, run) == 0
    assert dispatch.count_failed(dataclasses.replace(made, rollout=()), ledger, run) == 1


def recorded(settings: Settings, run_id: str, statuses: str, ids: list[str]) -> None:
    """A roll-out that went so on these instances."""
    keys = Run(run_id, "2026-11-12T00:00:00Z", "sync").keys
    record, made = Record(settings.bucket, keys), rolled_out()
    names = dict(zip((i.instance_id for b in made.batches for i in b), ids, strict=True))
    batches = tuple(
        tuple(dataclasses.replace(i, instance_id=names[i.instance_id]) for i in batch)
        for batch in made.batches
    )
    record.write_plan(dataclasses.replace(made, batches=batches))
    found = [{**o, "instance_id": names[o["instance_id"]]} for o in ended(statuses)]
    for number, cut in enumerate((found[:1], found[1:3], found[3:])):
        record.write_outcomes(number, cut)  # type: ignore[arg-type]


def find(settings: Settings, target: str) -> rollback.Rollback:
    return rollback.find_rollback(settings, parse_request({"target": target}, "rollback"))


def test_the_way_back_of_a_wave_is_for_those_it_has_changed(settings: Settings, ssm: Any) -> None:
    """Neither the waves before nor who had the release already nor who is back; only that
    release is left."""
    ids = sorted(launch(6, codeferry="web"))
    recorded(settings, "run-9", "++<...", ids)
    answer(ssm, ids[1])
    found = find(settings, "wave:run-9")
    assert [i.instance_id for i in found.fleet.reachable] == [ids[1]]
    assert (found.project, found.leaving, found.settles) == ("demo", B, "")
    answer(ssm, ids[0], ids[1])
    found = find(settings, "run:run-9")
    assert [i.instance_id for i in found.fleet.reachable] == ids[:2]
    assert (found.settles, found.settles_run) == ("web", "run-9")


def test_who_was_returned_with_its_wave_is_not_returned_again(settings: Settings, ssm: Any) -> None:
    """Once there is a report: it knows, and what the batches left does not."""
    ids = sorted(launch(6, codeferry="web"))
    recorded(settings, "run-9", "+<+...", ids)
    keys = Run("run-9", "2026-11-12T00:00:00Z", "sync").keys
    found = [{**o, "instance_id": i} for o, i in zip(ended("+<<..."), ids, strict=True)]
    Record(settings.bucket, keys).write(keys.report, {"instances": found})
    answer(ssm, ids[0])
    reachable = find(settings, "run:run-9").fleet.reachable
    assert [i.instance_id for i in reachable] == ids[:1]


def test_a_run_that_changed_nothing_cannot_be_undone(settings: Settings) -> None:
    """It is said so, rather than that no instance matches."""
    recorded(settings, "run-9", "<.....", [i.instance_id for i in instances(6)])
    with pytest.raises(NothingToReturn):
        find(settings, "run:run-9")


def test_a_target_goes_back_as_a_whole(settings: Settings, ssm: Any) -> None:
    """And its kept release follows; of named instances it does not."""
    ids = launch(1, codeferry="web")
    for target, settles in (("web", "web"), (ids[0], "")):
        answer(ssm, *ids)
        request = parse_request({"target": target, "project": "demo"}, "rollback")
        found = rollback.find_rollback(settings, request)
        assert (found.leaving, found.settles) == ("", settles)
