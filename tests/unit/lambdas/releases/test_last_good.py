"""keep: what a run that went well leaves for who joins later."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from codeferry_contracts.last_good import LastGoodRelease, ReleaseArchive
from codeferry_contracts.layout import ReleaseKeys
from codeferry_contracts.report import Outcome
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import AwsUnavailable
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.releases import store
from codeferry_lambdas.releases.last_good import update_last_good
from codeferry_lambdas.releases.store import ReleaseStore
from codeferry_lambdas.runs.record import PinnedArchive, Plan, Run
from tests.unit.lambdas.factories import KEY, instances, outcome, plan

KEYS = ReleaseKeys("web", "demo")
A, B, C = "a" * 20, "b" * 20, "c" * 20
ONE, TWO, THREE = instances(3)


@pytest.fixture
def release_store(settings: Settings) -> ReleaseStore:
    return ReleaseStore(settings.bucket)


def at(minute: int, run_id: str = "run-1", workflow: str = "sync") -> Run:
    return Run(run_id, f"2026-11-12T00:{minute:02}:00.000Z", workflow)


def uploaded(body: bytes, key: str = KEY) -> PinnedArchive:
    put = clients.s3().put_object(Bucket="codeferry-dev-artifacts", Key=key, Body=body)
    return PinnedArchive(key, put["VersionId"], len(body), "c" * 64)


def had(release: str, *which: Any, **changes: Any) -> list[Outcome]:
    return [outcome(i, release_id=release, **changes) for i in which or (ONE, TWO)]


def noted(minute: int) -> datetime:
    return datetime(2026, 11, 12, 0, minute, 30, tzinfo=UTC)


def pushed(
    release_store: ReleaseStore,
    release: str,
    minute: int,
    run_id: str = "run-1",
    *,
    outcomes: list[Outcome] | None = None,
    ended: int | None = None,
    **changes: Any,
) -> None:
    """A run that began in that minute, and ended half a minute or some minutes later."""
    made = plan(2, archive=uploaded(release.encode()), **changes)
    update_last_good(
        release_store, at(minute, run_id), made, outcomes or had(release), noted(ended or minute)
    )


def body_of(release_store: ReleaseStore, archive: ReleaseArchive | None) -> bytes:
    assert archive is not None
    found = clients.s3().get_object(
        Bucket=release_store.bucket, Key=archive.key, VersionId=archive.version_id
    )
    return found["Body"].read()


def known(release_store: ReleaseStore) -> LastGoodRelease:
    found = release_store.find(KEYS.record)
    assert found is not None
    return found


def test_a_release_that_all_of_a_target_have_is_kept(release_store: ReleaseStore) -> None:
    """Its archive is copied, and who has it, by which run and with what options is noted."""
    options = {"user": "app", "install": True}
    asked = {"expect": {"files": ["app.py"]}, "options": {**options, "max_errors": "1"}}
    archive = {"key": KEY, "unpacked_bytes": 1 << 40, "sha256": "f" * 64}
    request = {"archive": archive, "target": "web", **asked}
    pushed(release_store, A, 1, request=request)
    found = known(release_store)
    assert (found.release_id, found.run_id, found.target) == (A, "run-1", "web")
    assert found.instances == dict.fromkeys(
        (ONE.instance_id, TWO.instance_id), "2026-11-12T00:01:30+00:00"
    )
    assert (found.expect, found.options) == ({"files": ["app.py"]}, options)
    assert found.archive is not None
    assert (found.archive.key, found.archive.unpacked) == (
        KEYS.archive,
        {"unpacked_bytes": 1 << 40},
    )
    assert body_of(release_store, found.archive) == A.encode()


@pytest.mark.parametrize(("command", "kept_options"), [([], {"timeout_seconds": 9}), (["x"], {})])
def test_the_timeout_of_a_command_is_nobody_elses(
    release_store: ReleaseStore, command: list[str], kept_options: dict[str, Any]
) -> None:
    """Without a command it is the work's own, which a later run does as well."""
    options = {"timeout_seconds": 9}
    request: Any = {"archive": {"key": KEY}, "target": "web", "options": options}
    pushed(release_store, A, 1, request=request | ({"command": command} if command else {}))
    assert known(release_store).options == kept_options


@pytest.mark.parametrize(
    "changes",
    [
        {"batches": (instances(3),)},
        {"request": {"archive": {"key": KEY}, "target": ONE.instance_id}},
        {"unreachable": (object(),)},
    ],
)
def test_what_not_all_have_or_one_instance_is_no_release_of_a_target(
    release_store: ReleaseStore, changes: dict[str, Any]
) -> None:
    """An instance too few, an unreachable one, a target that is an instance: nothing is kept."""
    pushed(release_store, A, 1, **changes)
    assert release_store.find(KEYS.record) is None


def test_a_script_is_no_release(release_store: ReleaseStore) -> None:
    """Nor is anything else that is not carried by sync."""
    update_last_good(
        release_store, at(1, workflow="script"), plan(2, archive=uploaded(b"x")), had(A), noted(1)
    )
    assert list(release_store.all()) == []


def test_the_one_before_stays_reachable(release_store: ReleaseStore) -> None:
    """A later release takes its place; the archives of five before are kept, each once."""
    for minute, release in enumerate("abcdefgca"):
        pushed(release_store, release * 20, minute)
    found = known(release_store)
    assert found.release_id == A
    assert [archive.release_id[0] for archive in found.earlier] == list("cgfed")
    assert body_of(release_store, found.earlier[0]) == C.encode()


def test_an_older_run_that_ends_later_changes_nothing(release_store: ReleaseStore) -> None:
    """The run that began last is the one that counts."""
    pushed(release_store, B, 9)
    pushed(release_store, A, 3)
    assert known(release_store).release_id == B


def test_two_at_once_lose_nothing(
    release_store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes second reads again, because the record is not what was read."""
    pushed(release_store, A, 1)
    between = [lambda: pushed(release_store, B, 5)]

    def change(found: LastGoodRelease | None) -> LastGoodRelease | None:
        assert found is not None
        if between:
            between.pop()()
        return found.joined_by([THREE.instance_id], noted(6).isoformat())

    release_store.change(KEYS.record, change)
    assert known(release_store).release_id == B
    assert THREE.instance_id in known(release_store).instances


def test_a_record_that_never_rests_is_given_up(release_store: ReleaseStore) -> None:
    """After some tries it is AWS's trouble, which the workflow knows how to repeat."""
    pushed(release_store, A, 1)
    minutes = iter(range(2, 60))

    def change(found: LastGoodRelease | None) -> LastGoodRelease | None:
        pushed(release_store, B, next(minutes))
        return found and found.joined_by([THREE.instance_id], "now")

    with pytest.raises(AwsUnavailable):
        release_store.change(KEYS.record, change)


def test_who_joined_is_noted(release_store: ReleaseStore) -> None:
    """After a run of the kept release, whoever succeeded has it."""
    pushed(release_store, A, 1)
    late_joined(
        release_store,
        sent(release_store),
        [*had(A, THREE), *had(A, *instances(1, 3), status="failed")],
    )
    assert having(release_store) == [ONE, TWO, THREE]
    assert known(release_store).run_id == "run-1"


@pytest.mark.parametrize("release", [A, B])
def test_the_archive_under_another_project_notes_nobody(
    release_store: ReleaseStore, release: str
) -> None:
    """Who was sent it as another project's release has not this project's, and who has that keeps
    it: neither does a late joiner get nothing, nor anybody the same again."""
    pushed(release_store, A, 1)
    archive = sent(release_store)
    if release == B:  # meanwhile
        pushed(release_store, B, 2)
    other = plan(2, archive=archive, project="other")
    update_last_good(release_store, at(3, "by-hand"), other, had(A, TWO, THREE), noted(3))
    assert having(release_store) == [ONE, TWO]
    assert [kept.project for kept in release_store.all()] == ["demo"]


def test_who_got_what_is_no_longer_the_right_one_does_not_have_it(
    release_store: ReleaseStore,
) -> None:
    """A newer release was kept meanwhile: the instance is looked at again."""
    pushed(release_store, A, 1)
    archive = sent(release_store)
    pushed(release_store, B, 2)
    late_joined(release_store, archive, had(A, TWO, status="failed"))
    assert having(release_store) == [ONE]


def test_who_was_sent_the_old_release_while_the_new_one_came_is_looked_at_again(
    release_store: ReleaseStore,
) -> None:
    """Unless the new one's run has found the old one there, and so came after it."""
    pushed(release_store, A, 1)
    archive = sent(release_store)
    late_joined(release_store, archive, had(A, ONE, TWO, THREE), minute=7)
    outcomes = [*had(B, ONE, THREE, previous=""), *had(B, TWO, previous=A)]
    pushed(release_store, B, 5, outcomes=outcomes, ended=9, batches=(instances(3),))
    assert having(release_store) == [TWO]
    late_joined(release_store, sent(release_store), had(B, ONE, THREE), minute=10)
    assert having(release_store) == [ONE, TWO, THREE]


def test_who_joined_before_a_push_began_has_what_it_brought(release_store: ReleaseStore) -> None:
    """Also when something else was there than what is known of."""
    pushed(release_store, A, 1)
    late_joined(release_store, sent(release_store), had(A, ONE, TWO), minute=3)
    pushed(release_store, B, 5, outcomes=had(B, previous=C))
    assert having(release_store) == [ONE, TWO]


def test_of_two_pushes_at_once_the_one_that_began_last_is_right_for_everybody(
    release_store: ReleaseStore,
) -> None:
    """Whoever the other one may have changed last is a late joiner, whichever ends first."""
    older, newer = had(A, ONE, previous=C) + had(A, TWO, previous=B), had(B, ONE, previous=A)
    newer += had(B, TWO, previous=C)
    pushed(release_store, B, 5, "newer", outcomes=newer, ended=6)
    pushed(release_store, A, 4, "older", outcomes=older, ended=7)
    assert (known(release_store).run_id, having(release_store)) == ("newer", [ONE])


def test_and_so_when_the_older_one_ends_first(release_store: ReleaseStore) -> None:
    """The newer one has not found the older one's release there: who came last is not known."""
    newer = had(B, ONE, previous=A) + had(B, TWO, previous=C)
    pushed(release_store, A, 4, "older", outcomes=had(A, previous=C), ended=6)
    pushed(release_store, B, 5, "newer", outcomes=newer, ended=7)
    assert (known(release_store).run_id, having(release_store)) == ("newer", [ONE])


@pytest.mark.parametrize("copied_last", ["older", "newer"])
def test_of_two_copies_at_once_the_kept_one_is_current(
    release_store: ReleaseStore, monkeypatch: pytest.MonkeyPatch, copied_last: str
) -> None:
    """What is not current expires: whoever writes or copies last sees to it."""
    copy = release_store.copy
    between: list[Callable[[], None]] = [lambda: pushed(release_store, B, 9, "newer")]

    def interrupted(self: ReleaseStore, archive: PinnedArchive, key: str) -> str:
        if not between:
            return copy(archive, key)
        act = between.pop()
        if copied_last == "older":
            act()
            return copy(archive, key)
        version = copy(archive, key)
        act()
        return version

    monkeypatch.setattr(ReleaseStore, "copy", interrupted)
    pushed(release_store, A, 3, "older")
    found = known(release_store)
    assert (found.run_id, found.release_id) == ("newer", B)
    assert body_of(release_store, found.archive) == B.encode()
    assert is_current(release_store, found.archive)


def test_a_copy_that_came_between_is_made_good_by_the_writer(
    release_store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one had written before, and saw nothing wrong."""
    copy, between = release_store.copy, [lambda: pushed(release_store, A, 3, "older")]

    def interrupted(self: ReleaseStore, archive: PinnedArchive, key: str) -> str:
        version = copy(archive, key)
        if between:
            between.pop()()
        return version

    monkeypatch.setattr(ReleaseStore, "copy", interrupted)
    pushed(release_store, B, 9, "newer")
    found = known(release_store)
    assert found.release_id == B
    assert body_of(release_store, found.archive) == B.encode()
    assert is_current(release_store, found.archive)


def test_an_archive_that_never_rests_is_given_up(
    release_store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a record that never does."""
    pushed(release_store, A, 1)
    monkeypatch.setattr(ReleaseStore, "_version", lambda self, key: "another")
    with pytest.raises(AwsUnavailable):
        release_store.hold(KEYS.record)


def sent(release_store: ReleaseStore) -> PinnedArchive:
    """The kept archive, as a run of it takes it."""
    archive = known(release_store).archive
    assert archive is not None
    return PinnedArchive(archive.key, archive.version_id, archive.size, archive.sha256)


def late_joined(
    release_store: ReleaseStore, archive: PinnedArchive, outcomes: list[Outcome], minute: int = 3
) -> None:
    update_last_good(
        release_store, at(minute, "welcome"), plan(2, archive=archive), outcomes, noted(minute)
    )


def having(release_store: ReleaseStore) -> list[Any]:
    ids = known(release_store).instances
    return [i for i in (ONE, TWO, THREE, *instances(1, 3)) if i.instance_id in ids]


def is_current(release_store: ReleaseStore, archive: ReleaseArchive | None) -> bool:
    assert archive is not None
    head = clients.s3().head_object(Bucket=release_store.bucket, Key=archive.key)
    return head["VersionId"] == archive.version_id


def rolled_back(release_store: ReleaseStore, outcomes: list[Outcome], **changes: Any) -> None:
    fields = {"request": {"target": "web", "project": "demo"}, "settles": "web"} | changes
    made: Plan = dataclasses.replace(plan(2), archive=None, **fields)
    update_last_good(release_store, at(30, "back-1", "rollback"), made, outcomes, noted(30))


def test_a_rollback_settles_what_was_gone_back_to(release_store: ReleaseStore) -> None:
    """Its archive is copied to the front, where no lifecycle rule deletes it; who failed to go
    back is a late joiner."""
    pushed(release_store, A, 1)
    pushed(release_store, B, 2)
    before = known(release_store).earlier[0]
    rolled_back(release_store, [*had(A, ONE, change="restored"), *had(B, TWO, status="failed")])
    found = known(release_store)
    assert (found.release_id, having(release_store)) == (A, [ONE])
    assert found.archive is not None
    assert found.archive.version_id != before.version_id
    assert body_of(release_store, found.archive) == A.encode()
    assert [archive.release_id for archive in found.earlier] == [B]


@pytest.mark.parametrize("releases", [(C, C), (A, C)])
def test_a_rollback_to_what_is_not_there_leaves_nothing_for_who_joins(
    release_store: ReleaseStore, releases: tuple[str, str]
) -> None:
    """An archive that is gone, or several releases: nobody gets something else instead."""
    pushed(release_store, A, 1)
    pushed(release_store, B, 2)
    one, two = releases
    rolled_back(release_store, [*had(one, ONE), *had(two, TWO)])
    assert known(release_store).archive is None


def test_undoing_a_run_settles_only_what_that_run_has_settled(release_store: ReleaseStore) -> None:
    """A later release stays the kept one when an earlier run is undone."""
    pushed(release_store, A, 1)
    pushed(release_store, B, 2, run_id="run-2")
    rolled_back(release_store, had(A), settles_run="run-1")
    assert known(release_store).release_id == B
    rolled_back(release_store, had(A), settles_run="run-2")
    assert known(release_store).release_id == A


def test_a_release_that_comes_between_is_not_undone(
    release_store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what is kept and the writing another run has settled it."""
    pushed(release_store, A, 1)
    pushed(release_store, B, 2, run_id="run-2")
    copy, between = release_store.copy, [lambda: pushed(release_store, C, 29, run_id="run-3")]

    def interrupted(self: ReleaseStore, archive: PinnedArchive, key: str) -> str:
        if between:
            between.pop()()
        return copy(archive, key)

    monkeypatch.setattr(ReleaseStore, "copy", interrupted)
    rolled_back(release_store, had(A), settles_run="run-2")
    found = known(release_store)
    assert (found.run_id, found.release_id) == ("run-3", C)
    assert is_current(release_store, found.archive)


def test_a_wave_settles_nothing(release_store: ReleaseStore) -> None:
    """Its run was never kept."""
    rolled_back(release_store, had(A), settles="")
    assert list(release_store.all()) == []


def test_a_large_archive_is_copied_in_parts(
    release_store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what one request copies, with the same bytes in the end."""
    body = bytes(range(256)) * 4096 * 11  # 11 MiB: S3 wants 5 in each part but the last
    monkeypatch.setattr(store, "COPY_LIMIT", 1)
    monkeypatch.setattr(store, "PART_BYTES", 5 * 1024**2)
    version = release_store.copy(uploaded(body), KEYS.archive)
    found = clients.s3().get_object(
        Bucket=release_store.bucket, Key=KEYS.archive, VersionId=version
    )
    assert found["Body"].read() == body


@pytest.mark.parametrize(
    ("size", "parts"), [(256 * 1024**2 - 1, 0), (256 * 1024**2, 2), (10 * 1024**3 + 1, 81)]
)
def test_no_copy_outlasts_our_patience(
    monkeypatch: pytest.MonkeyPatch, size: int, parts: int
) -> None:
    """From 256 MiB on it goes in parts, each short of the read timeout, which cover it all."""
    ranges: list[str] = []

    class Recorder:
        def copy_object(self, **_: Any) -> Any:
            return {"VersionId": "v"}

        def create_multipart_upload(self, **_: Any) -> Any:
            return {"UploadId": "u"}

        def upload_part_copy(self, **asked: Any) -> Any:
            ranges.append(asked["CopySourceRange"].removeprefix("bytes="))
            return {"CopyPartResult": {"ETag": str(asked["PartNumber"])}}

        def complete_multipart_upload(self, **_: Any) -> Any:
            return {"VersionId": "v"}

    monkeypatch.setattr(clients, "s3", Recorder)
    assert ReleaseStore("b").copy(PinnedArchive("archives/a.tar.gz", "v", size, ""), "k") == "v"
    edges = sorted(tuple(map(int, each.split("-"))) for each in ranges)
    assert len(edges) == parts
    if parts:
        assert (edges[0][0], edges[-1][1]) == (0, size - 1)
        assert all(b[0] == a[1] + 1 for a, b in pairwise(edges))
        assert max(b - a for a, b in edges) < 128 * 1024**2


def test_a_copy_in_parts_that_fails_is_taken_back(
    release_store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stays to be paid for."""
    monkeypatch.setattr(store, "COPY_LIMIT", 1)
    gone = PinnedArchive("archives/gone.tar.gz", "null", 7, "c" * 64)
    with pytest.raises(clients.s3().exceptions.ClientError):
        release_store.copy(gone, KEYS.archive)
    assert "Uploads" not in clients.s3().list_multipart_uploads(Bucket=release_store.bucket)
