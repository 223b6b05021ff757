"""plan: from a request to batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_contracts.parameters import document_description
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import RunTooLarge
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.handlers import dispatch, plan
from codeferry_lambdas.planning import limits
from codeferry_lambdas.runs.cleanup import delete_object
from codeferry_lambdas.runs.record import (
    PinnedArchive,
    PinnedDocument,
    PinnedEnvironment,
    Record,
    Run,
    Unpacked,
)
from tests.unit.lambdas import factories
from tests.unit.lambdas.factories import KEY, event, packed_archive, plain_archive
from tests.unit.lambdas.fleet.test_targets import answer, launch

DOCUMENT, AGENT = "codeferry-dev-sync", "a" * 64


def upload(key: str = KEY, body: bytes | None = None) -> str:
    body = packed_archive() if body is None else body
    put = clients.s3().put_object(Bucket="codeferry-dev-artifacts", Key=key, Body=body)
    return put["VersionId"]


def describe(ssm: Stubber) -> None:
    found = {"DocumentVersion": "7", "Hash": "f" * 64, "HashType": "Sha256"}
    found["Description"] = document_description("sync", AGENT)
    ssm.add_response("describe_document", {"Document": found}, {"Name": DOCUMENT})


def planned(run: Run, request: Any) -> Any:
    return plan.handler(event(run, document=DOCUMENT, request=request), None)


def refused(run: Run, request: Any) -> Any:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the name is asserted by each test
        planned(run, request)
    return raised.value


def test_minimal_request(settings: Settings, ssm: Stubber, run: Run, record: Record) -> None:
    """Key and target are enough; everything later states need is pinned in the record."""
    version, ids = upload(), launch(3, codeferry="web")
    answer(ssm, *ids)
    describe(ssm)
    assert planned(run, {"archive": {"key": KEY}, "target": "web"}) == {
        "waves": ((0,),),
        "sweep": 420,
    }
    made = record.plan()
    assert made.archive.version_id == version
    assert made.document == PinnedDocument(DOCUMENT, "7", "f" * 64, AGENT)
    assert [i.instance_id for i in made.batches[0]] == sorted(ids)
    assert (made.project, made.files, made.budget) == ("demo", 2, None)
    assert made.unpacked == Unpacked(8, 6)
    assert record.read(run.keys.request) == {"archive": {"key": KEY}, "target": "web"}


def test_unreachable_and_stopped(
    settings: Settings, ssm: Stubber, run: Run, record: Record
) -> None:
    """Who runs but cannot be reached is recorded; the budget is a share of all of them."""
    upload()
    ids = sorted(launch(4, codeferry="web"))
    clients.ec2().stop_instances(InstanceIds=[ids[3]])
    answer(ssm, ids[0], ids[1])
    describe(ssm)
    options = {"max_errors": "67%", "max_concurrency": "1"}
    planned(run, {"archive": {"key": KEY}, "target": "web", "options": options})
    made = record.plan()
    assert made.waves == ((0,), (1,))
    assert [u.instance_id for u in made.unreachable] == [ids[2]]
    assert made.budget == 2
    assert len(made.warnings) == 1
    assert ids[3] in made.warnings[0]


@pytest.mark.parametrize(
    ("request_", "key", "body", "project"),
    [
        ({"project": "stated"}, KEY, packed_archive("packed"), "stated"),
        ({}, KEY, packed_archive("packed"), "packed"),
        ({}, "inbox/web/my demo.tar.gz", plain_archive(), "my-demo"),
    ],
    ids=["request", "manifest", "key"],
)
def test_project(
    settings: Settings,
    ssm: Stubber,
    run: Run,
    record: Record,
    request_: dict[str, str],
    key: str,
    body: bytes,
    project: str,
) -> None:
    """The project is the request's, else the manifest's, else the key's."""
    upload(key, body)
    answer(ssm, *launch(codeferry="web"))
    describe(ssm)
    planned(run, {"archive": {"key": key}, "target": "web", **request_})
    assert record.plan().project == project


@pytest.mark.parametrize(
    ("request_", "name", "says"),
    [
        ([], "RequestInvalid", "must be an object"),
        ({}, "RequestInvalid", "archive is missing"),
        ({"archive": {"key": KEY}, "target": "i-12"}, "TargetInvalid", "is not a target"),
        ({"archive": {"key": "inbox/x.tar.gz"}}, "RequestInvalid", "names no target"),
        ({"archive": {"key": "inbox/web/x.zip", "version_id": "v"}}, "RequestInvalid", "x.zip"),
        ({"archive": {"key": KEY}, "target": "t", "colour": 1}, "RequestInvalid", "colour"),
        ({"archive": {"key": KEY}, "target": "t"}, "ArchiveMissing", KEY),
    ],
)
def test_refusals(settings: Settings, run: Run, request_: Any, name: str, says: str) -> None:
    """What makes no sense is refused under a name, saying what and how it should be."""
    error = refused(run, request_)
    assert type(error).__name__ == name
    assert says in error.message
    assert error.hint


def test_nobody_there(settings: Settings, ssm: Stubber, run: Run, record: Record) -> None:
    """Without one reachable instance the run is refused with each one's reason."""
    upload()
    (instance_id,) = launch(codeferry="web")
    answer(ssm)
    error = refused(run, {"archive": {"key": KEY}, "target": "web"})
    assert type(error).__name__ == "NoInstances"
    assert f"{instance_id} is not known to Systems Manager" in error.message
    assert record.find_plan() is None


def test_run_id_must_travel(settings: Settings) -> None:
    """An execution name that cannot be a file name is refused."""
    error = refused(Run("über", "2026-01-01T00:00:00Z", "sync"), {})
    assert type(error).__name__ == "NameInvalid"


def test_too_many_paths(settings: Settings, ssm: Stubber, run: Run) -> None:
    """Paths that no command could carry are refused before anything is sent."""
    upload()
    answer(ssm, *launch(codeferry="web"))
    describe(ssm)
    files = [f"{'long/' * 100}{n}" for n in range(100)]
    error = refused(run, {"archive": {"key": KEY}, "target": "web", "expect": {"files": files}})
    assert type(error).__name__ == "RunTooLarge"


KEPT_KEY = "releases/web/demo.tar.gz"
VARIABLES = PinnedEnvironment("environments/run-1.env.json", "v1")


@pytest.mark.parametrize(
    ("waves", "seconds", "changes", "days", "refused_"),
    [
        (1, 172_800, {}, 0, None),
        (14, 172_800, {}, 0, None),
        (15, 172_800, {}, 0, "lies in the bucket for 30 days"),
        (14, 172_800, {}, 3, "30 days, 3 of which are over"),
        (200, 3_600, {}, 0, None),
        (6, 172_800, {"environment": VARIABLES}, 0, None),
        (
            7,
            172_800,
            {"environment": VARIABLES},
            0,
            r"\(variables\) lies in the bucket for 14 days",
        ),
        (4, 172_800, {"archive": PinnedArchive("inbox/w/d.tar.gz", "v", 1, "")}, 0, "7 days"),
        (99, 172_800, {"archive": PinnedArchive(KEPT_KEY, "v", 1, "")}, 99, None),
    ],
)
def test_a_run_that_would_outlive_what_it_takes_is_refused(
    waves: int, seconds: int, changes: Any, days: int, refused_: str | None
) -> None:
    """A lifecycle rule deletes it, and the last waves would find nothing."""
    made = factories.plan(*[1] * waves, step_seconds=seconds, **changes)
    if refused_ is None:
        limits.require_lifetime(made, days * 86_400)
        return
    with pytest.raises(RunTooLarge, match=refused_) as raised:
        limits.require_lifetime(made, days * 86_400)
    assert "--timeout" in str(raised.value.hint)


def test_a_long_run_is_refused_before_anything_is_sent(
    settings: Settings, ssm: Stubber, run: Run
) -> None:
    """One instance after the other, each for up to two days."""
    upload()
    answer(ssm, *launch(16, codeferry="web"))
    describe(ssm)
    options = {"max_concurrency": "1"}
    request = {"archive": {"key": KEY}, "target": "web", "command": ["x"], "options": options}
    error = refused(run, request)
    assert type(error).__name__ == "RunTooLarge"
    assert "could take 33 days" in error.message


INBOX = "inbox/web/demo.tar.gz"


def upload_request(version: str) -> Any:
    return {"archive": {"key": INBOX, "version_id": version}, "target": "web"}


def test_an_upload_with_a_newer_one_beside_it(settings: Settings, run: Run) -> None:
    """Whichever event comes first, the version that is not the current one is refused."""
    older = upload(INBOX)
    upload(INBOX)
    assert type(refused(run, upload_request(older))).__name__ == "ArchiveSuperseded"


def test_an_older_upload_after_the_newer_ones_run(
    settings: Settings, ssm: Stubber, run: Run, record: Record
) -> None:
    """The newer run deleted its version at its end: the older is current again, and refused
    all the same, also when both were put within one second."""
    older, newer = upload(INBOX), upload(INBOX)
    answer(ssm, *launch(codeferry="web"))
    describe(ssm)
    planned(run, upload_request(newer))
    delete_object(settings.bucket, INBOX, newer)
    error = refused(replace(run, id="run-2"), upload_request(older))
    assert type(error).__name__ == "ArchiveSuperseded"


def test_a_newer_upload_within_the_second(
    settings: Settings, ssm: Stubber, run: Run, record: Record
) -> None:
    """The newer of two uploads of one second is planned though the older one was, whose
    version is still there; and what was planned of the older is not sent any more."""
    ids = launch(codeferry="web")
    for _ in range(2):
        answer(ssm, *ids)
        describe(ssm)
    planned(run, upload_request(upload(INBOX)))
    planned(replace(run, id="run-2"), upload_request(upload(INBOX)))
    with pytest.raises(Exception, match="newer upload") as raised:
        dispatch.handler(event(run, batch=0), None)
    assert type(raised.value).__name__ == "ArchiveSuperseded"
