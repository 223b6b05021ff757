"""Transfers and listings of `ferry s3` as people see them: progress, plan, result, objects."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codeferry_cli.errors import NothingFound, ObjectsFailed
from codeferry_cli.terminal.output import Output
from codeferry_cli.terminal.progress import Progress
from codeferry_contracts import formatting
from codeferry_contracts.escaping import one_line

if TYPE_CHECKING:
    from codeferry_cli.s3.s5cmd import S5cmdResult
    from codeferry_transfer.location import Location
    from codeferry_transfer.plan import Action
    from codeferry_transfer.s3 import Listed, Page
    from codeferry_transfer.selection import Selection
    from codeferry_transfer.summary import Summary

PATTERN_UNMATCHED = "pattern_unmatched"
_MOST_NAMED = 20  # failures and omissions that people see
_STEPS = 10  # lines of progress off a terminal
_SOON = 1.0  # seconds, before which a rate says nothing


class TransferProgress:
    """Called while a transfer runs; ``doing`` is what it does, such as "Uploading"."""

    def __init__(
        self,
        doing: str,
        summary: Summary,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._doing = doing
        self._summary = summary
        self._progress = progress
        self._clock = clock
        self._began = clock()

    def __call__(self) -> None:
        summary = self._summary
        if summary.planned_files:
            done = summary.bytes + summary.resumed
            by_files = summary.files / summary.planned_files  # where there are no bytes
            share = min(1.0, done / summary.planned_bytes if summary.planned_bytes else by_files)
            mark = int(share * _STEPS) if summary.plan_complete else "planning"
            self._progress.now(f"{self._doing}… {self._state(done, share)}", mark=mark)

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def _state(self, done: int, share: float) -> str:
        summary, more = self._summary, "" if self._summary.plan_complete else "+"
        files = f"{summary.files:,} of {summary.planned_files:,}{more} files"
        size = f"{formatting.size(done)} of {formatting.size(summary.planned_bytes)}{more}"
        # Of a single file all bytes may be there a moment before it is: not "0 of 1", then.
        alone = summary.planned_files == 1 and summary.plan_complete
        parts = [size] if alone else [files, size]
        return ", ".join([*parts, *self._speed(done)]) + f" ({share:.0%})"

    def _speed(self, done: int) -> list[str]:
        elapsed = self.seconds
        if elapsed < _SOON or not self._summary.bytes:
            return []
        rate = self._summary.bytes / elapsed
        speed = [f"{formatting.size(int(rate))}/s"]
        if self._summary.plan_complete:
            speed.append(f"{formatting.seconds((self._summary.planned_bytes - done) / rate)} left")
        return speed


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
            verb = str(action.verb)
            listed.append(
                {"action": verb, "path": action.path, "size": action.size, "why": action.why}
            )
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
    _show_remarks(summary, output)
    if summary.spared and not summary.failures:
        output.note(_not_deleted(summary))
    _raise_failures(summary, output, answer, "would fail")
    output.document(answer)


def show_result(summary: Summary, seconds: float, output: Output, facts: dict[str, Any]) -> None:
    """The summary, or ObjectsFailed with all that failed."""
    _show_remarks(summary, output)
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
        lines.append(_not_deleted(summary))
    return "\n".join(lines)


def _not_deleted(summary: Summary) -> str:
    return (
        f"{formatting.counted(summary.spared, 'file')} would have been deleted; "
        "nothing is, as long as something fails."
    )


def _show_remarks(summary: Summary, output: Output) -> None:
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


def show_listing(pages: Iterable[Page], place: Location, meant: Selection, output: Output) -> None:
    """A line for each object, as its page arrives. Raises NothingFound when there is none."""
    objects: list[dict[str, Any]] = []
    directories: list[str] = []
    count = size = 0
    for page in pages:
        for prefix in page.prefixes:
            output.line(f"{'':>10}  {'':23}  {one_line(prefix)}")
            directories.append(prefix)
        for found in page.objects:
            if meant(found.key.removeprefix(place.directory.path)):
                count, size = count + 1, size + found.size
                output.line(_object_line(found))
                if output.json:
                    objects.append(_object_json(found))
    for pattern in meant.unmatched:
        output.note(f"warning: {one_line(pattern)}: it fits nothing")
    if not count and not directories and place.path:
        raise NothingFound(f"There is nothing in {place}.")
    output.line(f"{formatting.counted(count, 'object')}, {formatting.size(size)}.")
    output.document(
        {
            "location": str(place),
            "count": count,
            "bytes": size,
            "directories": directories,
            "objects": objects,
        }
    )


def _object_line(found: Listed) -> str:
    moment = formatting.when(datetime.fromtimestamp(found.modified, UTC))
    return f"{formatting.size(found.size):>10}  {moment}  {one_line(found.key)}"


def _object_json(found: Listed) -> dict[str, Any]:
    return {
        "key": found.key,
        "size": found.size,
        "modified": datetime.fromtimestamp(found.modified, UTC).isoformat(),
        "etag": found.etag.strip('"'),
    }


def show_s5cmd_result(result: S5cmdResult, output: Output, facts: dict[str, str]) -> None:
    """The summary, or ObjectsFailed with all that failed."""
    answer = {
        **facts,
        "by": "s5cmd",
        "files": result.files,
        "deleted": result.deleted,
        "failed": len(result.failures),
        "failures": result.failures,
    }
    if result.exit_code or result.failures:  # of a directory it cannot read it exits with 0
        for failure in result.failures:
            output.note(f"failed: {one_line(failure['path'])}: {failure['message']}")
        raise ObjectsFailed(
            f"s5cmd told of {formatting.counted(len(result.failures), 'error')} and ended "
            f"with exit code {result.exit_code}.",
            details=answer,
        )
    output.line(f"{formatting.counted(result.files, 'file')} copied by s5cmd.")
    output.document(answer)
