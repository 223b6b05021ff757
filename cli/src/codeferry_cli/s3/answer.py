"""What a transfer answers: its plan, or what it did and what it could not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from codeferry_cli.output import Output
from codeferry_cli.s3.errors import ObjectsFailed
from codeferry_contracts import formatting
from codeferry_contracts.escaping import one_line

if TYPE_CHECKING:
    from codeferry_transfer.plan import Action
    from codeferry_transfer.tally import Tally

PATTERN_UNMATCHED = "pattern_unmatched"
_MOST_NAMED = 20  # failures and leavings that people are shown


def show_plan(
    actions: Iterable[Action], tally: Tally, output: Output, facts: dict[str, Any]
) -> None:
    """Each action as a line, what is skipped only with -v; nothing is done.

    Raises ObjectsFailed when planning alone has shown that something would fail.
    """
    counts: Counter[str] = Counter()
    size = 0
    listed = []
    for action in actions:
        counts[action.verb] += 1
        size += action.size if action.verb == "copy" else 0
        if action.verb != "skip" or output.verbose:
            output.line(f"{action.verb:<7} {one_line(action.path)}  ({one_line(action.why)})")
        if output.json:
            listed.append(_action_json(action))
    output.line(
        f"Would copy {formatting.counted(counts['copy'], 'file')} ({formatting.size(size)}), "
        f"skip {counts['skip']:,}, delete {counts['delete']:,}, keep {counts['keep']:,}, "
        f"refuse {counts['refuse']:,}."
    )
    answer = {
        "dry_run": True,
        **facts,
        "counts": dict(counts),
        "bytes": size,
        "actions": listed,
        **_remarks_json(tally),
    }
    _say_remarks(tally, output)
    if tally.spared and not tally.failures:
        output.note(_spared(tally))
    _raise_failures(tally, output, answer, "would fail")
    output.document(answer)


def conclude(tally: Tally, seconds: float, output: Output, facts: dict[str, Any]) -> None:
    """The summary, or ObjectsFailed with all that failed."""
    _say_remarks(tally, output)
    answer = {**facts, **_tally_json(tally), "seconds": round(seconds, 3)}
    _raise_failures(tally, output, answer, "could not be transferred")
    output.line(_summary(tally, seconds))
    output.document(answer)


def _raise_failures(tally: Tally, output: Output, answer: dict[str, Any], what: str) -> None:
    if tally.failures:
        for failure in tally.failures[:_MOST_NAMED]:
            output.note(f"failed: {one_line(failure.path)}: {one_line(failure.message)}")
        raise ObjectsFailed(_failed(tally, what), hint=_hint(tally), details=answer)


def _summary(tally: Tally, seconds: float) -> str:
    parts = [
        f"{formatting.counted(tally.files, 'file')} copied ({formatting.size(tally.bytes)} "
        f"in {formatting.seconds(seconds)})"
    ]
    if tally.resumed:
        parts.append(f"{formatting.size(tally.resumed)} were there already")
    if tally.skipped:
        parts.append(f"{tally.skipped:,} unchanged")
    if tally.deleted:
        parts.append(f"{tally.deleted:,} deleted")
    if tally.kept:
        parts.append(f"{tally.kept:,} not deleted, because the source was left out there")
    return ", ".join(parts) + "."


def _failed(tally: Tally, what: str) -> str:
    patterns = [failure for failure in tally.failures if failure.code == PATTERN_UNMATCHED]
    if len(patterns) == len(tally.failures):
        return "Nothing is deleted as long as a pattern fits nothing."
    failed = len(tally.failures) - len(patterns)
    return f"{failed:,} of {formatting.counted(failed + tally.files, 'file')} {what}."


def _hint(tally: Tally) -> str:
    lines = []
    if any(failure.code == PATTERN_UNMATCHED for failure in tally.failures):
        lines.append("Correct the pattern or leave it away: patterns begin at the directory.")
    if len(tally.failures) > _MOST_NAMED:
        lines.append("All of them: the same with --json.")
    if tally.spared:
        lines.append(_spared(tally))
    return "\n".join(lines)


def _spared(tally: Tally) -> str:
    return (
        f"{formatting.counted(tally.spared, 'file')} would have been deleted; "
        "nothing is, as long as something fails."
    )


def _say_remarks(tally: Tally, output: Output) -> None:
    for what, remarks in (("left out", tally.left_out), ("warning", tally.warnings)):
        for path, why in remarks[:_MOST_NAMED]:
            output.note(f"{what}: {one_line(path)}: {why}")
        if len(remarks) > _MOST_NAMED:
            output.note(f"{what}: {len(remarks) - _MOST_NAMED:,} more")


def _remarks_json(tally: Tally) -> dict[str, Any]:
    return {
        "left_out": [{"path": path, "why": why} for path, why in tally.left_out],
        "warnings": [{"path": path, "why": why} for path, why in tally.warnings],
    }


def _action_json(action: Action) -> dict[str, Any]:
    return {
        "action": str(action.verb),
        "path": action.path,
        "size": action.size,
        "why": action.why,
    }


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "files": tally.files,
        "bytes": tally.bytes,
        "resumed_bytes": tally.resumed,
        "skipped": tally.skipped,
        "deleted": tally.deleted,
        "kept": tally.kept,
        "failed": len(tally.failures),
        "failures": [failure.to_json() for failure in tally.failures],
        **_remarks_json(tally),
    }
