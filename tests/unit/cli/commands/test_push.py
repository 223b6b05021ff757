"""`ferry push` and `ferry upload` against a stage: what they print, send and exit with."""

from __future__ import annotations

import hashlib
import io
import re
import signal
import subprocess
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest
from botocore.exceptions import ClientError

from codeferry_cli.aws.session import Access
from codeferry_cli.aws.stage import find_stage
from codeferry_cli.commands import ferry as ferry_group
from codeferry_cli.commands.start import _price_line
from codeferry_cli.errors import Interrupted, RunNotStarted
from codeferry_cli.options.groups import Packing
from codeferry_cli.packing.project import prepare
from codeferry_cli.runs import reach
from codeferry_cli.runs.find import started_by
from codeferry_cli.runs.start import await_execution, price
from codeferry_cli.terminal.progress import PlainProgress
from codeferry_cli.views.run_view import upload_archive
from codeferry_contracts.formatting import FLAGS
from codeferry_contracts.request import SCHEMA


def run_id_in(text: str) -> str:
    found = re.search(r"^Run (\S+)$", text, re.MULTILINE)
    assert found, text
    return found.group(1)


def test_a_push_that_goes_well_exits_0_and_says_who_has_the_release(
    ferry: Any, world: Any, project: Path
) -> None:
    """Every step is told on stderr, the table and the verification on stdout."""
    answer = ferry("push", "fleet", str(project))
    assert answer.exit == 0, answer.err
    assert "Packing 3 files (318 B)…" in answer.err
    assert "Uploading… 100 %" in answer.err
    assert re.search(r"^Archive \d+ B, release [0-9a-f]{20}$", answer.err, re.MULTILINE)
    for phase in ("plan", "dispatch", "apply", "verify", "cleanup", "report"):
        assert re.search(rf"^{phase} +\d+\.\d s$", answer.err, re.MULTILINE)
    assert answer.err.count("✓ i-") == 3
    assert "Warning: The archive could not be deleted." in answer.out
    assert "Verified: 12 files, digest dddddddddddd on 3/3 instances" in answer.out
    assert answer.out.rstrip().endswith("3/3 instances have release dddddddddddddddddddd")


def test_the_archive_and_the_request_are_what_was_asked_for(
    ferry: Any, world: Any, project: Path
) -> None:
    """The object is a tar.gz of the project; the execution's input pins it by content."""
    answer = ferry("push", "fleet", str(project), "--strict", "--expect-file", "train.py", "--json")
    document = answer.json()
    body = world.client("s3").get_object(Bucket=world.bucket, Key=document["key"])["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert {"train.py", "pkg/model.py", "requirements.txt"} <= set(tar.getnames())
    sent = world.request_of(document["run_id"])
    assert sent == {
        "archive": {
            "key": f"archives/{document['run_id']}.tar.gz",
            "sha256": hashlib.sha256(body).hexdigest(),
            "version_id": document["version_id"],
        },
        "project": "demo",
        "target": "fleet",
        "started_by": asdict(started_by(project)),
        "expect": {"files": ["train.py"]},
        "options": {"strict": True},
    }
    assert document["archive_sha256"] == sent["archive"]["sha256"]


def test_json_is_one_document_on_success(ferry: Any, world: Any, project: Path) -> None:
    """The answer has run, archive, phases and the whole report."""
    answer = ferry("push", "fleet", str(project), "--json")
    document = answer.json()
    assert (answer.exit, document["success"]) == (0, True)
    assert document["report"]["counts"]["succeeded"] == 3
    assert document["phases"][0]["phase"] == "plan"


def test_some_instances_failing_is_exit_1_with_their_reasons(
    ferry: Any, world: Any, project: Path
) -> None:
    """The failed instance comes first, its reason with the remedy, then who has it."""
    answer = ferry("push", "partial", str(project))
    assert answer.exit == 1
    assert re.search(r"^✗ i-00000000000000003 +web-3 +disk full", answer.out, re.MULTILINE)
    assert "  Free some space under /opt." in answer.out
    assert "2/3 instances have release" in answer.out
    assert "Error: 2/3 instances have the release." in answer.err


def test_what_an_instance_says_cannot_move_the_terminal(
    ferry: Any, world: Any, project: Path
) -> None:
    """Escape sequences and markup in an instance's error are shown, not obeyed."""
    answer = ferry("push", "partial", str(project))
    for text in (answer.out, answer.err):
        assert "\x1b" not in text
        assert r"No space \x1b[31mleft\x1b[0m on the [bold]device[/bold]." in text


def test_json_of_a_failed_run_has_error_and_report(ferry: Any, world: Any, project: Path) -> None:
    """A program finds the same error shape as everywhere, and every instance."""
    answer = ferry("push", "partial", str(project), "--json")
    document = answer.json()
    assert (answer.exit, document["success"]) == (1, False)
    assert document["error"]["code"] == "instances_failed"
    assert [i["status"] for i in document["report"]["instances"]].count("failed") == 1


def test_a_run_without_a_report_says_why_it_died(ferry: Any, world: Any, project: Path) -> None:
    """The execution's own error and the message out of its cause are shown."""
    answer = ferry("push", "dies", str(project))
    assert answer.exit == 1
    assert "without a report (Lambda.Unknown: plan broke)" in answer.err


def test_no_wait_returns_at_once_with_the_run(ferry: Any, world: Any, project: Path) -> None:
    """The run goes on and the answer names it."""
    answer = ferry("push", "slow", str(project), "--no-wait", "--json")
    assert answer.exit == 0
    run_id = answer.json()["run_id"]
    assert ferry("status", run_id, "--json").json()["status"] == "running"
    ferry("cancel", run_id, "--no-wait")


def test_wait_timeout_stops_the_waiting_and_not_the_run(
    ferry: Any, world: Any, project: Path
) -> None:
    """Exit 5, the commands to look again and to stop it, and a run that still runs."""
    answer = ferry("push", "slow", str(project), "--wait-timeout", "1s")
    run_id = run_id_in(answer.err)
    assert answer.exit == 5
    assert f"ferry cancel {run_id} --stage local" in answer.err
    assert ferry("status", run_id, "--json").json()["status"] == "running"
    ferry("cancel", run_id, "--no-wait")


NOT_REACHED = "  not i-00000000000000002, which is stopped. Start it: aws ec2 start"


@pytest.mark.parametrize("command", ["push", "upload", "run", "script", "rollback"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_target_without_instances_is_found_before_anything_is_packed(
    ferry: Any, world: Any, project: Path, command: str, dry: list[str]
) -> None:
    """Exit 1 with why and what there is; nothing lies in the bucket, no run was started."""
    script = project / "x.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    what = script if command == "script" else project
    behind = ["--", "true"] if command == "run" else []
    before = (world.objects("archives/"), world.objects("inbox/"))
    answer = ferry(command, "nobody", str(what), *dry, *behind)
    assert answer.exit == 4
    assert answer.err.endswith("Error: No instance matches.\n  Known: fleet\n")
    assert "Packing" not in answer.err
    assert (world.objects("archives/"), world.objects("inbox/")) == before
    answer = ferry(command, "unreachable", str(what), "--json", *dry, *behind)
    assert answer.json()["error"]["hint"] == "Start it: aws ec2 start"
    (obstacle,) = answer.json()["instances"]["unreachable"]
    assert obstacle["instance_id"] == "i-00000000000000002"


def test_a_push_says_whom_it_reaches_and_whom_not(ferry: Any, world: Any, project: Path) -> None:
    """Before it packs; a dry run names each of them."""
    err = ferry("push", "fleet", str(project)).err
    assert err.index("Target fleet reaches 1 instance of 2\n" + NOT_REACHED) < err.index("Packing")
    answer = ferry("push", "fleet", str(project), "--dry-run")
    assert "reaches 1 instance of 2\n  i-00000000000000001 web-1\n" + NOT_REACHED in answer.out
    found = ferry("push", "fleet", str(project), "--dry-run", "--json").json()["instances"]
    assert found["reachable"] == [{"instance_id": "i-00000000000000001", "name": "web-1"}]


def test_a_stage_of_an_older_version_is_not_told_who_asks(
    ferry: Any, world: Any, project: Path
) -> None:
    """Its plan refuses what it does not know."""
    run_id = ferry("push", "old", str(project), "--json").json()["run_id"]
    assert "started_by" not in world.request_of(run_id)


def test_whoever_may_not_ask_is_not_kept_from_pushing(
    ferry: Any, world: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy of an earlier version does not let them; it is said."""
    said = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}

    def refuse(*_: Any) -> Any:
        raise ClientError(said, "Invoke")

    monkeypatch.setattr(reach, "ask_check_function", refuse)
    answer = ferry("push", "fleet", str(project))
    assert answer.exit == 0
    assert "Not asked which instances fleet reaches: AWS denied Invoke: no" in answer.err


@pytest.mark.parametrize(
    ("sent", "code", "options", "status", "says"),
    [
        (signal.SIGINT, 130, [], "running", "goes on"),
        (signal.SIGTERM, 143, [], "running", "goes on"),
        (signal.SIGTERM, 143, ["--cancel-on-exit"], "cancelled", "is cancelled"),
    ],
)
def test_a_signal_says_what_becomes_of_the_run(
    ferry: Any,
    ferry_command: str,
    world: Any,
    project: Path,
    sent: signal.Signals,
    code: int,
    options: list[str],
    status: str,
    says: str,
) -> None:
    """CI's cancel as well as Ctrl-C: which run, how to look and how to stop it; with the option
    it is stopped."""
    words = [ferry_command, "push", "slow", str(project), *options]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as p:
        assert p.stderr is not None
        told = ""
        while "Run " not in told:
            line = p.stderr.readline()
            assert line, told
            told += line if line.startswith("Run ") else ""
        run_id = run_id_in(told)
        world.await_state(run_id, "AwaitLong")
        p.send_signal(sent)
        err = p.stderr.read()
        assert p.wait(60) == code, err
    assert f"Error: Stopped watching. The run {run_id} {says}.\n" in err
    assert f"ferry status {run_id} --stage local" in err
    assert (f"ferry cancel {run_id} --stage local" in err) == (status == "running")
    assert ferry("status", run_id, "--json").json()["status"] == status
    ferry("cancel", run_id, "--no-wait")


def test_a_run_may_end_with_the_patience_for_it(ferry: Any, world: Any, project: Path) -> None:
    """--cancel-on-exit with --wait-timeout: as a bound of the run."""
    answer = ferry("push", "slow", str(project), "--wait-timeout", "1s", "--cancel-on-exit")
    run_id = run_id_in(answer.err)
    assert answer.exit == 1
    assert "; it is cancelled." in answer.err
    assert ferry("status", run_id, "--json").json()["status"] == "cancelled"


def test_dry_run_says_what_would_be_packed_and_calls_nothing(ferry: Any, project: Path) -> None:
    """Without any credentials: the numbers, the largest files and the request."""
    answer = ferry("push", "tag:Role=web", str(project), "--dry-run")
    assert answer.exit == 0, answer.err
    assert "Would pack 3 files, 318 B, of demo" in answer.out
    assert "300 B  pkg/model.py" in answer.out
    assert '"target": "tag:Role=web"' in answer.out


def test_dry_run_says_the_price_before(ferry: Any, project: Path) -> None:
    """At list price, for the instances as far as they are known, and what NAT would add."""
    answer = ferry("push", "tag:Role=web", str(project), "--dry-run")
    assert "Price: about $0.0066 for one instance at list price\n" in answer.out
    named = ",".join(f"i-{number:017x}" for number in range(3))
    found = ferry("push", named, str(project), "--dry-run", "--json").json()["price"]
    assert found["instances"] == 3
    assert found["usd"] > 0.0066


def test_the_price_names_what_a_nat_gateway_asks() -> None:
    """It is most of it, for a large archive."""
    priced = price(100, 3_000_000_000)
    assert _price_line(priced).endswith(
        "for 100 instances at list price; through a NAT gateway $13.50 more"
    )


@pytest.mark.parametrize("target", ["i-123", "vol-1", "tag:", "asg:", ""])
@pytest.mark.parametrize("command", ["push", "upload", "doctor"])
def test_what_is_no_target_is_exit_2_and_says_what_one_looks_like(
    ferry: Any, project: Path, command: str, target: str
) -> None:
    """A typo never becomes the name of a target."""
    answer = ferry(command, target)
    assert answer.exit == 2
    assert f"Error: {target!r} is not a target." in answer.err
    assert "tag:Key=Value, asg:NAME, all" in answer.err


def test_a_missing_directory_is_named_with_exit_2(ferry: Any, world: Any) -> None:
    """Nothing is uploaded for a directory that is not there."""
    answer = ferry("push", "fleet", "./nowhere")
    assert answer.exit == 2
    assert "'./nowhere' does not exist" in answer.err


def test_an_empty_project_is_exit_4_and_nothing_is_uploaded(
    ferry: Any, world: Any, clean_environment: Path
) -> None:
    """ "No files to sync", and what was looked at."""
    (clean_environment / "empty").mkdir()
    s3 = world.client("s3")
    before = s3.list_object_versions(Bucket=world.bucket, Prefix="archives/").get("Versions", [])
    answer = ferry("push", "fleet", "empty")
    assert answer.exit == 4
    assert "No files to sync" in answer.err
    assert str(clean_environment / "empty") in answer.err
    after = s3.list_object_versions(Bucket=world.bucket, Prefix="archives/").get("Versions", [])
    assert len(after) == len(before)


def test_options_that_cannot_be_are_all_named_before_anything_happens(
    ferry: Any, project: Path
) -> None:
    """Every bad value at once, exit 2, without credentials."""
    answer = ferry("push", "fleet", str(project), "--max-errors", "many", "--user", "A B")
    assert answer.exit == 2
    assert "--max-errors (options.max_errors) 'many'" in answer.err
    assert "--user (options.user) 'A B'" in answer.err


def test_every_field_of_a_request_has_the_flag_that_sets_it() -> None:
    """What messages call them; `options.…` is not what anybody types."""
    run = click.Context(ferry_group).command.get_command(click.Context(ferry_group), "run")  # type: ignore[attr-defined]
    flags = {opt for parameter in run.params for opt in parameter.opts}
    assert set(FLAGS.values()) <= flags
    options = SCHEMA["properties"]["options"]["properties"]
    rollout = options["rollout"]["properties"]
    fields = {f"options.{name}" for name in options if name != "rollout"}
    fields |= {f"options.rollout.{name}" for name in rollout}
    assert fields <= FLAGS.keys()


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (["--expect-file", "nope.py", "--expect-file", "train.py"], "nope.py"),
        (["--expect-file", "pkg"], "pkg"),
        (["--expect-dir", "train.py", "--expect-dir", "pkg/"], "train.py"),
        (["--expect-dir", "pkg", "--expect-dir", "output"], ""),
        (["--expect-file", "latest/x.py"], ""),
    ],
)
def test_strict_is_checked_before_the_upload(
    ferry: Any, world: Any, project: Path, options: list[str], missing: str
) -> None:
    """The missing path is named; what a link leads to is left to the instance."""
    (project / "latest").symlink_to("pkg")
    before = world.objects("archives/")
    answer = ferry("push", "fleet", str(project), "--strict", *options)
    assert answer.exit == (4 if missing else 0), answer.err
    assert (world.objects("archives/") == before) == bool(missing)
    expected = f"Error: Not among what is packed, and expected: {missing}.\n"
    assert (expected in answer.err) == bool(missing)


def test_strict_without_the_commands_script_is_seen_before_the_upload(
    ferry: Any, project: Path
) -> None:
    """What a run expects when it does not say; without --strict it goes on."""
    words = ["fleet", str(project), "--dry-run"]
    answer = ferry("run", *words, "--strict", "--", "python", "tain.py")
    assert (answer.exit, "expected: tain.py" in answer.err) == (4, True)
    assert ferry("run", *words, "--", "python", "tain.py").exit == 0


def test_secrets_are_refused_by_name_before_anything_lies_in_the_bucket(
    ferry: Any, world: Any, project: Path
) -> None:
    """A .env among the files stops the push and leaves no object."""
    (project / ".env").write_text("AWS_SECRET=hunter2\n")
    answer = ferry("push", "fleet", str(project), "--json")
    assert answer.exit == 4
    assert answer.json()["error"]["code"] == "secrets_found"
    assert ".env" in answer.json()["error"]["message"]
    assert "hunter2" not in answer.out + answer.err
    listed = world.client("s3").list_multipart_uploads(Bucket=world.bucket)
    assert not listed.get("Uploads")


def test_verbose_says_what_was_left_out_and_the_largest_files(ferry: Any, project: Path) -> None:
    """-v is for the question why a file is or is not there."""
    (project / ".ferryignore").write_text("pkg/\n")
    answer = ferry("push", "fleet", str(project), "--dry-run", "-v")
    assert "Largest:" in answer.err
    assert "pkg/model.py is excluded by .ferryignore" in answer.err


def test_an_upload_starts_its_run_and_is_followed(
    ferry: Any, world: Any, inbox: None, project: Path
) -> None:
    """The run id is known from the upload, and its end is the command's."""
    answer = ferry("upload", "fleet", str(project), "--json")
    document = answer.json()
    assert answer.exit == 0, answer.err
    assert re.fullmatch(r"inbox/fleet/demo-[\w-]+\.tar\.gz", document["key"])
    assert document["run_id"].startswith("inbox-demo-")
    assert document["report"]["run_id"] == document["run_id"]


def test_an_upload_may_be_left_alone(ferry: Any, world: Any, project: Path) -> None:
    """--no-wait does not even wait for the run to appear."""
    answer = ferry("upload", "fleet", str(project), "--no-wait")
    assert answer.exit == 0
    assert re.search(r"The run inbox-demo-\S+ goes on", answer.out)


def test_an_upload_that_starts_nothing_says_so(world: Any) -> None:
    """Waiting for the run is bounded, and ends with what to look at."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    stage = find_stage(upload_aws())
    with pytest.raises(RunNotStarted, match="within 60 s no run inbox-x") as caught:
        await_execution(stage, "inbox-x", sleep=sleep, clock=lambda: now[0])
    assert "ferry doctor --stage local" in caught.value.hint
    assert now[0] >= 60


def test_ctrl_c_while_the_run_is_awaited_says_that_it_will_start(world: Any) -> None:
    """The upload cannot be taken back, and the run it starts is named."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="starts the run inbox-x") as caught:
        await_execution(find_stage(upload_aws()), "inbox-x", sleep=interrupt)
    assert "ferry status inbox-x --stage local" in caught.value.hint


def upload_aws() -> Any:
    from codeferry_cli.aws.session import Aws

    return Aws(Access(stage="local"))


def test_ctrl_c_during_the_upload_says_that_nothing_was_started(world: Any, project: Path) -> None:
    """The interrupt passes through the upload, which leaves nothing behind."""

    class Interrupting(PlainProgress):
        def now(self, text: str, mark: object) -> None:
            raise KeyboardInterrupt

    stage = find_stage(upload_aws())
    prepared = prepare(project, Packing())
    with pytest.raises(Interrupted, match="no run was started"):
        upload_archive(stage, prepared, "archives/interrupted.tar.gz", Interrupting())
    assert not world.client("s3").list_multipart_uploads(Bucket=world.bucket).get("Uploads")
