"""verify: does every instance that succeeded hold what the archive held?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codeferry_contracts.manifest import Manifest, Summary
from codeferry_contracts.report import Outcome, Verification
from codeferry_lambdas.archive_object import read_manifest
from codeferry_lambdas.errors import VerificationFailed
from codeferry_lambdas.observability import Event, entry
from codeferry_lambdas.record import Record, Run
from codeferry_lambdas.settings import Settings

_LISTED_FILES = 1000


@entry
def handler(event: Event) -> None:
    """Takes ``run``; writes verification.json; VerificationFailed names who differs."""
    settings, run = Settings.from_env(), Run(**event["run"])
    record = Record(settings.bucket, run.keys)
    plan = record.plan()
    manifest = read_manifest(settings.bucket, plan.archive)
    verification = verify(record.outcomes(len(plan.batches)), manifest)
    record.write(run.keys.verification, verification)
    if verification["mismatched"]:
        raise VerificationFailed(
            f"{len(verification['mismatched'])} instances report another tree than "
            f"{_expected(verification)}: {', '.join(verification['mismatched'][:20])}.",
            hint="Run it again; if it stays, something on these instances changes the files.",
        )


def _expected(verification: Verification) -> str:
    return "the archive holds" if verification["source"] == "manifest" else "the others"


def verify(outcomes: Sequence[Outcome], manifest: Manifest | None) -> Verification:
    """Compare every succeeded instance with the manifest, or without one with the tree that
    most of them report."""
    succeeded = [outcome for outcome in outcomes if outcome["status"] == "succeeded"]
    expected = manifest.summary if manifest else commonest(succeeded)
    wrong = [o["instance_id"] for o in succeeded if not _agrees(o, expected)]
    python = [e.path for e in manifest.entries if e.path.endswith(".py")] if manifest else []
    return {
        "source": "manifest" if manifest else "instances",
        "release_id": expected.release_id,
        "digest": expected.digest,
        "files": expected.files,
        "bytes": expected.bytes,
        "verified": len(succeeded) - len(wrong),
        "mismatched": wrong,
        "python_files": [_readable(path) for path in python[:_LISTED_FILES]],
        "python_file_count": len(python),
        "warnings": [line for outcome in succeeded for line in _unmet(outcome)],
    }


def commonest(succeeded: Sequence[Outcome]) -> Summary:
    """The tree most instances report; an empty one when there is none."""
    trees = Counter((o["release_id"], o["digest"], o["files"], o["bytes"]) for o in succeeded)
    if not trees:
        return Summary("", "", "", 0, 0)
    release_id, digest, files, size = trees.most_common(1)[0][0]
    return Summary("", release_id, digest, files, size)


def _agrees(outcome: Outcome, expected: Summary) -> bool:
    same_tree = (outcome["digest"], outcome["release_id"]) == (expected.digest, expected.release_id)
    return same_tree and outcome["files"] == expected.files


def _unmet(outcome: Outcome) -> list[str]:
    return [f"{outcome['instance_id']}: {path} does not exist." for path in outcome["unmet"]]


def _readable(path: str) -> str:
    """A path that JSON readers can take: bytes that are not UTF-8 as ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
