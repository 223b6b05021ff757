"""Transfers and listings of `ferry s3` as people see them: progress, plan, result, objects."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codeferry_cli import amounts
from codeferry_cli.errors import NothingFound, ObjectsFailed
from codeferry_cli.terminal.output import Output
from codeferry_cli.terminal.progress import Progress
from codeferry_contracts.escaping import one_line

if TYPE_CHECKING:
    from codeferry_cli.s3.s5cmd import S5cmdResult
    from codeferry_transfer.location import Location
    from codeferry_transfer.plan import Action
    from codeferry_transfer.s3 import Listed, Page
    from codeferry_transfer.selection import Selection
    from codeferry_transfer.tally import Tally

PATTERN_UNMATCHED = "pattern_unmatched"
_MOST_NAMED = 20  # failures and omissions that people see
_STEPS = 10  # lines of progress off a terminal
_SOON = 1.0  # seconds, before which a rate says nothing


class TransferProgress:
    """Called while a transfer runs; ``doing`` is what it does, such as "Uploading"."""

    def __init__(
        self,
        doing: str,
        tally: Tally,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._doing = doing
        self._tally = tally
        self._progress = progress
        self._clock = clock
        self._began = clock()

    def __call__(self) -> None:
        tally = self._tally
        if tally.planned_files:
            done = tally.bytes + tally.resumed
            by_files = tally.files / tally.planned_files  # where there are no bytes
            share = min(1.0, done / tally.planned_bytes if tally.planned_bytes else by_files)
            mark = int(share * _STEPS) if tally.plan_complete else "planning"
            self._progress.now(f"{self._doing}… {self._state(done, share)}", mark=mark)

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def _state(self, done: int, share: float) -> str:
        tally, more = self._tally, "" if self._tally.plan_complete else "+"
        files = f"{tally.files:,} of {tally.planned_files:,}{more} files"
        size = f"{amounts.size(done)} of {amounts.size(tally.planned_bytes)}{more}"
        # Of a single file all bytes may be there a moment before it is: not "0 of 1", then.
        alone = tally.planned_files == 1 and tally.plan_complete
        parts = [size] if alone else [files, size]
        return ", ".join([*parts, *self._speed(done)]) + f" ({share:.0%})"

    def _speed(self, done: int) -> list[str]:
        elapsed = self.seconds
        if elapsed < _SOON or not self._tally.bytes:
            return []
        rate = self._tally.bytes / elapsed
        speed = [f"{amounts.size(int(rate))}/s"]
        if self._tally.plan_complete:
            speed.append(f"{amounts.seconds((self._tally.planned_bytes - done) / rate)} left")
        return speed


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
            verb = str(action.verb)
            listed.append(
                {"action": verb, "path": action.path, "size": action.size, "why": action.why}
            )
    output.line(
        f"Would copy {amounts.counted(counts['copy'], 'file')} ({amounts.size(size)}), "
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
    _show_remarks(tally, output)
    if tally.spared and not tally.failures:
        output.note(_not_deleted(tally))
    _raise_failures(tally, output, answer, "would fail")
    output.document(answer)


def show_result(tally: Tally, seconds: float, output: Output, facts: dict[str, Any]) -> None:
    """The summary, or ObjectsFailed with all that failed."""
    _show_remarks(tally, output)
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
        f"{amounts.counted(tally.files, 'file')} copied ({amounts.size(tally.bytes)} "
        f"in {amounts.seconds(seconds)})"
    ]
    if tally.resumed:
        parts.append(f"{amounts.size(tally.resumed)} were there already")
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
    return f"{failed:,} of {amounts.counted(failed + tally.files, 'file')} {what}."


def _hint(tally: Tally) -> str:
    lines = []
    if any(failure.code == PATTERN_UNMATCHED for failure in tally.failures):
        lines.append("Correct the pattern or leave it away: patterns begin at the directory.")
    if len(tally.failures) > _MOST_NAMED:
        lines.append("All of them: the same with --json.")
    if tally.spared:
        lines.append(_not_deleted(tally))
    return "\n".join(lines)


def _not_deleted(tally: Tally) -> str:
    return (
        f"{amounts.counted(tally.spared, 'file')} would have been deleted; "
        "nothing is, as long as something fails."
    )


def _show_remarks(tally: Tally, output: Output) -> None:
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
    output.line(f"{amounts.counted(count, 'object')}, {amounts.size(size)}.")
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
    moment = amounts.when(datetime.fromtimestamp(found.modified, UTC))
    return f"{amounts.size(found.size):>10}  {moment}  {one_line(found.key)}"


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
            f"s5cmd told of {amounts.counted(len(result.failures), 'error')} and ended with exit "
            f"code {result.exit_code}.",
            details=answer,
        )
    output.line(f"{amounts.counted(result.files, 'file')} copied by s5cmd.")
    output.document(answer)
