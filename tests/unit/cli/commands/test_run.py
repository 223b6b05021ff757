"""`ferry run` against a stage: what it sends, shows and ends with."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.runs.record import RunRecord

HOSTILE = ["a b", "it's", "$x", ";id", "`id`", "", "new\nline", "--json", "--", "-h", "ü", "\\"]


def planned(ferry: Any, *arguments: str) -> Any:
    """The `--dry-run --json` answer."""
    cut = arguments.index("--")
    answer = ferry("run", *arguments[:cut], "--dry-run", "--json", *arguments[cut:])
    assert answer.exit == 0, answer.err + answer.out
    return answer.json()


def test_the_words_behind_the_dashes_are_the_command_exactly(ferry: Any, project: Path) -> None:
    """Whatever they look like, options of ours included, none is interpreted or lost."""
    found = planned(ferry, "fleet", str(project), "--", "prog", *HOSTILE)
    assert found["request"]["command"] == ["prog", *HOSTILE]


def test_without_dir_the_first_word_of_the_command_is_not_taken_for_it(
    ferry: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project is then the one here."""
    monkeypatch.chdir(project)
    found = planned(ferry, "fleet", "--", "pkg", "x")
    assert (found["project"], found["request"]["command"]) == ("demo", ["pkg", "x"])


@pytest.mark.parametrize(
    "arguments", [(), ("--",), ("--", ""), ("--", "", "x"), ("python", "train.py")]
)
def test_no_command_is_a_usage_error_with_an_example(
    ferry: Any, world: Any, project: Path, arguments: tuple[str, ...]
) -> None:
    """Exit 2, how it is typed, and nothing uploaded."""
    before = world.objects("archives/")
    answer = ferry("run", "fleet", str(project), *arguments)
    assert answer.exit == 2
    assert "ferry run TARGET -- python3 train.py" in answer.err
    assert world.objects("archives/") == before


@pytest.mark.parametrize("word", [b"\xff.py".decode("utf-8", "surrogateescape"), "nul\0"])
def test_what_a_request_cannot_hold_is_refused_by_its_number(
    ferry: Any, project: Path, word: str
) -> None:
    """Bytes that are not UTF-8 and NUL never become something else on the way."""
    answer = ferry("run", "fleet", str(project), "--", "prog", word)
    assert answer.exit == 2
    assert "Word 2 behind --" in answer.err


def test_bytes_of_a_real_command_line_are_refused_too(ferry_command: str, project: Path) -> None:
    """The console script sees them as the system hands them over."""
    done = subprocess.run(
        [ferry_command, "run", "fleet", str(project), "--", "prog", b"\xff"], capture_output=True
    )
    assert done.returncode == 2
    assert b"Word 2 behind --" in done.stderr


def test_a_run_that_goes_well_shows_what_its_command_prints(
    ferry: Any, world: Any, project: Path
) -> None:
    """Each line with its instance, our own lines hidden, escapes harmless; exit 0."""
    answer = ferry("run", "fleet", str(project), "--", "python", "train.py")
    assert answer.exit == 0, answer.err
    for number in (1, 2, 3):
        assert f"i-{number:017x} | running python train.py\n" in answer.err
    assert "| done\n" in answer.err
    assert "codeferry_result" not in answer.err
    assert re.search(r"^run +\d+\.\d s$", answer.err, re.MULTILINE)
    assert "apply" not in answer.err
    last = answer.out.rstrip().splitlines()[-1]
    assert last == "Command succeeded on 3/3 instances, in release dddddddddddddddddddd"


def test_a_command_that_fails_on_one_instance_is_exit_1_with_its_tail(
    ferry: Any, world: Any, project: Path
) -> None:
    """The exit code in the table, the end of what it printed below, the count last."""
    answer = ferry("run", "partial", str(project), "--", "./train.sh")
    assert answer.exit == 1
    assert re.search(r"^✗ i-0+3 +web-3 +exit code 3 ", answer.out, re.MULTILINE)
    assert "i-00000000000000003: exit code 3\n" in answer.out
    assert "i-00000000000000003 printed last:\n  Traceback\n    bad" in answer.out
    assert "Command succeeded on 2/3 instances" in answer.out


@pytest.mark.parametrize("raw", [True, False])
def test_what_one_instance_prints_or_is_asked_for_raw_is_all_of_stdout(
    ferry: Any, world: Any, project: Path, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    """As it can be piped on; the report is talk then."""
    if not raw:
        monkeypatch.setattr(RunRecord, "planned_instances", lambda _: 1)
    words = ("--output", "raw") if raw else ()
    answer = ferry("run", "fleet", str(project), *words, "--", "prog")
    assert answer.exit == 0
    assert sorted(answer.out.splitlines()) == ["done"] * 3 + ["running prog"] * 3
    assert "Command succeeded on" in answer.err
    assert "running prog" not in answer.err


def test_the_table_of_one_instance_is_on_stdout_where_it_is_asked_for(
    ferry: Any, world: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--output table says that the report is what is wanted."""
    monkeypatch.setattr(RunRecord, "planned_instances", lambda _: 1)
    answer = ferry("run", "fleet", str(project), "--output", "table", "--", "prog")
    assert "Command succeeded on" in answer.out
    assert "running prog" not in answer.out


def test_no_output_shows_nothing_of_it(ferry: Any, world: Any, project: Path) -> None:
    """The run is followed as a push is."""
    answer = ferry("run", "fleet", str(project), "--no-output", "--", "prog")
    assert answer.exit == 0
    assert "running prog" not in answer.err + answer.out


def test_json_is_one_document_without_any_output(ferry: Any, world: Any, project: Path) -> None:
    """Programs get the report, in which the ends of the output are."""
    answer = ferry("run", "partial", str(project), "--json", "--", "prog")
    assert answer.exit == 1
    assert answer.json()["report"]["command"] == ["prog"]
    assert "running prog" not in answer.err


def test_output_of_too_many_instances_is_named_instead_of_shown(
    ferry: Any, world: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so once, with the command that shows it; --show-output shows it all the same."""
    monkeypatch.setattr("codeferry_cli.views.live_output.MOST_ROWS", 2)
    answer = ferry("run", "fleet", str(project), "--", "prog")
    assert answer.err.count("The output of 3 instances is not shown. See it: ferry logs ") == 1
    assert "running prog" not in answer.err
    asked = ferry("run", "fleet", str(project), "--show-output", "--", "prog")
    assert asked.err.count("| running prog") == 3


def test_output_that_cannot_be_read_does_not_end_the_run(
    ferry: Any, world: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not read logs is told so once and sees how the run goes."""
    from botocore.exceptions import ClientError

    from codeferry_cli.runs.logs import LogTail

    def denied(_: LogTail) -> None:
        answer = {"Error": {"Code": "AccessDeniedException", "Message": "no logs for you"}}
        raise ClientError(answer, "FilterLogEvents")

    for look in ("fresh", "rest"):  # the last when the run has ended by then
        monkeypatch.setattr(LogTail, look, denied)
    answer = ferry("run", "fleet", str(project), "--", "prog")
    assert answer.exit == 0
    assert answer.err.count("no logs for you") == 1


def test_the_request_says_what_was_asked(ferry: Any, world: Any, project: Path) -> None:
    """Command and options, and nothing that was not."""
    answer = ferry(
        "run", "fleet", str(project), "--install", "--timeout", "2m", "--user", "app",
        "--strict", "--json", "--", "python3", "-u", "pkg/model.py", "--epochs", "10",
    )  # fmt: skip
    sent = world.request_of(answer.json()["run_id"])
    assert sent["command"] == ["python3", "-u", "pkg/model.py", "--epochs", "10"]
    assert "expect" not in sent  # the entry script: what plan expects by itself
    assert sent["options"] == {
        "install": True, "timeout_seconds": 120, "user": "app", "strict": True,
    }  # fmt: skip
    assert "environment" not in sent


def test_an_expectation_may_be_stated(ferry: Any, project: Path) -> None:
    """Then it is the only one."""
    found = planned(
        ferry, "fleet", str(project), "--expect-file", "train.py", "--", "python", "pkg/model.py"
    )
    assert found["request"]["expect"] == {"files": ["train.py"]}


def test_what_the_run_needs_and_is_not_packed_is_named_first(ferry: Any, project: Path) -> None:
    """Its script and what it expects, where they lie here and an ignore file keeps them here."""
    (project / ".gitignore").write_text("train.py\n/pkg/\n")
    wanted = ["--expect-file", "pkg/model.py", "--expect-file", "requirements.txt"]
    command = ["--dry-run", "--", "python", "train.py"]
    said = ferry("run", "fleet", str(project), *wanted, *command).err
    assert re.findall(r"Warning: (\S+) has to be there", said) == ["pkg/model.py", "train.py"]
    brought = ["--include-pattern", "train.py", "--include-pattern", "pkg"]
    assert "has to be" not in ferry("run", "fleet", str(project), *brought, *wanted, *command).err


def test_install_may_come_from_the_configuration(ferry: Any, project: Path) -> None:
    """A project that always needs it says so once."""
    (project / "codeferry.toml").write_text("install = true\n")
    found = planned(ferry, "fleet", str(project), "--", "prog")
    assert found["request"]["options"] == {"install": True}


def test_variables_go_up_as_an_object_of_their_own(
    ferry: Any, world: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request has key and version; the values are in the object and nowhere else."""
    monkeypatch.setenv("OWN_TOKEN", "hunter2-own")
    answer = ferry(
        "run", "fleet", str(project), "--env", "TOKEN=hunter2=x", "--env", "OWN_TOKEN", "-vv",
        "--json", "--", "prog",
    )  # fmt: skip
    run_id = answer.json()["run_id"]
    sent = world.request_of(run_id)
    assert sent["environment"]["key"] == f"environments/{run_id}.env.json"
    found = world.client("s3").get_object(
        Bucket=world.bucket, Key=sent["environment"]["key"],
        VersionId=sent["environment"]["version_id"], ChecksumMode="ENABLED",
    )  # fmt: skip
    assert json.loads(found["Body"].read()) == {"TOKEN": "hunter2=x", "OWN_TOKEN": "hunter2-own"}
    assert found["ChecksumSHA256"]
    assert "hunter2" not in answer.out + answer.err + json.dumps(sent)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_dry_run_names_variables_without_their_values(
    ferry: Any, project: Path, form: tuple[str, ...]
) -> None:
    """And uploads nothing: there is no stage to upload to."""
    answer = ferry(
        "run", "fleet", str(project), "--dry-run", "--env", "TOKEN=hunter2", *form, "--", "prog"
    )
    assert answer.exit == 0, answer.err
    assert "TOKEN" in answer.out
    assert ".env.json" in answer.out
    assert "hunter2" not in answer.out + answer.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1A=hunter2", "--env number 1 does not begin with the name"),
        ("hunter2-x", "--env number 1 does not begin with the name"),
        ("=hunter2", "--env number 1 does not begin with the name"),
        ("A B=hunter2", "--env number 1 does not begin with the name"),
        ("MISSING", "--env MISSING: you have no variable of that name"),
        ("A=hunter2\udcff", "The value of --env A is not UTF-8"),
        ("A=" + "hunter2" * 40_000, "more than 256 KiB"),
    ],
)
@pytest.mark.parametrize("command", [("run", "fleet"), ("script", "fleet")])
def test_what_is_no_variable_is_refused_without_its_value(
    ferry: Any, world: Any, project: Path, text: str, said: str, command: tuple[str, ...]
) -> None:
    """Exit 2, which one it is, nothing uploaded."""
    before = world.objects("")
    answer = ferry(*command, str(project), "--env", text, "--", "prog")
    assert (answer.exit, said in answer.err) == (2, True), answer.err
    assert "hunter2" not in answer.out + answer.err
    assert world.objects("") == before


@pytest.mark.parametrize("how", ["refused", "interrupted"])
def test_variables_of_a_run_that_does_not_start_are_removed(
    ferry: Any, world: Any, project: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whatever stops the start, no version of the object stays; the error is the start's own."""

    def fail(*_: Any) -> None:
        assert world.objects("environments/") - before, "the variables are there before the run is"
        raise KeyboardInterrupt if how == "interrupted" else OSError("no start today")

    before = world.objects("environments/")
    monkeypatch.setattr("codeferry_cli.commands.start.start_execution", fail)
    answer = ferry("run", "fleet", str(project), "--env", "TOKEN=hunter2", "--", "prog")
    assert answer.exit == (130 if how == "interrupted" else 1)
    found = world.client("s3").list_object_versions(Bucket=world.bucket, Prefix="environments/")
    kept = {v["Key"] for kind in ("Versions", "DeleteMarkers") for v in found.get(kind, ())}
    assert not kept - before
    assert "hunter2" not in answer.out + answer.err
