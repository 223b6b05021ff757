"""What a transfer answers: its plan, or what it did and what it could not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from codeferry_cli import amounts
from codeferry_cli.escaping import one_line
from codeferry_cli.output import Output
from codeferry_cli.s3.errors import ObjectsFailed

if TYPE_CHECKING:
    from codeferry_transfer.plan import Action
    from codeferry_transfer.tally import Tally

_MOST_NAMED = 20  # failures and leavings that people are shown


def show_plan(actions: Iterable[Action], output: Output, facts: dict[str, Any]) -> None:
    """Each action as a line, what is skipped only with -v; nothing is done."""
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
        f"Would copy {amounts.counted(counts['copy'], 'file')} ({amounts.size(size)}), "
        f"skip {counts['skip']:,}, delete {counts['delete']:,}, refuse {counts['refuse']:,}."
    )
    output.document(
        {"dry_run": True, **facts, "counts": dict(counts), "bytes": size, "actions": listed}
    )


def conclude(tally: Tally, seconds: float, output: Output, facts: dict[str, Any]) -> None:
    """The summary, or ObjectsFailed with all that failed."""
    for line in _left_out(tally):
        output.note(line)
    answer = {**facts, **_tally_json(tally), "seconds": round(seconds, 3)}
    if tally.failures:
        for failure in tally.failures[:_MOST_NAMED]:
            output.note(f"failed: {one_line(failure.path)}: {one_line(failure.message)}")
        raise ObjectsFailed(_failed(tally), hint=_hint(tally), details=answer)
    output.line(_summary(tally, seconds))
    output.document(answer)


def _summary(tally: Tally, seconds: float) -> str:
    parts = [
        f"{amounts.counted(tally.files, 'file')} copied ({amounts.size(tally.bytes)} "
        f"in {amounts.seconds(seconds)})"
    ]
    if tally.resumed:
        parts.append(f"{amounts.size(tally.resumed)} were there already")
    if tally.skipped:
        parts.append(f"{tally.skipped:,} unchanged")
    if tally.deleted:
        parts.append(f"{tally.deleted:,} deleted")
    return ", ".join(parts) + "."


def _failed(tally: Tally) -> str:
    total = len(tally.failures) + tally.files
    return f"{len(tally.failures):,} of {amounts.counted(total, 'file')} could not be transferred."


def _hint(tally: Tally) -> str:
    lines = []
    if len(tally.failures) > _MOST_NAMED:
        lines.append("All of them: the same with --json.")
    if tally.spared:
        lines.append(
            f"{amounts.counted(tally.spared, 'file')} would have been deleted; "
            "nothing is, as long as something fails."
        )
    return "\n".join(lines)


def _left_out(tally: Tally) -> Iterator[str]:
    for path, why in tally.left_out[:_MOST_NAMED]:
        yield f"left out: {one_line(path)}: {why}"
    if len(tally.left_out) > _MOST_NAMED:
        yield f"left out: {len(tally.left_out) - _MOST_NAMED:,} more"


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
        "failed": len(tally.failures),
        "failures": [failure.to_json() for failure in tally.failures],
        "left_out": [{"path": path, "why": why} for path, why in tally.left_out],
    }
