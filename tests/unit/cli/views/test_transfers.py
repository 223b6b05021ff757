"""`ferry s3` as it is seen, while it works and when it is done."""

from __future__ import annotations

import json

import pytest

from codeferry_cli.errors import ObjectsFailed
from codeferry_cli.terminal.output import Output
from codeferry_cli.views.transfers import TransferProgress, show_listing, show_plan, show_result
from codeferry_transfer.errors import AccessDenied, PatternUnmatched
from codeferry_transfer.location import Location
from codeferry_transfer.plan import Action, Verb
from codeferry_transfer.s3 import Listed, Page
from codeferry_transfer.selection import Selection
from codeferry_transfer.summary import Summary


class Shown:
    """Records the calls of a Progress."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []

    def now(self, text: str, mark: object) -> None:
        self.said.append((text, mark))


def meter(summary: Summary, shown: Shown, seconds: list[float]) -> TransferProgress:
    moments = iter([0.0, *seconds])
    return TransferProgress("Uploading", summary, shown, clock=lambda: next(moments))  # type: ignore[arg-type]


def test_progress_has_files_bytes_rate_and_time_left() -> None:
    """All of them once the plan is complete; the time left is at the rate so far."""
    summary, shown = Summary(), Shown()
    for number in range(4):
        summary.plan(Action(Verb.COPY, str(number), 1_000_000, ""))
    summary.plan_complete = True
    summary.carried(1_000_000)
    summary.copied()
    meter(summary, shown, [2.0])()
    text, _ = shown.said[0]
    assert text == "Uploading… 1 of 4 files, 1.0 MB of 4.0 MB, 500.0 kB/s, 6.0 s left (25%)"


def test_progress_claims_no_total_before_the_plan_is_complete() -> None:
    """A plus says that more is coming, and nothing is said of the time left."""
    summary, shown = Summary(), Shown()
    summary.plan(Action(Verb.COPY, "a", 10, ""))
    meter(summary, shown, [0.1])()
    text, mark = shown.said[0]
    assert text == "Uploading… 0 of 1+ files, 0 B of 10 B+ (0%)"
    assert mark == "planning"


def test_empty_files_are_progress_too() -> None:
    """Where there are no bytes the files are counted."""
    summary, shown = Summary(plan_complete=True), Shown()
    for number in range(2):
        summary.plan(Action(Verb.COPY, str(number), 0, ""))
    summary.copied()
    meter(summary, shown, [0.1])()
    assert shown.said[0][0].endswith("(50%)")


def test_failures_are_named_and_all_of_them_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """People see the first twenty, programs all; what was not deleted is said."""
    summary = Summary(files=1, spared=3)
    for number in range(25):
        summary.fail(Verb.COPY, f"f{number}", AccessDenied("no"))
    with pytest.raises(ObjectsFailed, match="25 of 26 files") as caught:
        show_result(summary, 1.0, Output(), {"operation": "upload"})
    assert caught.value.exit_code == 1
    assert len(caught.value.details["failures"]) == 25
    assert caught.value.details["failures"][0]["code"] == "access_denied"
    assert "3 files would have been deleted" in caught.value.hint
    assert capsys.readouterr().err.count("failed: ") == 20


def test_a_name_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An escape sequence in a key is escaped, in a plan as in a failure."""
    show_plan([Action(Verb.COPY, "\x1b[2J", 1, "new")], Summary(), Output(), {})
    summary = Summary()
    summary.fail(Verb.COPY, "\x1b[2J", AccessDenied("\x1b[2J"))
    with pytest.raises(ObjectsFailed):
        show_result(summary, 1.0, Output(), {})
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "\\x1b[2J" in captured.out


def test_the_plan_as_json_has_every_action_also_what_is_skipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One document with counts and reasons."""
    actions = [Action(Verb.COPY, "a", 3, "new"), Action(Verb.SKIP, "b", 1, "same")]
    show_plan(actions, Summary(), Output(json=True), {"operation": "upload"})
    answer = json.loads(capsys.readouterr().out)
    assert answer["counts"] == {"copy": 1, "skip": 1}
    assert (answer["bytes"], answer["operation"]) == (3, "upload")
    assert [each["why"] for each in answer["actions"]] == ["new", "same"]


def test_a_plan_names_what_is_left_out_kept_and_not_understood(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """People see the lines, programs the lists; what would not be deleted is counted."""
    summary = Summary(spared=2)
    summary.leave_out("d", "a symbolic link")
    summary.warn("--exclude 'x'", "it fits nothing")
    actions = [Action(Verb.KEEP, "d/x", 1, "d is a symbolic link")]
    show_plan(actions, summary, Output(), {})
    captured = capsys.readouterr()
    assert "keep    d/x  (d is a symbolic link)" in captured.out
    assert "keep 1" in captured.out
    assert "left out: d: a symbolic link" in captured.err
    assert "warning: --exclude 'x': it fits nothing" in captured.err
    assert "2 files would have been deleted" in captured.err
    show_plan(actions, summary, Output(json=True), {})
    answer = json.loads(capsys.readouterr().out)
    assert answer["left_out"] == [{"path": "d", "why": "a symbolic link"}]
    assert answer["warnings"] == [{"path": "--exclude 'x'", "why": "it fits nothing"}]


@pytest.mark.parametrize("planned", [True, False])
def test_a_pattern_that_fits_nothing_is_said_to_be_why_nothing_is_deleted(planned: bool) -> None:
    """Not a file that failed; the remedy is with it."""
    summary = Summary(files=3, spared=2)
    summary.fail(Verb.DELETE, "--exclude 'x'", PatternUnmatched("It fits nothing."))
    with pytest.raises(ObjectsFailed, match="a pattern fits nothing") as caught:
        show_plan([], summary, Output(), {}) if planned else show_result(summary, 1.0, Output(), {})
    assert "2 files would have been deleted" in caught.value.hint
    assert "Correct the pattern" in caught.value.hint


def test_what_was_kept_is_in_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """Or nobody would know why the two sides are not alike."""
    show_result(Summary(kept=3), 1.0, Output(), {})
    assert "3 not deleted, because the source was left out there" in capsys.readouterr().out


def test_a_listing_names_patterns_that_fit_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As every other verb does."""

    meant = Selection(include=("a", "b"))
    show_listing([Page([Listed("a", 1, 0.0, "")], [])], Location("bucket"), meant, Output())
    captured = capsys.readouterr()
    assert "1 object, 1 B." in captured.out
    assert captured.err == "warning: --include 'b': it fits nothing\n"


def test_progress_of_a_single_file_has_only_bytes() -> None:
    """All of them may be there a moment before the file is: nobody reads "0 of 1" at 100 %."""
    summary, shown = Summary(plan_complete=True), Shown()
    summary.plan(Action(Verb.COPY, "a", 12, ""))
    summary.carried(12)
    meter(summary, shown, [0.1])()
    assert shown.said[0][0] == "Uploading… 12 B of 12 B (100%)"
