"""cleanup: nothing goes on, nothing stays, twice is once."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.handlers import cleanup
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import PinnedArchive, Record, Run
from tests.unit.lambdas.factories import KEY, event, plan

BUCKET = "codeferry-dev-artifacts"
EARLIER = Run("run-1", "2000-01-01T00:00:00.000Z", "sync")


def put(key: str = KEY, body: bytes = b"x") -> str:
    return clients.s3().put_object(Bucket=BUCKET, Key=key, Body=body)["VersionId"]


def versions(key: str = KEY) -> set[str]:
    found = clients.s3().list_object_versions(Bucket=BUCKET, Prefix=key)
    items: list[Any] = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
    return {item["VersionId"] for item in items if item["Key"] == key}


def clean(run: Run, request: Any) -> None:
    cleanup.handler(event(run, request=request), None)


def test_deletes_the_pinned_version_only(settings: Settings, run: Run, record: Record) -> None:
    """The version the run carried goes; a newer upload of the same key stays."""
    mine, newer = put(), put()
    record.write_plan(plan(1, archive=PinnedArchive(KEY, mine, 1, "c" * 64)))
    for _ in range(2):
        clean(run, {"archive": {"key": KEY}, "target": "web"})
        assert versions() == {newer}


def test_plan_that_failed(settings: Settings, run: Run) -> None:
    """Without a plan the archive the request names goes, in its version or the latest."""
    first, second = put(), put()
    clean(run, {"archive": {"key": KEY, "version_id": first}})
    assert versions() == {second}
    clean(run, {"archive": {"key": KEY}})
    assert versions() == set()


def test_delete_markers_go(settings: Settings, run: Run) -> None:
    """A delete marker somebody left on the key goes too."""
    version = put()
    clients.s3().delete_object(Bucket=BUCKET, Key=KEY)
    clean(run, {"archive": {"key": KEY, "version_id": version}})
    assert versions() == set()


@pytest.mark.parametrize("key", ["runs/run-0/report.json", "archives/x", "other.tar.gz", ""])
def test_deletes_archives_only(settings: Settings, run: Run, key: str) -> None:
    """A request cannot make cleanup delete anything but an archive."""
    if key:
        put(key)
    clean(run, {"archive": {"key": key}})
    assert not key or versions(key)


def test_neighbours_stay(settings: Settings, run: Run) -> None:
    """A key that begins with the archive's key is another object."""
    neighbour = f"{KEY}.tar.gz"
    put(neighbour)
    put()
    clean(run, {"archive": {"key": KEY}})
    assert versions(neighbour)
    assert not versions()


@pytest.mark.parametrize("request_", [None, [], "x", {}, {"archive": 3}, {"archive": {}}])
def test_any_request(settings: Settings, run: Run, request_: Any) -> None:
    """Whatever was handed in as a request, cleanup succeeds."""
    clean(run, request_)


def test_multipart_leftovers(settings: Settings, run: Run) -> None:
    """Unfinished uploads of the key from before the run are aborted, later ones are not."""
    s3 = clients.s3()
    s3.create_multipart_upload(Bucket=BUCKET, Key=KEY)
    # moto dates every multipart upload to 2010.
    clean(EARLIER, {"archive": {"key": KEY}})
    assert len(s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]) == 1
    clean(run, {"archive": {"key": KEY}})
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_running_commands_are_cancelled(
    ssm: Stubber, settings: Settings, run: Run, ledger: Ledger
) -> None:
    """What was sent and not seen to end is cancelled; what ended or never went is left."""
    states = {0: None, 1: True, 2: False}
    for number, ended in states.items():
        ledger.reserve(run.id, number)
        ledger.set_command(run.id, number, f"command-{number}".ljust(36, "0"))
        ledger.set_token(f"command-{number}".ljust(36, "0"), "token")
        if ended is not None:
            ledger.set_collected(run.id, number, failed=0, ended=ended)
    ledger.reserve(run.id, 3)
    for number in (0, 2):
        ssm.add_response("cancel_command", {}, {"CommandId": f"command-{number}".ljust(36, "0")})
    clean(run, None)
    assert ledger.is_closed(run.id)
    assert ledger.token("command-0".ljust(36, "0")) is None


def test_unknown_command(ssm: Stubber, settings: Settings, run: Run, ledger: Ledger) -> None:
    """A command SSM no longer knows needs no cancelling."""
    ledger.reserve(run.id, 0)
    ledger.set_command(run.id, 0, "c" * 36)
    ssm.add_client_error("cancel_command", "InvalidCommandId")
    clean(run, None)
