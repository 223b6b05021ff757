"""A report is true: no two of its lines contradict each other or the record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codeferry_cli.views import report_view
from codeferry_contracts.archive import Summary
from codeferry_contracts.report import Outcome, Report
from codeferry_lambdas.report_page.page import content
from codeferry_lambdas.runs.record import Run
from codeferry_lambdas.runs.report import Known, build_report
from codeferry_lambdas.runs.verification import verify
from tests.unit.lambdas.factories import KEY, instances, outcome, plan

OLD, NEW = "a" * 20, "e" * 20  # NEW is the first digits of the factories' tree
LOOKED = {"lock": 0.1, "download": 0.2}
DONE = LOOKED | {"activate": 0.1}
RAN = {
    "ending": "exited",
    "exit_code": 1,
    "signal": 0,
    "seconds": 1.0,
    "output_bytes": 0,
    "tail": "",
}


def _failure(code: str, **changes: Any) -> dict[str, Any]:
    error = {"code": code, "message": f"It is {code}.", "hint": ""}
    return {"status": "failed", "change": "", "error": error} | changes


_NOTHING = {"release_id": "", "digest": "", "files": 0}


@dataclass(frozen=True)
class Fate:
    """What became of an instance: what it says, and the release it truly has now; None where
    nobody can know."""

    says: dict[str, Any]
    now: str | None


FATES = {
    "applied": Fate({"previous": OLD, "seconds": DONE}, NEW),
    "first": Fate({"previous": "", "seconds": DONE}, NEW),
    "unchanged": Fate({"previous": NEW, "seconds": DONE, "change": "unchanged"}, NEW),
    "disk full": Fate(_failure("disk_full", previous=OLD, seconds=LOOKED, **_NOTHING), OLD),
    "disk full, had it": Fate(_failure("disk_full", previous=NEW, seconds=LOOKED, **_NOTHING), NEW),
    "disk full, had none": Fate(_failure("disk_full", previous="", seconds=LOOKED, **_NOTHING), ""),
    "locked": Fate(_failure("locked", seconds={"lock": 2.0}, **_NOTHING), None),
    "no answer": Fate(_failure("undeliverable", seconds={}, **_NOTHING), None),
    "not reached": Fate({"status": "skipped", "change": "", "seconds": {}, **_NOTHING}, None),
    "command failed": Fate(_failure("exit_code", previous=OLD, seconds=DONE, ran=RAN), NEW),
    "ill, back": Fate(
        _failure("health_failed", previous=OLD, returned=OLD, seconds=DONE, ran=RAN), OLD
    ),
    "ill, had it": Fate(_failure("health_failed", previous=NEW, seconds=DONE, ran=RAN), NEW),
    "ill, had none": Fate(_failure("health_failed", previous="", seconds=DONE, ran=RAN), NEW),
}
ROLLOUT = {"rollout": {"waves": ["100%"], "health": ["true"]}}


def report(fates: Sequence[Fate], *, rolled_out: bool, command: bool, back: bool) -> Report:
    """What the workflow writes of it, by its own functions; ``back`` is that the rollback of a
    failed wave went well."""
    request: dict[str, Any] = {"archive": {"key": KEY}, "target": "web"}
    request |= {"options": ROLLOUT} if rolled_out else {}
    request |= {"command": ["x"]} if command else {}
    recorded: list[Outcome] = [
        outcome(instance, command_id="c", **fate.says)
        for instance, fate in zip(instances(len(fates)), fates, strict=True)
    ]
    made = plan(
        len(fates),
        request=request,
        rollout=((0,),) if rolled_out else (),
        budget=0 if rolled_out else None,
    )
    verification = verify(recorded, None)
    expected = Summary("demo", NEW, "e" * 64, 2, 8)
    verification |= {"release_id": NEW, "digest": expected.digest, "files": 2, "source": "manifest"}
    verification["python_file_count"] = 5
    state = {"rollback": {"run_id": "back-1", "status": "SUCCEEDED" if back else "FAILED"}}
    return build_report(
        Known(
            run=Run("run-1", "2026-11-20T16:00:00.000+00:00", "sync"),
            stage="dev",
            request=request,
            finished_at="2026-11-20T16:00:04.000+00:00",
            state=state if rolled_out else {},
            plan=made,
            outcomes=recorded,
            verification=verification,
        )
    )


def truth(made: Report, fates: Sequence[Fate]) -> list[str | None]:
    """What each instance has now: a rollback that went well has sent the changed ones back."""
    sent_back = {o["instance_id"] for o in made["instances"] if o.get("returned")}
    return [
        OLD if o["instance_id"] in sent_back else fate.now
        for o, fate in zip(made["instances"], fates, strict=True)
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(FATES)), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_no_line_contradicts_another_or_the_record(
    names: list[str], rolled_out: bool, command: bool, back: bool
) -> None:
    """The last line counts who has the release now and who did not say; "verified" is at most
    that; a wave is said to be back only where it is; nothing is said of what did not happen."""
    # Someone for whom there is nothing to go back to keeps a rollback from succeeding.
    stays = "ill, had none" in names or "first" in names
    fates = [FATES[name] for name in names]
    made = report(fates, rolled_out=rolled_out, command=command, back=back and not stays)
    now = truth(made, fates)
    have, unknown, total = now.count(NEW), now.count(None), len(now)
    lines = [
        *report_view._facts(made),
        *report_view._troubles(made),
        report_view.summary_line(made),
    ]
    text = "\n".join(lines)
    last = lines[-1]

    stated = re.search(r"(\d+)/(\d+) instances (?:are known to )?have release", last)
    if stated:
        assert (int(stated[1]), int(stated[2])) == (have, total)
        silent = re.search(r"(\d+) did not say", last)
        assert (int(silent[1]) if silent else 0) == unknown
        assert ("are known to have" in last) == bool(unknown)
        failed = re.search(r"(\d+) of them failed", last)
        ill = sum(
            o["status"] != "succeeded" and has == NEW
            for o, has in zip(made["instances"], now, strict=True)
        )
        assert (int(failed[1]) if failed else 0) == ill
    else:
        assert last.endswith(f"in release {NEW}")
        assert have == total
    succeeded = sum(o["status"] == "succeeded" for o in made["instances"])
    if command:
        assert f"ucceeded on {succeeded}/{total} instances" in last

    verified = re.search(r"Verified: .* on (\d+)/", text)
    assert (int(verified[1]) if verified else 0) == have
    assert ("Python files synced" in text) == bool(have)
    assert (content(made)["verified"] is not None) == bool(have)

    if "the release before is back" in text:
        assert any(o.get("returned") for o in made["instances"])
        assert have < total
        kept = re.search(r"is back but on (\d+), which", text)
        assert (int(kept[1]) if kept else 0) == have
    if ", and none has the release" in text:
        assert have == 0
    if "had the release before and keep" in text:
        assert have == total
    if re.search(r"^Wave 1 of 1: [0-9 of]*instances? ha(s|ve) the release$", text, re.MULTILINE):
        assert have
