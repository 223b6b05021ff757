"""verify: does every instance that succeeded hold what the archive held?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError

from codeferry_contracts.archive import Manifest, Summary
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.report import Outcome, Verification
from codeferry_lambdas.aws.errors import VerificationFailed
from codeferry_lambdas.aws.observability import Event, entry, logger, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.releases.archives import read_manifest
from codeferry_lambdas.releases.last_good import succeeded, update_last_good
from codeferry_lambdas.releases.store import ReleaseStore
from codeferry_lambdas.runs import rollout
from codeferry_lambdas.runs.record import Plan, Record, Run

_LISTED_FILES = 1000


@entry
@phase("verify")
def handler(event: Event) -> None:
    """Takes ``run``; writes verification.json. VerificationFailed names who differs;
    WaveFailed and WaveReturned say that a roll-out has stopped."""
    settings, run = Settings.from_env(), Run(**event["run"])
    record = Record(settings.bucket, run.keys)
    plan = record.plan()
    outcomes = record.outcomes(len(plan.batches))
    manifest = read_manifest(settings.bucket, plan.archive) if plan.archive else None
    verification = verify(outcomes, manifest) if plan.archive else verify_rollback(outcomes)
    record.write(run.keys.verification, verification)
    if verification["mismatched"]:
        raise VerificationFailed(
            f"{len(verification['mismatched'])} instances report another tree than "
            f"{_expected(verification)}: {', '.join(verification['mismatched'][:20])}.",
            hint="Run it again; if it stays, something on these instances changes the files.",
        )
    rollout.require_healthy(plan, run, outcomes, settings.stage.name)
    warnings = _keep(settings, run, plan, outcomes)
    if warnings:
        changed = {**verification, "warnings": [*verification["warnings"], *warnings]}
        record.write(run.keys.verification, changed)


def _keep(settings: Settings, run: Run, plan: Plan, outcomes: Sequence[Outcome]) -> list[str]:
    """Keep the release for those who join later; why that was not possible, as warnings."""
    try:
        update_last_good(ReleaseStore(settings.bucket), run, plan, outcomes, datetime.now(UTC))
    except (CodeferryError, ClientError, BotoCoreError) as error:
        logger.warning("The release was not kept.", exc_info=error)
        return [f"Instances that join later will not get this release by themselves: {error}"]
    return []


def _expected(verification: Verification) -> str:
    return "the archive holds" if verification["source"] == "manifest" else "the others"


def verify(outcomes: Sequence[Outcome], manifest: Manifest | None) -> Verification:
    """Compare every instance that has the release with the manifest, or without one with the
    tree that most of them report. One whose command failed has it all the same."""
    found = [o for o in outcomes if o["status"] == "succeeded" or o["ran"]]
    expected = manifest.summary if manifest else commonest(found)
    wrong = [o["instance_id"] for o in found if not _agrees(o, expected)]
    python = [e.path for e in manifest.entries if e.path.endswith(".py")] if manifest else []
    return {
        "source": "manifest" if manifest else "instances",
        "release_id": expected.release_id,
        "digest": expected.digest,
        "files": expected.files,
        "bytes": expected.bytes,
        "verified": len(found) - len(wrong),
        "mismatched": wrong,
        "python_files": [_readable(path) for path in python[:_LISTED_FILES]],
        "python_file_count": len(python),
        "warnings": [line for outcome in found for line in _unmet(outcome)],
    }


def verify_rollback(outcomes: Sequence[Outcome]) -> Verification:
    """What instances have gone back to, which nothing was sent for: the release that most of
    them have now. Others are told of, and are no failure."""
    restored = succeeded(outcomes)
    expected = commonest(restored)
    others = [o for o in restored if o["release_id"] != expected.release_id]
    return {
        **verify((), None),
        "release_id": expected.release_id,
        "verified": len(restored) - len(others),
        "warnings": [f"{o['instance_id']} went back to release {o['release_id']}." for o in others],
    }


def commonest(found: Sequence[Outcome]) -> Summary:
    """The tree most instances report; an empty one when there is none."""
    trees = Counter((o["release_id"], o["digest"], o["files"], o["bytes"]) for o in found)
    if not trees:
        return Summary("", "", "", 0, 0)
    release_id, digest, files, size = trees.most_common(1)[0][0]
    return Summary("", release_id, digest, files, size)


def _agrees(outcome: Outcome, expected: Summary) -> bool:
    found = (outcome["digest"], outcome["files"])
    # A script was unpacked and is gone again: there is no release of it.
    released = outcome["change"] == "ran" or outcome["release_id"] == expected.release_id
    return released and found == (expected.digest, expected.files)


def _unmet(outcome: Outcome) -> list[str]:
    return [f"{outcome['instance_id']}: {path} does not exist." for path in outcome["unmet"]]


def _readable(path: str) -> str:
    """A path that JSON readers can take: bytes that are not UTF-8 as ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
