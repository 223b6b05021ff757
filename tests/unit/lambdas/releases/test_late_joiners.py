"""welcome: who joins late gets the last good release."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from codeferry_contracts.last_good import LastGoodRelease, ReleaseArchive
from codeferry_contracts.layout import ReleaseKeys
from codeferry_contracts.request import parse_request
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.unreachable import Machine
from codeferry_lambdas.handlers import late_joiners
from codeferry_lambdas.releases.late_joiners import PAUSES, missing
from codeferry_lambdas.releases.store import ReleaseStore
from codeferry_lambdas.runs.ledger import Ledger
from tests.unit.lambdas.fleet.test_targets import DEV, STRICT, answer, launch

ARN = "arn:aws:states:eu-west-1:111122223333:stateMachine:codeferry-dev-sync"


@pytest.fixture(autouse=True)
def arn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_MACHINE_ARN_SYNC", ARN)


def release(target: str = "web", project: str = "demo", **changes: Any) -> LastGoodRelease:
    keys = ReleaseKeys(target, project)
    archive = ReleaseArchive("a" * 20, "a" * 64, 2, keys.archive, "v1", 100, "c" * 64)
    fields = {
        "release_id": "a" * 20,
        "run_id": "run-1",
        "settled_at": "2026-11-12T00:01:00.000Z",
        "archive": archive,
    }
    return LastGoodRelease(project=project, target=target, **(fields | changes))  # type: ignore[arg-type]


def keep(settings: Settings, *kept: LastGoodRelease) -> None:
    for each in kept:
        ReleaseStore(settings.bucket).change(
            ReleaseKeys(each.target, each.project).record, lambda _, each=each: each
        )


def started(states: Stubber, requests: list[Any]) -> None:
    states.add_response(
        "start_execution",
        {"executionArn": ARN, "startDate": 0},
        {"stateMachineArn": ARN, "name": ANY, "input": Capturing(requests)},
    )


class Capturing:
    """Equal to every text, which it keeps."""

    def __init__(self, texts: list[Any]) -> None:
        self.texts = texts

    def __eq__(self, text: object) -> bool:
        self.texts.append(json.loads(str(text)))
        return True

    __hash__ = None  # type: ignore[assignment]


def machine(instance_id: str, target: str = "web", **changes: Any) -> Machine:
    tags = {"codeferry:target": target, "Role": "worker"}
    return Machine(**{"instance_id": instance_id, "state": "running", "tags": tags} | changes)


def lacking(*releases: LastGoodRelease, machines: list[Machine]) -> dict[str, tuple[str, ...]]:
    """Who lacks what, by target."""
    return {j.release.target: j.instances for j in missing(releases, machines, DEV)}


def test_who_joins_another_stage_gets_nothing_of_this_one() -> None:
    """By its tag; without one it is everybody's, but where the tag is required."""
    own, other, none = ({"codeferry:stage": s} if s else {} for s in ("dev", "prod", ""))
    machines = [
        machine(f"i-{n}", tags={"codeferry:target": "web"} | stage)
        for n, stage in enumerate((own, other, none))
    ]
    assert lacking(release(), machines=machines) == {"web": ("i-0", "i-2")}
    (strict,) = missing([release()], machines, STRICT)
    assert strict.instances == ("i-0",)


def test_who_has_no_release_is_missing_it() -> None:
    """Running instances of the target that are not on the record, and nobody else."""
    machines = [
        machine("i-1"),
        machine("i-2"),
        machine("i-3", state="stopped"),
        machine("i-4", target="other"),
        machine("i-5", tags={"Role": "worker"}),
    ]
    assert lacking(release(instances={"i-1": "then"}), machines=machines) == {"web": ("i-2",)}
    assert lacking(release("all"), machines=machines) == {"all": ("i-1", "i-2", "i-4")}
    assert lacking(release("tag:Role=worker"), machines=machines) == {
        "tag:Role=worker": ("i-1", "i-2", "i-4")
    }


def test_of_several_targets_the_one_settled_last_decides() -> None:
    """Each instance gets one release of a project, and none when that one has no archive."""
    older, newer = release("all"), release("web", settled_at="2026-11-12T00:09:00.000Z")
    machines = [machine("i-1"), machine("i-2", target="other")]
    assert lacking(older, newer, machines=machines) == {"web": ("i-1",), "all": ("i-2",)}
    withdrawn = release("web", settled_at="2026-11-12T00:09:00.000Z", archive=None)
    assert lacking(older, withdrawn, machines=machines) == {"all": ("i-2",)}
    another = release("web", "other-project")
    assert lacking(older, another, machines=machines) == {"all": ("i-1", "i-2"), "web": ("i-1",)}


def test_a_late_joiner_is_sent_the_kept_version(
    settings: Settings, ssm: Stubber, states: Stubber
) -> None:
    """Exactly the instances that lack it, by a request that plan accepts, with what the run
    that is kept was asked for."""
    ids, requests = sorted(launch(2, codeferry="web")), list[Any]()
    expect, options = {"files": ["app.py"]}, {"persist": ["state"]}
    kept = release(instances={ids[0]: "then"}, expect=expect, options=options)
    archive = replace(kept.archive, unpacked={"unpacked_files": 10**6})
    keep(settings, replace(kept, archive=archive))
    answer(ssm, ids[1])
    started(states, requests)
    late_joiners.handler({"source": "aws.events"}, None)
    (request,) = requests
    assert request["target"] == ids[1]
    assert request["archive"] == {
        "key": "releases/web/demo.tar.gz",
        "sha256": "c" * 64,
        "version_id": "v1",
        "unpacked_files": 10**6,
    }
    assert (request["project"], request["expect"], request["options"]) == ("demo", expect, options)
    assert parse_request(request).options.persist == ("state",)


def test_the_same_news_twice_is_one_run(settings: Settings, ssm: Stubber, states: Stubber) -> None:
    """An event beside the schedule, or twice, starts nothing that was started."""
    ids, requests = launch(1, codeferry="web"), list[Any]()
    keep(settings, release())
    answer(ssm, *ids)
    started(states, requests)
    event = {"detail": {"instance-id": ids[0], "state": "running"}}
    late_joiners.handler(event, None)
    answer(ssm, *ids)
    late_joiners.handler(event, None)
    assert len(requests) == 1


def test_who_is_not_online_yet_is_not_tried(
    settings: Settings, ssm: Stubber, states: Stubber
) -> None:
    """No attempt is lost on an instance whose agent is not there yet."""
    ids = launch(1, codeferry="web")
    keep(settings, release())
    answer(ssm)
    late_joiners.handler({}, None)
    ledger = Ledger(settings.table)
    assert ledger.claim_attempt("releases/web/demo run-1", ids[0], PAUSES) == 0


def test_nothing_kept_asks_nobody(settings: Settings, ssm: Stubber, states: Stubber) -> None:
    """A stage without releases costs a listing a minute and no more."""
    launch(1, codeferry="web")
    late_joiners.handler({}, None)


def test_attempts_are_counted_and_come_to_an_end(ledger: Ledger) -> None:
    """One at a time, with its pause, and never more than there are pauses."""
    assert ledger.claim_attempt("r", "i-1", (0, 0)) == 0
    assert ledger.claim_attempt("r", "i-1", (0, 0)) == 1
    assert ledger.claim_attempt("r", "i-1", (0, 0)) is None
    assert ledger.claim_attempt("r", "i-2", (600, 600)) == 0
    assert ledger.claim_attempt("r", "i-2", (600, 600)) is None
    assert ledger.claim_attempt("another", "i-2", (600, 600)) == 0
