"""Roll-outs and rollbacks through plan, verify and the report."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_contracts.layout import ReleaseKeys
from codeferry_contracts.parameters import RollbackPayload
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.handlers import verify
from codeferry_lambdas.planning.request import read_request
from codeferry_lambdas.releases.store import ReleaseStore
from codeferry_lambdas.runs.command import payload_for
from codeferry_lambdas.runs.record import PinnedArchive, Plan, Record, Run
from codeferry_lambdas.runs.report import Known, build_report, execution_output
from tests.unit.lambdas import factories
from tests.unit.lambdas.factories import KEY, event, packed_archive
from tests.unit.lambdas.fleet.test_targets import answer, launch
from tests.unit.lambdas.planning.test_plan import describe, planned, refused, upload
from tests.unit.lambdas.runs.test_rollout import A, B, ended, rolled_out
from tests.unit.lambdas.runs.test_verification import ONE, TRUE, TWO

BACK = Run("back-1", "2026-11-12T00:00:00.000Z", "rollback")
ROLLOUT = {"archive": {"key": KEY}, "target": "web", "options": {"rollout": {"waves": ["1"]}}}


def test_a_roll_out_is_planned_in_its_waves(
    settings: Settings, ssm: Stubber, run: Run, record: Record
) -> None:
    """One, then the rest; nobody may fail, and the step has the time to bake and to look."""
    upload()
    answer(ssm, *launch(3, codeferry="web"))
    describe(ssm)
    asked = {"waves": ["1"], "bake_seconds": 600, "health": ["true"]}
    planned(run, ROLLOUT | {"options": {"rollout": asked}})
    made = record.plan()
    assert (made.rollout, made.budget) == (((0,), (1,)), 0)
    assert [len(batch) for batch in made.batches] == [1, 2]
    assert made.step_seconds == 900 + 600 + 60 + 60
    sent = payload_for(made, run, "https://h/x")
    assert not isinstance(sent, RollbackPayload)
    assert (sent.returning, sent.bake_seconds, sent.health) == (True, 600, ("true",))


def test_a_run_id_that_leaves_no_room_for_its_return_is_refused(
    settings: Settings, ssm: Stubber
) -> None:
    """Before anything is sent, rather than when the wave has failed."""
    upload()
    answer(ssm, *launch(1, codeferry="web"))
    run = Run("r" * 76, "2026-11-12T00:00:00.000Z", "sync")
    assert type(refused(run, ROLLOUT)).__name__ == "NameInvalid"


def test_a_script_has_no_waves(settings: Settings) -> None:
    """There is no release to return."""
    run = Run("run-1", "2026-11-12T00:00:00.000Z", "script")
    request = ROLLOUT | {"command": ["x.sh"]}
    assert "not for scripts" in str(refused(run, request))


def test_a_rollback_is_planned_without_an_archive(settings: Settings, ssm: Stubber) -> None:
    """The instances are told which release, and nothing of a URL."""
    answer(ssm, *launch(2, codeferry="web"))
    describe(ssm)
    planned(BACK, {"target": "web", "project": "demo", "release": A})
    made = Record(settings.bucket, BACK.keys).plan()
    assert (made.archive, made.project, made.settles) == (None, "demo", "web")
    assert payload_for(made, BACK, "") == RollbackPayload("back-1", "demo", A, "")


def test_an_archive_is_no_part_of_a_rollback(settings: Settings) -> None:
    """Nor is a rollback's release part of a push."""
    assert "archive is not a known key" in str(refused(BACK, ROLLOUT | {"project": "demo"}))
    run = Run("run-1", "2026-11-12T00:00:00.000Z", "sync")
    asked = {"archive": {"key": KEY}, "target": "web", "release": A}
    assert "release is not a known key" in str(refused(run, asked))


def verified(record: Record, made: Plan, outcomes: list[Any], run: Run) -> Any:
    record.write_plan(made)
    record.write_outcomes(0, outcomes)
    verify.handler(event(run), None)
    return record.read(run.keys.verification)


def real_archive() -> PinnedArchive:
    body = packed_archive()
    put = clients.s3().put_object(Bucket="codeferry-dev-artifacts", Key=KEY, Body=body)
    return PinnedArchive(KEY, put["VersionId"], len(body), "c" * 64)


def test_a_verified_release_is_kept(record: Record, run: Run) -> None:
    """The record of the target has it, without a word of warning."""
    made = factories.plan(2, archive=real_archive())
    found = verified(record, made, [factories.outcome(i, **TRUE) for i in (ONE, TWO)], run)
    assert found["warnings"] == []
    kept = ReleaseStore(record.bucket).find(ReleaseKeys("web", "demo").record)
    assert kept is not None
    assert kept.release_id == TRUE["release_id"]


def test_a_release_that_cannot_be_kept_is_a_warning(
    record: Record, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has done what it was asked for."""
    monkeypatch.setattr(
        ReleaseStore, "copy", lambda *_: clients.s3().get_object(Bucket="x", Key="y")
    )
    made = factories.plan(2, archive=real_archive())
    found = verified(record, made, [factories.outcome(i, **TRUE) for i in (ONE, TWO)], run)
    assert found["verified"] == 2
    assert "join later will not get this release" in found["warnings"][0]


def test_going_back_to_different_releases_is_a_warning(settings: Settings) -> None:
    """Nothing was sent that they could be compared with."""
    record = Record(settings.bucket, BACK.keys)
    three = [*factories.instances(3)]
    outcomes = [
        factories.outcome(i, release_id=r, change="restored", digest="", files=0)
        for i, r in zip(three, (A, A, B), strict=True)
    ]
    request = {"target": "web", "project": "demo"}
    found = verified(record, factories.plan(3, archive=None, request=request), outcomes, BACK)
    assert (found["release_id"], found["verified"], found["mismatched"]) == (A, 2, [])
    assert found["warnings"] == [f"{three[2].instance_id} went back to release {B}."]


@pytest.mark.parametrize(
    ("state", "succeeded", "warned"),
    [
        ({"rollback": {"run_id": "back-run-1", "status": "SUCCEEDED"}}, 1, False),
        ({"rollback_error": {"Error": "States.TaskFailed", "Cause": ""}}, 2, True),
    ],
)
def test_the_report_says_what_became_of_a_failed_wave(
    run: Run, state: dict[str, Any], succeeded: int, warned: bool
) -> None:
    """Who was returned has not succeeded; a return that failed names the run to look at."""
    cause = '{"code": "wave_failed", "message": "Wave 2 of 3 failed.", "hint": "Look."}'
    known = Known(
        run=run,
        stage="dev",
        request={},
        finished_at=run.started_at,
        state={"batches": {}, "error": {"Error": "WaveFailed", "Cause": cause}, **state},
        plan=rolled_out(),
        outcomes=ended("+!+..."),
    )
    found = build_report(known)
    assert found["counts"]["succeeded"] == succeeded
    assert found["error"] is not None
    assert (found["error"]["code"], found["error"]["phase"]) == ("wave_failed", "apply")
    assert any("ferry status back-run-1" in line for line in found["warnings"]) is warned
    assert execution_output(found)["succeeded"] is False


def test_the_plan_of_a_rollback_survives_its_json(settings: Settings) -> None:
    """As every state after it reads it."""
    made = factories.plan(
        2, archive=None, leaving=B, settles="web", request={"target": "web", "project": "p"}
    )
    record = Record(settings.bucket, BACK.keys)
    record.write_plan(made)
    assert record.plan() == made
    assert read_request(dict(made.request), "rollback").project == "p"
