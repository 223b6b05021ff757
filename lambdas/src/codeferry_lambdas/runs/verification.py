"""Compare the trees that instances report with what was sent. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codeferry_contracts.archive import Manifest, Summary
from codeferry_contracts.report import Outcome, Verification
from codeferry_lambdas.aws.errors import VerificationFailed
from codeferry_lambdas.runs.outcomes import succeeded

_LISTED_FILES = 1000


def require_matching(verification: Verification) -> None:
    """VerificationFailed that names the instances whose tree differs."""
    wrong = verification["mismatched"]
    if wrong:
        expected = "the archive holds" if verification["source"] == "manifest" else "the others"
        raise VerificationFailed(
            f"{len(wrong)} instances report another tree than {expected}: {', '.join(wrong[:20])}.",
            hint="Run it again; if it stays, something on these instances changes the files.",
        )


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
    """The release that most instances have after a rollback, for which nothing was sent. Another
    one is a warning, and no failure."""
    rolled_back = succeeded(outcomes)
    expected = commonest(rolled_back)
    others = [o for o in rolled_back if o["release_id"] != expected.release_id]
    return {
        **verify((), None),
        "release_id": expected.release_id,
        "verified": len(rolled_back) - len(others),
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
