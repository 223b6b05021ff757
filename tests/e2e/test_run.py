"""Commands and scripts on the instances, from ``ferry run`` to the report."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path

import pytest

from codeferry_contracts.layout import RunKeys
from tests.e2e.conftest import until

pytestmark = pytest.mark.e2e

ARGUMENTS = "import json, sys\njson.dump(sys.argv[1:], open('output/argv.json', 'w'))\n"
HOSTILE = ["a b", "it's", "$x", ";id", "`id`", "", "line\nbreak", "{{ payload }}", "-rf", "é\u202e"]


def kept(aws, record, project, name):
    """A file the command left in the directory that lives on."""
    return aws.root(record, project.name) / "shared" / "output" / name


def processes_of(run_id):
    """The processes on this machine that belong to the run: its id is in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
        except OSError:
            continue
        if run_id.encode() in environ:
            found.append(int(process.name))
    return found


@pytest.fixture
def one(aws):
    """One instance is enough where the fleet is not the point."""
    return aws.state.instances[0].instance_id


@pytest.fixture
def waiting(aws, project, one):
    """A run whose command has begun and goes on until it is told to stop."""
    (project / "wait.py").write_text(
        "import os, pathlib, time\n"
        "print('begun', flush=True)\n"
        "pathlib.Path('output/begun').touch()\n"
        "while not os.path.exists('output/stop'):\n    time.sleep(0.05)\n"
        "print('done', flush=True)\n"
    )
    ran = aws.ferry("run", one, project, "--no-wait", "--json", "--", "python3", "wait.py")
    assert ran.exit == 0, ran.err
    run_id = ran.json["run_id"]
    until(kept(aws, aws.state.instances[0], project, "begun").exists)
    yield run_id
    kept(aws, aws.state.instances[0], project, "stop").touch()
    until(lambda: not processes_of(run_id))


def test_arguments_arrive_byte_exact(aws, project):
    """On all instances, hostile ones and a few hundred generated ones."""
    (project / "main.py").write_text(ARGUMENTS)
    rng = random.Random(4)
    pieces = [
        *"$`'\";&|<>(){}[]*?!#~\\ \n\t=%^@:,.-_aZ0é",
        "$(id)",
        "${HOME}",
        "\\n",
        "--",
        "'\\''",
    ]
    generated = ["".join(rng.choices(pieces, k=rng.randint(0, 12))) for _ in range(400)]
    sent = [*HOSTILE, *generated]
    ran = aws.ferry("run", "demo", project, "--json", "--", "python3", "main.py", *sent)
    assert ran.exit == 0, ran.err
    for record in aws.state.instances:
        assert json.loads(kept(aws, record, project, "argv.json").read_text()) == sent
    outcome = ran.json["report"]["instances"][0]
    assert (outcome["ran"]["ending"], outcome["ran"]["exit_code"]) == ("exited", 0)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "exit code 3"),
        ("exit 137", "exit code 137"),
        ("exit 168", "exit code 168"),
        ("exit 169", "exit code 169"),
        ("exit 194", "exit code 194"),
        ("kill -9 $$", "killed by signal 9"),
        ("kill -SEGV $$", "killed by signal 11"),
    ],
)
def test_the_true_ending_is_reported(aws, project, one, script, words):
    """SSM sees 0 or 1; the report says how the command really ended, and the run failed."""
    ran = aws.ferry("run", one, project, "--json", "--", "sh", "-c", f"echo last words; {script}")
    assert ran.exit == 1
    report = ran.json["error"]["report"] if "report" in ran.json["error"] else ran.json["report"]
    (outcome,) = report["instances"]
    assert words in outcome["error"]["message"]
    assert "last words" in outcome["ran"]["tail"]
    assert report["status"] == "FAILED"
    shown = aws.ferry("status", report["run_id"])
    assert words in shown.out
    assert "last words" in shown.out


def test_a_command_that_takes_too_long(aws, project, one):
    """It is ended with all it has started, and the report says after how long."""
    hard = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 600' &); sleep 600"
    ran = aws.ferry("run", one, project, "--timeout", "2", "--json", "--", "sh", "-c", hard)
    assert ran.exit == 1
    assert "timed out after 2 s" in ran.out
    run_id = aws.ferry("runs", "--limit", "1", "--json").json["runs"][0]["run_id"]
    assert processes_of(run_id) == []


def test_a_second_run_is_refused(aws, project, one, waiting):
    """While a command runs, the project is its run's; the refusal names it."""
    ran = aws.ferry("run", one, project, "--", "true")
    assert ran.exit == 1
    assert waiting in ran.out + ran.err


def test_cancel_ends_the_command(aws, waiting):
    """No process is left, the run is cancelled, its archive is gone, and the report has what the
    instance has: the release, the end of the output, nothing running."""
    ran = aws.ferry("cancel", waiting)
    assert ran.exit == 0, ran.err
    (outcome,) = aws.report(waiting)["instances"]
    assert outcome["error"]["code"] == "cancelled"
    assert outcome["release_id"]
    assert outcome["ran"]["ending"] == "cancelled"
    assert f"1/1 instances have release {outcome['release_id']}" in ran.out or (
        f"in release {outcome['release_id']}" in ran.out
    )
    assert "Run it again" not in ran.out
    until(lambda: not processes_of(waiting))
    status = aws.ferry("status", waiting, "--json")
    assert status.json["status"] == "cancelled"
    assert not any(waiting in key for key in aws.keys("archives/"))


def test_stopping_the_execution_ends_the_command(aws, waiting):
    """As in the console, with no ferry in it."""
    machine = aws.machine.replace(":stateMachine:", ":execution:")
    aws.client("stepfunctions").stop_execution(executionArn=f"{machine}:{waiting}")
    until(lambda: not processes_of(waiting))
    report = until(lambda: reported(aws, waiting))
    assert report["status"] == "CANCELLED"


def reported(aws, run_id):
    keys = aws.keys(RunKeys(run_id).prefix)
    return aws.report(run_id) if RunKeys(run_id).report in keys else None


def test_one_of_three_fails(aws, project):
    """The other two complete; the summary says 2/3."""
    broken = aws.state.instances[1]
    marker = kept(aws, broken, project, "broken")
    marker.parent.mkdir(parents=True)
    marker.touch()
    ran = aws.ferry(
        "run", "demo", project, "--", "sh", "-c", "! test -e output/broken && touch output/done"
    )
    assert ran.exit == 1
    assert "2/3" in ran.out + ran.err
    done = [kept(aws, record, project, "done").exists() for record in aws.state.instances]
    assert done == [True, False, True]


def test_a_redelivered_command_runs_once(aws, project, one):
    """The same command again is answered from the record."""
    ran = aws.ferry("run", one, project, "--json", "--", "sh", "-c", "echo once >> output/count")
    assert ran.exit == 0, ran.err
    ssm = aws.client("ssm")
    sent = next(
        c
        for page in ssm.get_paginator("list_commands").paginate()
        for c in page["Commands"]
        if c["Comment"] == ran.json["run_id"]
    )
    again = ssm.send_command(
        DocumentName=sent["DocumentName"],
        InstanceIds=sent["InstanceIds"],
        Parameters=sent["Parameters"],
    )["Command"]["CommandId"]

    def answer():
        (found,) = ssm.list_command_invocations(CommandId=again, Details=True)["CommandInvocations"]
        return found if found["Status"] == "Success" else None

    assert '"replayed": true' in until(answer)["CommandPlugins"][-1]["Output"]
    count = kept(aws, aws.state.instances[0], project, "count").read_text()
    assert count == "once\n"


def test_variables_reach_the_command_and_nothing_else(aws, project, one):
    """A secret is in the command's environment, and in no record, log, report or file."""
    secret = f"s3cr3t-{uuid.uuid4().hex}"
    check = "import os, sys; sys.exit(len(os.environ['TOKEN']) != 39)"
    ran = aws.ferry(
        "run", one, project, "-vv", "--env", f"TOKEN={secret}", "--", "python3", "-c", check
    )
    assert ran.exit == 0, ran.err
    assert secret not in ran.out + ran.err
    s3 = aws.client("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=aws.bucket):
        for version in page.get("Versions", ()):
            one_version = {"Key": version["Key"], "VersionId": version["VersionId"]}
            body = s3.get_object(Bucket=aws.bucket, **one_version)["Body"].read()
            assert secret.encode() not in body, version["Key"]
    assert aws.keys("environments/") == []
    for file in aws.home.path.rglob("*"):
        if file.is_file() and not file.is_symlink() and "ministack" not in file.parts:
            assert secret.encode() not in file.read_bytes(), file
    commands = aws.client("ssm").list_commands()["Commands"]
    assert secret not in json.dumps(commands, default=str)


SCRIPT = """#!/bin/sh
set -e
test -x "$DEPLOY_FILES_DIR/tool.sh"
cat "$DEPLOY_FILES_DIR/deep/data.txt"
echo "argument: $1"
pwd
test ! -e /etc/codeferry-never || exit 9
test -z "$FAIL_ON" || case "$PWD" in *"$FAIL_ON"*) exit 5;; esac
"""


@pytest.fixture
def script(tmp_path):
    """A script with supporting files beside it."""
    path = tmp_path / f"deploy-{uuid.uuid4().hex[:6]}.sh"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "deep" / "data.txt").write_text("supporting data\n")
    (tmp_path / "files" / "tool.sh").write_text("#!/bin/sh\n")
    (tmp_path / "files" / "tool.sh").chmod(0o755)
    return path


def scripts_left(aws):
    """What is left of scripts' directories on the instances."""
    return [
        path
        for record in aws.state.instances
        for path in (Path(record.root) / "opt/codeferry/.scripts").rglob("*.sh")
    ]


def test_a_script_with_files(aws, script):
    """It runs on every instance with its files, and nothing of it stays."""
    ran = aws.ferry("script", "demo", script, "--", "it's")
    assert ran.exit == 0, ran.err
    assert "Script ran on 3/3 instances" in ran.out
    assert "supporting data" in ran.out + ran.err
    assert "argument: it's" in ran.out + ran.err
    assert scripts_left(aws) == []


def test_a_script_that_fails_on_one(aws, script):
    """2/3, exit 1, and everything is removed there too."""
    broken = aws.state.instances[2].instance_id
    ran = aws.ferry("script", "demo", script, "--env", f"FAIL_ON={broken}")
    assert ran.exit == 1
    assert "Script ran on 2/3 instances" in ran.out + ran.err
    assert "exit code 5" in ran.out + ran.err
    assert scripts_left(aws) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"#!/no/such/interpreter\n", "/no/such/interpreter"),
        (b"#!/bin/sh\r\necho hi\r\n", "carriage return"),
    ],
)
def test_a_script_that_cannot_start(aws, tmp_path, one, text, words):
    """Each reason has its own message."""
    path = tmp_path / "broken.sh"
    path.write_bytes(text)
    path.chmod(0o755)
    ran = aws.ferry("script", one, path, "--no-files")
    assert ran.exit in (1, 2)
    assert words in ran.out + ran.err


def test_logs_follow_while_it_runs(aws, project, one, waiting):
    """A line shows before the command has ended; the end of the run ends the following."""
    with aws.ferry_running("logs", waiting, "-f") as following:
        first = following.stdout.readline()
        assert "begun" in first
        assert one in first or aws.state.instances[0].name in first
        assert processes_of(waiting)
        kept(aws, aws.state.instances[0], project, "stop").touch()
        rest = following.communicate(timeout=60)[0]
    assert "done" in rest
    assert following.returncode == 0


@pytest.mark.parametrize(("lines", "length"), [(1_000, 100), (5_000, 1_000)])
def test_all_output_is_retrievable(aws, project, one, lines, length):
    """100 KB and 5 MB: every line, in order, after the run. Of much more a genuine agent, at half a
    megabyte a second, does not take all in the 25 s that it is given after the end."""
    program = f"for n in range({lines}): print(f'{{n:06d}} ' + 'x' * {length - 8})"
    ran = aws.ferry("run", one, project, "--no-output", "--json", "--", "python3", "-c", program)
    assert ran.exit == 0, ran.err
    report = ran.json["report"]
    assert report["instances"][0]["ran"]["output_bytes"] == lines * length
    with aws.ferry_running("logs", report["run_id"], "--instance", one) as reading:
        numbers = [int(line.split("x")[0].split()[-1]) for line in reading.stdout if "xx" in line]
    assert numbers == list(range(lines))
    last = f"{lines - 1:06d} " + "x" * (length - 8)
    tail = report["instances"][0]["ran"]["tail"].splitlines()[-1]
    assert last.endswith(tail)
    assert len(tail) > 90


def test_runs_lists_both_workflows(aws, project, script, one):
    """Commands and scripts show up like any other run."""
    aws.ferry("run", one, project, "--", "true")
    aws.ferry("script", one, script)
    listed = aws.ferry("runs", "--json").json["runs"][:2]
    assert [run["project"] for run in listed] == [script.stem, project.name] or [
        run["project"] for run in listed
    ] == [script.name, project.name]
    assert all(run["status"] == "succeeded" for run in listed)


def test_install_puts_dependencies_first(aws, project, one):
    """The command's python3 has what requirements.txt names; a failed install says so."""
    wheel = tiny_wheel(project)
    (project / "requirements.txt").write_text(f"./{wheel.name}\n")
    command = ("--", "python3", "-c", "import tinywheel; print(tinywheel.WORD)")
    ran = aws.ferry("run", one, project, "--install", *command)
    assert ran.exit == 0, ran.err + ran.out
    assert "tiny word" in ran.out + ran.err
    (project / "requirements.txt").write_text("./missing-1.0-py3-none-any.whl\n")
    failed = aws.ferry("run", one, project, "--install", *command)
    assert failed.exit == 1
    assert "install" in failed.err + failed.out


def tiny_wheel(directory):
    """A wheel of one module, made here: no index is needed to install it."""
    import zipfile

    path = directory / "tinywheel-1.0-py3-none-any.whl"
    info = "tinywheel-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinywheel.py", "WORD = 'tiny word'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinywheel\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path
