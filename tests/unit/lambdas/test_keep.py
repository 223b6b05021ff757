"""keep: what a run that went well leaves for who joins later."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from codeferry_contracts.layout import ReleaseKeys
from codeferry_contracts.release import KeptArchive, KeptRelease
from codeferry_contracts.report import Outcome
from codeferry_lambdas import clients, kept
from codeferry_lambdas.errors import AwsUnavailable
from codeferry_lambdas.keep import keep
from codeferry_lambdas.kept import Shelf
from codeferry_lambdas.record import PinnedArchive, Plan, Run
from codeferry_lambdas.settings import Settings
from tests.unit.lambdas.factories import KEY, instances, outcome, plan

KEYS = ReleaseKeys("web", "demo")
A, B, C = "a" * 20, "b" * 20, "c" * 20
ONE, TWO, THREE = instances(3)


@pytest.fixture
def shelf(settings: Settings) -> Shelf:
    return Shelf(settings.bucket)


def at(minute: int, run_id: str = "run-1", workflow: str = "sync") -> Run:
    return Run(run_id, f"2026-11-12T00:{minute:02}:00.000Z", workflow)


def uploaded(body: bytes, key: str = KEY) -> PinnedArchive:
    put = clients.s3().put_object(Bucket="codeferry-dev-artifacts", Key=key, Body=body)
    return PinnedArchive(key, put["VersionId"], len(body), "c" * 64)


def had(release: str, *which: Any, **changes: Any) -> list[Outcome]:
    return [outcome(i, release_id=release, **changes) for i in which or (ONE, TWO)]


def pushed(shelf: Shelf, release: str, minute: int, run_id: str = "run-1", **changes: Any) -> None:
    made = plan(2, archive=uploaded(release.encode()), **changes)
    keep(shelf, at(minute, run_id), made, had(release))


def body_of(shelf: Shelf, archive: KeptArchive | None) -> bytes:
    assert archive is not None
    found = clients.s3().get_object(
        Bucket=shelf.bucket, Key=archive.key, VersionId=archive.version_id
    )
    return found["Body"].read()


def known(shelf: Shelf) -> KeptRelease:
    found = shelf.find(KEYS.record)
    assert found is not None
    return found


def test_a_release_that_all_of_a_target_have_is_kept(shelf: Shelf) -> None:
    """Its archive is copied, and who has it, by which run and with what options is noted."""
    asked = {"expect": {"files": ["app.py"]}, "options": {"user": "app", "max_errors": "1"}}
    request = {"archive": {"key": KEY}, "target": "web", **asked}
    pushed(shelf, A, 1, request=request)
    found = known(shelf)
    assert (found.release_id, found.run_id, found.target) == (A, "run-1", "web")
    assert found.instances == (ONE.instance_id, TWO.instance_id)
    assert (found.expect, found.options) == ({"files": ["app.py"]}, {"user": "app"})
    assert found.archive is not None
    assert found.archive.key == KEYS.archive
    assert body_of(shelf, found.archive) == A.encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"batches": (instances(3),)},
        {"request": {"archive": {"key": KEY}, "target": ONE.instance_id}},
        {"unreachable": (object(),)},
    ],
)
def test_what_not_all_have_or_one_instance_is_no_release_of_a_target(
    shelf: Shelf, changes: dict[str, Any]
) -> None:
    """An instance too few, an unreachable one, a target that is an instance: nothing is kept."""
    pushed(shelf, A, 1, **changes)
    assert shelf.find(KEYS.record) is None


def test_a_script_is_no_release(shelf: Shelf) -> None:
    """Nor is anything else that is not carried by sync."""
    keep(shelf, at(1, workflow="script"), plan(2, archive=uploaded(b"x")), had(A))
    assert list(shelf.all()) == []


def test_the_one_before_stays_reachable(shelf: Shelf) -> None:
    """A later release takes its place; the archives of five before are kept, each once."""
    for minute, release in enumerate("abcdefgca"):
        pushed(shelf, release * 20, minute)
    found = known(shelf)
    assert found.release_id == A
    assert [archive.release_id[0] for archive in found.earlier] == list("cgfed")
    assert body_of(shelf, found.earlier[0]) == C.encode()


def test_an_older_run_that_ends_later_changes_nothing(shelf: Shelf) -> None:
    """The run that began last is the one that counts."""
    pushed(shelf, B, 9)
    pushed(shelf, A, 3)
    assert known(shelf).release_id == B


def test_two_at_once_lose_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes second reads again, because the record is not what was read."""
    pushed(shelf, A, 1)
    between = [lambda: pushed(shelf, B, 5)]

    def change(found: KeptRelease | None) -> KeptRelease | None:
        assert found is not None
        if between:
            between.pop()()
        return found.joined_by([THREE.instance_id])

    shelf.change(KEYS.record, change)
    assert known(shelf).release_id == B
    assert THREE.instance_id in known(shelf).instances


def test_a_record_that_never_rests_is_given_up(shelf: Shelf) -> None:
    """After some tries it is AWS's trouble, which the workflow knows how to repeat."""
    pushed(shelf, A, 1)
    minutes = iter(range(2, 60))

    def change(found: KeptRelease | None) -> KeptRelease | None:
        pushed(shelf, B, next(minutes))
        return found

    with pytest.raises(AwsUnavailable):
        shelf.change(KEYS.record, change)


def test_who_joined_is_noted(shelf: Shelf) -> None:
    """After a run of the kept release, whoever succeeded has it."""
    pushed(shelf, A, 1)
    archive = known(shelf).archive
    assert archive is not None
    sent = PinnedArchive(archive.key, archive.version_id, archive.size, archive.sha256)
    ended = [*had(A, THREE), *had(A, *instances(1, 3), status="failed")]
    keep(shelf, at(2, "welcome"), plan(2, archive=sent), ended)
    assert known(shelf).instances == tuple(i.instance_id for i in (ONE, TWO, THREE))
    assert known(shelf).run_id == "run-1"


def test_who_got_what_is_no_longer_the_right_one_does_not_have_it(shelf: Shelf) -> None:
    """A newer release was kept meanwhile: the instance is looked at again."""
    pushed(shelf, A, 1)
    archive = known(shelf).archive
    assert archive is not None
    pushed(shelf, B, 2)
    sent = PinnedArchive(archive.key, archive.version_id, archive.size, archive.sha256)
    keep(shelf, at(3, "welcome"), plan(1, archive=sent), had(A, TWO))
    assert known(shelf).instances == (ONE.instance_id,)


def rolled_back(shelf: Shelf, outcomes: list[Outcome], **changes: Any) -> None:
    fields = {"request": {"target": "web", "project": "demo"}, "settles": "web"} | changes
    made: Plan = dataclasses.replace(plan(2), archive=None, **fields)
    keep(shelf, at(30, "back-1", "rollback"), made, outcomes)


def test_a_rollback_settles_what_was_gone_back_to(shelf: Shelf) -> None:
    """Its archive is copied to the front, where no lifecycle rule deletes it; who failed to go
    back is a late joiner."""
    pushed(shelf, A, 1)
    pushed(shelf, B, 2)
    before = known(shelf).earlier[0]
    rolled_back(shelf, [*had(A, ONE, change="restored"), *had(B, TWO, status="failed")])
    found = known(shelf)
    assert (found.release_id, found.instances) == (A, (ONE.instance_id,))
    assert found.archive is not None
    assert found.archive.version_id != before.version_id
    assert body_of(shelf, found.archive) == A.encode()
    assert [archive.release_id for archive in found.earlier] == [B]


@pytest.mark.parametrize("releases", [(C, C), (A, C)])
def test_a_rollback_to_what_is_not_there_leaves_nothing_for_who_joins(
    shelf: Shelf, releases: tuple[str, str]
) -> None:
    """An archive that is gone, or several releases: nobody gets something else instead."""
    pushed(shelf, A, 1)
    pushed(shelf, B, 2)
    one, two = releases
    rolled_back(shelf, [*had(one, ONE), *had(two, TWO)])
    assert known(shelf).archive is None


def test_undoing_a_run_settles_only_what_that_run_has_settled(shelf: Shelf) -> None:
    """A later release stays the kept one when an earlier run is undone."""
    pushed(shelf, A, 1)
    pushed(shelf, B, 2, run_id="run-2")
    rolled_back(shelf, had(A), settles_run="run-1")
    assert known(shelf).release_id == B
    rolled_back(shelf, had(A), settles_run="run-2")
    assert known(shelf).release_id == A


def test_a_wave_settles_nothing(shelf: Shelf) -> None:
    """Its run was never kept."""
    rolled_back(shelf, had(A), settles="")
    assert list(shelf.all()) == []


def test_a_large_archive_is_copied_in_parts(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what one request copies, with the same bytes in the end."""
    body = bytes(range(256)) * 4096 * 11  # 11 MiB: S3 wants 5 in each part but the last
    monkeypatch.setattr(kept, "COPY_LIMIT", 1)
    monkeypatch.setattr(kept, "PART_BYTES", 5 * 1024**2)
    version = shelf.copy(uploaded(body), KEYS.archive)
    found = clients.s3().get_object(Bucket=shelf.bucket, Key=KEYS.archive, VersionId=version)
    assert found["Body"].read() == body


def test_a_copy_in_parts_that_fails_is_taken_back(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stays to be paid for."""
    monkeypatch.setattr(kept, "COPY_LIMIT", 1)
    gone = PinnedArchive("archives/gone.tar.gz", "null", 7, "c" * 64)
    with pytest.raises(clients.s3().exceptions.ClientError):
        shelf.copy(gone, KEYS.archive)
    assert "Uploads" not in clients.s3().list_multipart_uploads(Bucket=shelf.bucket)
