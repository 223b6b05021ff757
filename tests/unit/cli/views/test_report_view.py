"""Reports as people read them: functions of the report's values."""

from __future__ import annotations

import copy
import io
from contextlib import redirect_stdout
from typing import Any

import pytest

from codeferry_cli.terminal.output import Output
from codeferry_cli.views import report_view

DIGEST = "ab" * 32


def outcome(number: int, **changes: Any) -> Any:
    return {
        "instance_id": f"i-{number:017x}",
        "name": f"web-{number}",
        "status": "succeeded",
        "ssm_status": "Success",
        "command_id": "c",
        "change": "applied",
        "release_id": DIGEST[:20],
        "digest": DIGEST,
        "files": 12,
        "bytes": 100,
        "previous": "",
        "manifest": True,
        "warnings": [],
        "unmet": [],
        "seconds": {"download": 0.5, "extract": 1.0},
        "error": None,
    } | changes


def failed(number: int, message: str) -> Any:
    error = {"code": "disk_full", "message": message, "hint": "Free some."}
    return outcome(number, status="failed", release_id="", files=0, seconds={}, error=error)


def report(outcomes: list[Any], **changes: Any) -> Any:
    good = sum(o["status"] == "succeeded" for o in outcomes)
    return {
        "run_id": "r",
        "workflow": "sync",
        "status": "SUCCEEDED" if good == len(outcomes) else "FAILED",
        "counts": {"total": len(outcomes), "succeeded": good, "failed": 0, "skipped": 0},
        "instances": outcomes,
        "warnings": [],
        "error": None,
        "verification": {
            "source": "manifest",
            "release_id": DIGEST[:20],
            "digest": DIGEST,
            "files": 12,
            "bytes": 100,
            "verified": good,
            "mismatched": [],
            "python_files": [],
            "python_file_count": 0,
            "warnings": [],
        },
    } | changes


def shown(document: Any, output: Output | None = None, *, everybody: bool = False) -> str:
    with redirect_stdout(io.StringIO()) as out:
        report_view.show_report(document, output or Output(), everybody=everybody)
    return out.getvalue()


def test_those_that_failed_come_last() -> None:
    """What needs a person is where a long table ends: still on the screen."""
    table = report_view.rows([outcome(1), failed(2, "full"), outcome(3)])
    assert [row[0][0] for row in table] == ["✓", "✓", "✗"]
    text = shown(report([failed(1, "No space."), outcome(2, warnings=["slow disk"])]))
    last = f"1/2 instances are known to have release {DIGEST[:20]}, 1 did not say"
    assert text.splitlines()[-2:] == ["  Free some.", last]


def test_a_roll_out_says_of_each_instance_its_wave_and_what_it_has_now() -> None:
    """Who was ill, who only went back with it, and who was left alone; in few words."""
    ill = {"code": "health_failed", "message": "It is ill. B is current again.", "hint": ""}
    back = {"code": "wave_returned", "message": "Its wave failed.", "hint": ""}
    unsent = {"code": "error_budget_spent", "message": "Nothing was sent.", "hint": ""}
    fate: Any = {"status": "failed", "returned": "b" * 20, "ran": None}
    found = [
        outcome(1, wave=1),
        outcome(2, wave=2, error=back, **fate),
        outcome(3, wave=2, error=ill, **fate | {"ran": {"tail": ""}}),
        outcome(4, wave=3, status="skipped", error=unsent, release_id="", files=0),
    ]
    table = [(row[0][0], row[3], row[4]) for row in report_view.rows(found)]
    assert table == [
        ("✓", "applied", DIGEST[:20]),
        ("-", "untouched", ""),
        ("↩", "returned with its wave", "b" * 20),
        ("✗", "health failed, returned", "b" * 20),
    ]
    line = report_view.outcome_line(found[2])
    assert line == "✗ wave 2: i-00000000000000003 web-3 It is ill. B is current again."


def test_one_reason_for_many_instances_is_said_once() -> None:
    """A fleet with one fault gives one line, with the number of the instances."""
    document = report([failed(number, "No space left.") for number in range(1, 1001)])
    lines = report_view.reasons(document)
    assert len(lines) == 2
    assert "and 995 more: No space left." in lines[0]
    assert lines[1] == "  Free some."


def test_different_reasons_stay_apart() -> None:
    """Each instance keeps its own reason."""
    lines = report_view.reasons(report([failed(1, "No space."), failed(2, "No python3.")]))
    assert [line for line in lines if not line.startswith(" ")] == [
        "i-00000000000000001: No space.",
        "i-00000000000000002: No python3.",
    ]


def test_of_many_instances_counts_failures_and_a_command_are_shown() -> None:
    """Two hundred lines of success drown three failures."""
    many = [outcome(number) for number in range(1, 198)]
    text = shown(report([*many, *(failed(n, "No space left.") for n in (198, 199, 200))]))
    assert "197 applied, 3 disk full\nAll 200 instances: ferry status r --all\n" in text
    assert text.count("✓ i-") == 0
    assert text.count("✗ i-") == 3
    assert text.splitlines()[-1].startswith("197/200 instances are known to have release")


def test_every_instance_is_shown_where_it_is_asked_for() -> None:
    """With --all for people, in CSV always; up to twenty anyway."""
    document = report([outcome(number) for number in range(1, 22)])
    assert shown(document, everybody=True).count("✓ i-") == 21
    assert shown(document, Output(form="csv")).count("\nsucceeded,i-") == 21
    assert shown(report(document["instances"][:20])).count("✓ i-") == 20


def test_warnings_of_run_verification_and_instances_are_all_shown() -> None:
    """The run's first, then what verification says, then what instances say themselves."""
    document = report([outcome(1, warnings=["slow disk"]), outcome(2, warnings=["slow disk"])])
    document["warnings"] = ["not deleted"]
    document["verification"]["warnings"] = ["i-1: models/big.bin does not exist."]
    assert report_view.warnings(document) == [
        "Warning: not deleted",
        "Warning: i-1: models/big.bin does not exist.",
        "Warning: i-00000000000000001, i-00000000000000002: slow disk",
    ]


def test_an_unmet_expectation_is_said_once() -> None:
    """By the verification; by the instance when the run never came to verify."""
    verified = report([outcome(1, unmet=["models/big.bin"])])
    verified["verification"]["warnings"] = ["i-1: models/big.bin does not exist."]
    assert len(report_view.warnings(verified)) == 1
    broken = report([outcome(1, unmet=["models/big.bin"])], verification=None)
    assert report_view.warnings(broken) == [
        "Warning: i-00000000000000001: models/big.bin does not exist."
    ]


def test_a_fleets_warnings_are_cut_with_a_word_about_the_rest() -> None:
    """Ten thousand warnings are for --json."""
    lines = report_view.warnings(report([outcome(1)], warnings=[f"w{n}" for n in range(1000)]))
    assert len(lines) == 51
    assert lines[-1] == "… and 950 more warnings"


def test_a_foreign_archive_is_verified_against_the_instances() -> None:
    """Without a manifest of ours the line says what was compared."""
    document = report([outcome(1)])
    document["verification"]["source"] = "instances"
    assert "the archive has no manifest" in report_view.verification_lines(document)[0]


def test_a_mismatch_names_the_instances() -> None:
    """Not the number alone: which."""
    document = report([outcome(1)])
    document["verification"]["mismatched"] = ["i-00000000000000001"]
    assert "Not what was sent: i-00000000000000001" in report_view.verification_lines(document)


def test_a_run_that_reached_nobody_says_so() -> None:
    """A failed plan has a report without instances and without a verification."""
    document = report([], status="FAILED", verification=None)
    document["error"] = {"code": "no_instances", "message": "None.", "hint": "Tag one."}
    assert report_view.summary_line(document) == "The run failed before it reached an instance."
    assert report_view.failure(document)["code"] == "no_instances"


def test_a_failed_report_without_an_error_still_has_one_to_show() -> None:
    """Some instances failed and nothing else: the count is the error."""
    document = report([outcome(1), failed(2, "x")])
    assert "1/2 instances" in report_view.failure(document)["message"]


@pytest.mark.parametrize("field", ["instance_id", "name", "release_id"])
def test_no_field_of_an_instance_reaches_the_terminal_raw(field: str) -> None:
    """Escape sequences, newlines and markup in any field are only text."""
    document = copy.deepcopy(report([outcome(1)]))
    document["instances"][0][field] = "\x1b[2J[red]x\ny"
    text = shown(document)
    assert "\x1b" not in text
    assert r"\x1b[2J[red]x\ny" in text


def test_the_price_is_told_where_it_is_known() -> None:
    """A run that got as far as a plan has a price; one that did not, or an older one, none."""
    told = shown(report([outcome(1)], cost={"usd": 0.000421}))
    assert "Costs about $0.00042 at list price" in told
    assert "Costs" not in shown(report([outcome(1)], cost=None))
    assert "Costs" not in shown(report([outcome(1)]))


def ended(number: int, message: str, tail: str, **changes: Any) -> Any:
    """An instance whose command failed."""
    ran = {
        "ending": "exited", "exit_code": 3, "signal": 0, "seconds": 1.0, "output_bytes": 5,
        "tail": tail,
    }  # fmt: skip
    return failed(number, message) | {"ran": ran} | changes


@pytest.mark.parametrize(
    "message",
    ["exit code 3", "killed by signal 9 (SIGKILL)", "timed out after 300 s", "out of memory"],
)
def test_how_a_command_ended_stands_in_the_table(message: str) -> None:
    """In words, not as a code."""
    assert message in report_view.rows([ended(1, message, "")])[0]
    assert message in report_view.outcome_line(ended(1, message, ""))


def test_the_end_of_the_output_of_failed_instances_is_shown() -> None:
    """Its last lines, indented and harmless; equal ends once; successes not at all."""
    lines = "".join(f"line {number}\n" for number in range(30))
    fine = outcome(3) | {"ran": ended(3, "", "all is well\n")["ran"]}
    found = report([ended(1, "exit code 3", lines), ended(2, "exit code 3", lines), fine])
    tails = report_view.tails(found)
    assert tails[0] == f"{outcome(1)['instance_id']}, {outcome(2)['instance_id']} printed last:"
    assert tails[1:] == [f"  line {number}" for number in range(10, 30)]
    assert "\x1b" not in shown(report([ended(1, "exit code 3", "\x1b[2J\rx")]))


def test_a_command_that_went_well_says_its_exit_code_too() -> None:
    """In the table and while the run goes on, in the words of one that failed."""
    fine = outcome(1) | {"ran": ended(1, "", "")["ran"] | {"ending": "exited", "exit_code": 0}}
    assert report_view.rows([fine])[0][3] == "exit code 0"
    assert "exit code 0" in report_view.outcome_line(fine)


def test_of_many_different_ends_only_some_are_shown() -> None:
    """The others are named with the command that shows them."""
    found = report([ended(n, "exit code 3", f"end {n}") for n in range(8)])
    assert report_view.tails(found)[-1] == "… and 3 other ends: ferry logs r"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"workflow": "script", "command": ["x"]}, "Script ran on 1/2 instances"),
        (
            {"command": ["x"]},
            "Command succeeded on 1/2 instances; "
            f"1/2 instances are known to have release {DIGEST[:20]}, 1 did not say",
        ),
        ({"command": []}, f"1/2 instances are known to have release {DIGEST[:20]}, 1 did not say"),
    ],
)
def test_the_last_line_is_about_what_was_asked(changes: dict[str, Any], line: str) -> None:
    """A script, a command, or code."""
    assert report_view.summary_line(report([outcome(1), failed(2, "x")], **changes)) == line


def test_a_failed_command_leaves_the_release() -> None:
    """All have it, so one line says both."""
    failure = {"release_id": DIGEST[:20], "seconds": {"activate": 1.0}}
    found = report([outcome(1), ended(2, "exit code 3", "") | failure], command=["x"])
    assert report_view.summary_line(found) == (
        f"Command succeeded on 1/2 instances, in release {DIGEST[:20]}"
    )


def test_a_cancelled_run_says_that_nothing_is_left_running() -> None:
    """Where every instance has said so; of another run nothing is said."""
    error = {"code": "cancelled", "message": "cancelled", "hint": ""}
    found = report([outcome(1, status="failed", error=error)], status="CANCELLED")
    assert report_view.left_lines(found) == ["Nothing of it is left running."]
    assert report_view.left_lines(report([outcome(1)])) == []
