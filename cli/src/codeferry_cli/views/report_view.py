"""A run's report as people read it: functions from the report's values to lines."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

from codeferry_cli.terminal.output import Output
from codeferry_cli.terminal.table import Cell, Column, Row
from codeferry_contracts import formatting
from codeferry_contracts.escaping import as_drawn, one_line
from codeferry_contracts.names import ROLLBACK, SCRIPT
from codeferry_contracts.report import ErrorRecord, Outcome, Report, Verification

# By what became of it: a mark and its colour.
MARKS = {
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "returned": ("↩", "yellow"),
    "skipped": ("-", ""),
}
# Beyond this many instances a line each drowns what matters: counts and failures are shown.
MOST_ROWS = 20
_MOST_WARNINGS = 50
SHORT_RELEASE = 12  # hex digits; a release is accepted by them
_MOST_TAILS, _TAIL_LINES = 5, 20

COLUMNS = (
    Column("", key="status"),
    Column("instance"),
    Column("name", drops=1, shrinks=True),
    Column("result", shrinks=True),
    Column("release", drops=2, short=SHORT_RELEASE),
    Column("files", drops=4),
    Column("seconds", drops=3),
)


def outcome_line(outcome: Outcome) -> str:
    """One instance in one line, as it is told while the run goes on."""
    wave = f"wave {outcome['wave']}:" if "wave" in outcome else ""
    words = (MARKS[formatting.status(outcome)][0], wave, outcome["instance_id"], outcome["name"])
    return " ".join(filter(None, (*words, _outcome_text(outcome))))


def rows(outcomes: list[Outcome]) -> list[Row]:
    """The rows of the table of instances: what needs a person last, where the eye is."""
    ordered = sorted(outcomes, key=lambda o: (-formatting.severity(o), o["instance_id"]))
    return [_outcome_row(outcome) for outcome in ordered]


def _outcome_row(outcome: Outcome) -> Row:
    kind = formatting.status(outcome)
    mark, colour = MARKS[kind]
    seconds = sum(outcome["seconds"].values())
    return (
        Cell(mark, kind, colour),
        outcome["instance_id"],
        outcome["name"],
        _result(outcome),
        formatting.release(outcome),
        Cell(f"{outcome['files']:,}", str(outcome["files"])) if outcome["files"] else "",
        Cell(f"{seconds:.1f}", f"{seconds:.3f}") if outcome["seconds"] else "",
    )


def show_report(
    report: Report, output: Output, *, everybody: bool = False, option: str = ""
) -> None:
    """Print the whole report: table, waves, reasons, warnings, verification, the last line.

    Of more than MOST_ROWS instances only counts and what went wrong, unless ``everybody`` is
    wanted or it is CSV; ``option`` repeats the stage in the command that shows the rest.
    """
    for line in _facts(report):
        output.line(line)
    show_outcomes(report["instances"], report["run_id"], output, everybody, option)
    for line in _troubles(report):
        output.line(line)
    output.line(summary_line(report))


def show_outcomes(
    outcomes: list[Outcome], run_id: str, output: Output, everybody: bool, option: str
) -> None:
    """The table of instances; of many only counts, failures, and the command for the rest."""
    shown = outcomes
    if len(outcomes) > MOST_ROWS and not (everybody or output.csv):
        shown = [o for o in outcomes if formatting.status(o) == "failed"][:MOST_ROWS]
        output.line(counts_line(outcomes))
        everyone = formatting.counted(len(outcomes), "instance")
        output.line(f"All {everyone}: ferry status {run_id}{option} --all")
    if shown:
        output.table(COLUMNS, rows(shown))


def counts_line(outcomes: list[Outcome]) -> str:
    """How many instances ended how, such as ``195 applied, 3 disk full, 2 unreachable``."""
    counted = Counter(
        formatting.result(o) for o in sorted(outcomes, key=formatting.severity, reverse=True)
    )
    return ", ".join(f"{number:,} {result}" for result, number in counted.items())


def _facts(report: Report) -> Iterator[str]:
    yield from cost_lines(report)
    yield from verification_lines(report)
    yield from rollout_lines(report)


def _troubles(report: Report) -> Iterator[str]:
    """Last, so that they are still on the screen."""
    yield from warnings(report)
    yield from tails(report)
    yield from reasons(report)
    yield from left_lines(report)


def left_lines(report: Report) -> list[str]:
    """Of a cancelled run what of it still runs."""
    if report["status"] != "CANCELLED" or not report["instances"]:
        return []
    codes = Counter(o["error"]["code"] if o["error"] else "" for o in report["instances"])
    left, unknown = codes["still_running"], codes["unknown"]
    if not left and not unknown:
        return ["Nothing of it is left running."]
    parts = [f"still runs on {formatting.counted(left, 'instance')}"] if left else []
    parts += [f"not known of {formatting.counted(unknown, 'instance')}"] if unknown else []
    return [f"What is left running: {', '.join(parts)}"]


def cost_lines(report: Report) -> list[str]:
    """What AWS charges for the run, as far as is known before the bill."""
    cost = report.get("cost")
    return [f"Costs about ${cost['usd']:.5f} at list price"] if cost else []


def reasons(report: Report) -> list[str]:
    """Why instances failed: each different reason once, with the instances it holds for."""
    lines = []
    for (message, hint), ids in formatting.reasons(report["instances"]).items():
        lines.append(f"{formatting.some_ids(ids)}: {message}")
        lines += [f"  {line}" for line in hint.splitlines()]
    return lines


def tails(report: Report) -> list[str]:
    """The end of what failed instances printed, where errors are."""
    failed = [o for o in report["instances"] if o["status"] == "failed"]
    said = formatting.grouped((tail, o["instance_id"]) for o in failed if (tail := _tail(o)))
    lines = []
    for tail, ids in list(said.items())[:_MOST_TAILS]:
        lines.append(f"{formatting.some_ids(ids)} printed last:")
        lines += [f"  {line}" for line in tail]
    rest = len(said) - _MOST_TAILS
    return (
        [*lines, f"… and {rest:,} other ends: ferry logs {report['run_id']}"] if rest > 0 else lines
    )


def _tail(outcome: Outcome) -> tuple[str, ...]:
    ran = outcome.get("ran")
    text = as_drawn(ran["tail"].strip("\r\n")) if ran else ""
    return tuple(text.split("\n")[-_TAIL_LINES:]) if text else ()


def warnings(report: Report) -> list[str]:
    """Each different warning, up to a number."""
    lines = [f"Warning: {text}" for text in formatting.warnings(report)]
    rest = len(lines) - _MOST_WARNINGS
    return [*lines[:_MOST_WARNINGS], f"… and {rest:,} more warnings"] if rest > 0 else lines


def rollout_lines(report: Report) -> list[str]:
    """A line per wave of a roll-out, then how instances were asked and who was sent back."""
    found = report.get("rollout")
    if not found:
        return []
    waves = found["waves"]
    width = len(str(len(waves)))
    lines = [
        f"Wave {number:>{width}} of {len(waves)}: {formatting.wave(wave)}"
        for number, wave in enumerate(waves, start=1)
    ]
    if found["health"]:
        bake = found["bake_seconds"]
        after = f", {formatting.seconds(bake)} after the switch" if bake else ""
        lines.append(f"Health command{after}: {shlex.join(found['health'])}")
    if found["rollback"]:
        lines.append(f"The wave was returned by the run {found['rollback']}")
    return lines


def verification_lines(report: Report) -> list[str]:
    """What was compared, where that says something of what instances have now."""
    found = report["verification"]
    if not found or report["workflow"] == ROLLBACK:  # nothing was sent that could be compared
        return []
    lines = []
    verified = formatting.verified(report)
    if verified:
        count = f"{verified:,}/{report['counts']['total']:,} instances"
        files = formatting.counted(found["files"], "file")
        lines = [f"Verified: {files}, digest {found['digest'][:12]} on {count}{_against(found)}"]
        if found["python_file_count"]:
            lines.append(f"Python files synced: {found['python_file_count']:,}")
    if found["mismatched"]:
        lines.append(f"Not what was sent: {formatting.some_ids(found['mismatched'])}")
    return lines


def summary_line(report: Report) -> str:
    """The last line, such as ``3/3 instances have release 0123…``."""
    counts = report["counts"]
    if not counts["total"]:
        return f"The run {report['status'].lower()} before it reached an instance."
    share = f"{counts['succeeded']:,}/{counts['total']:,} instances"
    if report["workflow"] == SCRIPT:
        return f"Script ran on {share}"
    if report.get("command") and report["workflow"] != ROLLBACK:
        judged_later = {"health_failed", formatting.WAVE_RETURNED}
        codes = {o["error"]["code"] for o in report["instances"] if o["error"]}
        what = "Succeeded" if codes & judged_later else "Command succeeded"
        release = formatting.run_release(report)
        everywhere = all(formatting.current_release(o) == release for o in report["instances"])
        where = (
            f", in release {release}" if everywhere else f"; {formatting.release_summary(report)}"
        )
        return f"{what} on {share}{where}"
    return formatting.release_summary(report)


def failure(report: Report) -> ErrorRecord:
    """What went wrong, for a report that is not a success."""
    if report["error"]:
        return report["error"]
    return {"code": "run_failed", "message": summary_line(report) + ".", "hint": ""}


def _against(found: Verification) -> str:
    if found["source"] == "manifest":
        return ""
    return " (the archive has no manifest; the instances agree with one another)"


def _result(outcome: Outcome) -> str:
    """A table's cell. How a command ended is short and says more than its code; what a roll-out
    adds to that is not."""
    error = outcome["error"]
    if error and outcome.get("ran") and "wave" not in outcome:
        return error["message"]
    return _outcome_word(outcome)


def _outcome_word(outcome: Outcome) -> str:
    """Of a command that went well its exit code, as of one that did not."""
    ran = outcome.get("ran")
    if outcome["status"] == "succeeded" and ran and ran["ending"] == "exited":
        return f"exit code {ran['exit_code']}"
    return formatting.result(outcome)


def _outcome_text(outcome: Outcome) -> str:
    if outcome["error"]:
        return one_line(outcome["error"]["message"])
    return f"{_outcome_word(outcome)} {outcome['release_id']}".strip()
