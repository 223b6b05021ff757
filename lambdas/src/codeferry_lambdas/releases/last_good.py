"""Update the last good release after a run, for instances that join later.

After a run on a whole target its release is the last good one; after a run of that one, the
instances that got it are noted; after a rollback it is the release that was gone back to, or none
when its archive is not there any more."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from codeferry_contracts.last_good import MAX_EARLIER, LastGoodRelease, ReleaseArchive
from codeferry_contracts.layout import ReleaseKeys, is_release_key, release_record_key
from codeferry_contracts.names import ROLLBACK, SYNC
from codeferry_contracts.report import Outcome
from codeferry_contracts.request import RunRequest
from codeferry_contracts.target import parse_target
from codeferry_lambdas.releases.store import ReleaseStore
from codeferry_lambdas.runs.outcomes import succeeded
from codeferry_lambdas.runs.record import PinnedArchive, Plan, Run

# What a later run of the release repeats; the rest is about the command or about the fleet.
_REPEATED = ("keep_releases", "strict", "install", "user", "persist")


def update_last_good(
    store: ReleaseStore, run: Run, plan: Plan, outcomes: Sequence[Outcome], noted_at: datetime
) -> None:
    """Bring the release store up to date with a run whose instances are known and verified."""
    request = plan.run_request
    if run.workflow == ROLLBACK:
        _store_rolled_back(store, run, plan, outcomes, noted_at.isoformat())
    elif run.workflow != SYNC or plan.archive is None:
        return
    elif is_release_key(plan.archive.key):
        _note_late_joiners(store, plan.project, plan.archive, outcomes, noted_at.isoformat())
    elif _whole(plan, outcomes) and parse_target(request.target).kind != "instance":
        _store_release(store, run, plan, plan.archive, outcomes, noted_at.isoformat())


def _whole(plan: Plan, outcomes: Sequence[Outcome]) -> bool:
    """Whether every instance of the target has succeeded."""
    wanted = sum(len(batch) for batch in plan.batches) + len(plan.unreachable)
    return len(succeeded(outcomes)) == wanted


def _store_release(
    store: ReleaseStore,
    run: Run,
    plan: Plan,
    archive: PinnedArchive,
    outcomes: Sequence[Outcome],
    noted_at: str,
) -> None:
    request, keys = plan.run_request, ReleaseKeys(plan.run_request.target, plan.project)
    before = store.find(keys.record)
    if before and before.settled_at > run.started_at:
        store.change(keys.record, lambda known: known and known.without(_took(known, outcomes)))
        return
    version_id = store.copy(archive, keys.archive)
    first = outcomes[0]
    own = ReleaseArchive(
        first["release_id"], first["digest"], first["files"],
        keys.archive, version_id, archive.size, archive.sha256, _unpacked(request),
        _signature(request),
    )  # fmt: skip
    fresh = LastGoodRelease(
        project=plan.project,
        target=request.target,
        release_id=own.release_id,
        run_id=run.id,
        settled_at=run.started_at,
        archive=own,
        expect=_stated(request, "expect"),
        options=_repeated(request),
        instances=dict.fromkeys(_ids(outcomes), noted_at),
    )
    store.change(keys.record, lambda known: _newer(known, fresh, outcomes))
    store.hold(keys.record)


def _unpacked(request: RunRequest) -> dict[str, int]:
    stated = _stated(request, "archive")
    return {key: stated[key] for key in ("unpacked_bytes", "unpacked_files") if key in stated}


def _signature(request: RunRequest) -> dict[str, Any]:
    """The signature of the release as it is stored: of any run, without command and expiry."""
    signature = request.signature
    if signature is None or not signature.kept:
        return {}
    stated = {"sequence": signature.sequence, "target": signature.target}
    return {"value": signature.kept, **stated}


def _newer(
    known: LastGoodRelease | None, fresh: LastGoodRelease, outcomes: Sequence[Outcome]
) -> LastGoodRelease:
    """``fresh`` with the archives of before, unless what is known is of a later run. Either way
    without the instances that another run may have changed last: the next look sends it to them.
    """
    if known is None:
        return fresh
    if known.settled_at > fresh.settled_at:
        return known.without(_took(known, outcomes))
    earlier = [a for a in known.archives() if a.release_id != fresh.release_id]
    whole = dataclasses.replace(fresh, earlier=tuple(earlier[:MAX_EARLIER]))
    return whole.without(_doubtful(known, fresh, outcomes))


def _took(known: LastGoodRelease, outcomes: Sequence[Outcome]) -> list[str]:
    """Whom a run has taken the release from that is known to be the right one."""
    return _ids(
        o
        for o in outcomes
        if o["previous"] == known.release_id and o["release_id"] != o["previous"]
    )


def _doubtful(
    known: LastGoodRelease, fresh: LastGoodRelease, outcomes: Sequence[Outcome]
) -> list[str]:
    """The instances noted to have another release since the fresh one's run began, unless that
    run has found it there: then it came after."""
    if known.release_id == fresh.release_id:
        return []
    began = datetime.fromisoformat(fresh.settled_at)
    noted = {i for i, at in known.instances.items() if datetime.fromisoformat(at) > began}
    return _ids(
        o for o in outcomes if o["instance_id"] in noted and o["previous"] != known.release_id
    )


def _ids(outcomes: Iterable[Outcome]) -> list[str]:
    return sorted(outcome["instance_id"] for outcome in outcomes)


def _note_late_joiners(
    store: ReleaseStore,
    project: str,
    archive: PinnedArchive,
    outcomes: Sequence[Outcome],
    noted_at: str,
) -> None:
    """Note who has the release now. When it is another one by now, whoever was sent this one may
    not have that: the next look sends it to them.

    Anybody who may start a run may name the archive of a stored release, for another project too:
    then nobody has it as the release of its own.
    """

    def changed(known: LastGoodRelease | None) -> LastGoodRelease | None:
        if known is None or known.archive is None or known.project != project:
            return None
        if known.archive.version_id == archive.version_id:
            return known.joined_by(_ids(succeeded(outcomes)), noted_at)
        return known.without(_ids(o for o in outcomes if o["status"] != "skipped"))

    store.change(release_record_key(archive.key), changed)


def _store_rolled_back(
    store: ReleaseStore, run: Run, plan: Plan, outcomes: Sequence[Outcome], noted_at: str
) -> None:
    """Store the release that was gone back to. Where its archive is known, an instance that
    failed to go back is a late joiner; where it is not, or they went back to several, nobody is.
    """
    rolled_back = succeeded(outcomes)
    key = ReleaseKeys(plan.settles, plan.project).record
    before = store.find(key) if plan.settles else None
    if not plan.settles or not rolled_back or (plan.settles_run not in ("", _run_of(before))):
        return
    releases = {outcome["release_id"] for outcome in rolled_back}
    release_id = releases.pop() if len(releases) == 1 else ""
    fresh = LastGoodRelease(
        project=plan.project,
        target=plan.settles,
        release_id=release_id,
        run_id=run.id,
        settled_at=run.started_at,
        archive=_archive_of(store, before, release_id),
        expect=before.expect if before else {},
        options=before.options if before else {},
        instances=dict.fromkeys(_ids(rolled_back), noted_at),
    )

    def settled(known: LastGoodRelease | None) -> LastGoodRelease | None:
        if plan.settles_run not in ("", _run_of(known)):
            return None
        return _newer(known, fresh, rolled_back)

    store.change(key, settled)
    store.hold(key)


def _run_of(known: LastGoodRelease | None) -> str | None:
    return known.run_id if known else None


def _archive_of(
    store: ReleaseStore, known: LastGoodRelease | None, release_id: str
) -> ReleaseArchive | None:
    """The release's archive, for good."""
    archives = known.archives() if known else ()
    found = next((a for a in archives if a.release_id == release_id), None)
    if found is None or (known and found == known.archive):
        return found
    return store.renewed(found)


def _stated(request: RunRequest, part: str) -> dict[str, Any]:
    found: dict[str, Any] = request.to_json().get(part, {})
    return found


def _repeated(request: RunRequest) -> dict[str, Any]:
    stated = _stated(request, "options")
    # Without a command the timeout is that of what a later run does as well.
    names = _REPEATED if request.command else (*_REPEATED, "timeout_seconds")
    return {name: stated[name] for name in names if name in stated}
