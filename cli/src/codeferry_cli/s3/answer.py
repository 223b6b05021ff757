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
    from codeferry_transfer.summary import Summary

PATTERN_UNMATCHED = "pattern_unmatched"
_MOST_NAMED = 20  # failures and leavings that people are shown


def show_plan(
    actions: Iterable[Action], summary: Summary, output: Output, facts: dict[str, Any]
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
        **_remarks_json(summary),
    }
    _say_remarks(summary, output)
    if summary.spared and not summary.failures:
        output.note(_spared(summary))
    _raise_failures(summary, output, answer, "would fail")
    output.document(answer)


def conclude(summary: Summary, seconds: float, output: Output, facts: dict[str, Any]) -> None:
    """The summary, or ObjectsFailed with all that failed."""
    _say_remarks(summary, output)
    answer = {**facts, **_summary_json(summary), "seconds": round(seconds, 3)}
    _raise_failures(summary, output, answer, "could not be transferred")
    output.line(_summary(summary, seconds))
    output.document(answer)


def _raise_failures(summary: Summary, output: Output, answer: dict[str, Any], what: str) -> None:
    if summary.failures:
        for failure in summary.failures[:_MOST_NAMED]:
            output.note(f"failed: {one_line(failure.path)}: {one_line(failure.message)}")
        raise ObjectsFailed(_failed(summary, what), hint=_hint(summary), details=answer)


def _summary(summary: Summary, seconds: float) -> str:
    parts = [
        f"{formatting.counted(summary.files, 'file')} copied ({formatting.size(summary.bytes)} "
        f"in {formatting.seconds(seconds)})"
    ]
    if summary.resumed:
        parts.append(f"{formatting.size(summary.resumed)} were there already")
    if summary.skipped:
        parts.append(f"{summary.skipped:,} unchanged")
    if summary.deleted:
        parts.append(f"{summary.deleted:,} deleted")
    if summary.kept:
        parts.append(f"{summary.kept:,} not deleted, because the source was left out there")
    return ", ".join(parts) + "."


def _failed(summary: Summary, what: str) -> str:
    patterns = [failure for failure in summary.failures if failure.code == PATTERN_UNMATCHED]
    if len(patterns) == len(summary.failures):
        return "Nothing is deleted as long as a pattern fits nothing."
    failed = len(summary.failures) - len(patterns)
    return f"{failed:,} of {formatting.counted(failed + summary.files, 'file')} {what}."


def _hint(summary: Summary) -> str:
    lines = []
    if any(failure.code == PATTERN_UNMATCHED for failure in summary.failures):
        lines.append("Correct the pattern or leave it away: patterns begin at the directory.")
    if len(summary.failures) > _MOST_NAMED:
        lines.append("All of them: the same with --json.")
    if summary.spared:
        lines.append(_spared(summary))
    return "\n".join(lines)


def _spared(summary: Summary) -> str:
    return (
        f"{formatting.counted(summary.spared, 'file')} would have been deleted; "
        "nothing is, as long as something fails."
    )


def _say_remarks(summary: Summary, output: Output) -> None:
    for what, remarks in (("left out", summary.left_out), ("warning", summary.warnings)):
        for path, why in remarks[:_MOST_NAMED]:
            output.note(f"{what}: {one_line(path)}: {why}")
        if len(remarks) > _MOST_NAMED:
            output.note(f"{what}: {len(remarks) - _MOST_NAMED:,} more")


def _remarks_json(summary: Summary) -> dict[str, Any]:
    return {
        "left_out": [{"path": path, "why": why} for path, why in summary.left_out],
        "warnings": [{"path": path, "why": why} for path, why in summary.warnings],
    }


def _action_json(action: Action) -> dict[str, Any]:
    return {
        "action": str(action.verb),
        "path": action.path,
        "size": action.size,
        "why": action.why,
    }


def _summary_json(summary: Summary) -> dict[str, Any]:
    return {
        "files": summary.files,
        "bytes": summary.bytes,
        "resumed_bytes": summary.resumed,
        "skipped": summary.skipped,
        "deleted": summary.deleted,
        "kept": summary.kept,
        "failed": len(summary.failures),
        "failures": [failure.to_json() for failure in summary.failures],
        **_remarks_json(summary),
    }
