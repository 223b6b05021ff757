"""The user data of a fleet instance, run by bash in a root directory of its own."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stacks.fleet.user_data import (
    FILES,
    LIMIT,
    FirstStart,
    UserDataTooLarge,
    agent_path,
    drain_files,
    user_data,
)
from stacks.fleet.user_data import UNIT as UNIT_FILE

AGENT = b"the agent, as it was built\n"
UNIT = '[Service]\nExecStart=/usr/bin/env it\'s "$HOME" `id` \\\n'
INSTANCE = "i-0123456789abcdef0"
SETTINGS = FirstStart(
    region="eu-west-1",
    stack="Codeferry-prod-Fleet",
    resource="Group",
    group="codeferry-prod-demo",
    hook="first-start",
    agent={
        "url": "s3://assets/agent.pyz",
        "sha256": hashlib.sha256(AGENT).hexdigest(),
        "path": "opt/here/agent.pyz",
    },
    files={
        "etc/systemd/system/codeferry-drain.service": UNIT,
        "etc/codeferry/drain.env": "AWS_REGION=eu-west-1\n",
    },
    retry_seconds=0,
)

# Each stand-in writes down how it was called and then does what its file says.
STAND_IN = """#!{python}
import json, pathlib, sys
here = pathlib.Path({directory!r})
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
exec((here / "{name}.py").read_text())
"""
FETCHES = """
if sys.argv[1:3] == ["s3", "cp"]:
    pathlib.Path(sys.argv[5]).write_bytes({agent!r})
if sys.argv[1:3] == ["s3", "sync"]:
    pathlib.Path(sys.argv[5], "weights.bin").write_bytes(b"w")
"""
COMMANDS = (
    "aws",
    "amazon-cloudwatch-agent-ctl",
    "cfn-signal",
    "dnf",
    "shutdown",
    "systemctl",
)


class Metadata(BaseHTTPRequestHandler):
    """The metadata service, version 2: nothing without a token."""

    def do_PUT(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200, "token-1")

    def do_GET(self) -> None:
        known = self.headers.get("X-aws-ec2-metadata-token") == "token-1"
        right = self.path == "/latest/meta-data/instance-id"
        self._answer(200 if known and right else 401, INSTANCE)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def metadata() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@dataclass
class Sandbox:
    """A root directory, the commands an instance has, and a metadata service."""

    directory: Path
    metadata: str
    settings: FirstStart = field(default=SETTINGS)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def does(self, name: str, code: str = "") -> None:
        """From now on command ``name`` does ``code``."""
        (self.directory / f"{name}.py").write_text(code)

    def start(self, **changes: object) -> subprocess.CompletedProcess[str]:
        """Run the user data as cloud-init would."""
        script = self.directory / "user_data.sh"
        script.write_text(user_data(replace(self.settings, **changes)))  # type: ignore[arg-type]
        environment = {
            "PATH": f"{self.directory / 'bin'}:/usr/bin:/bin",
            "TMPDIR": str(self.directory / "tmp"),
            "CODEFERRY_ROOT": str(self.root),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata,
        }
        return subprocess.run(
            ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
        )

    def calls(self, name: str) -> list[list[str]]:
        lines = (self.directory / "calls").read_text().splitlines()
        return [call[1:] for call in map(json.loads, lines) if call[0] == name]

    @property
    def signals(self) -> dict[str, str]:
        """What Auto Scaling and CloudFormation were signalled last."""
        scaling = [c for c in self.calls("aws") if c[0] == "autoscaling"]
        signals = self.calls("cfn-signal")
        return {
            "scaling": scaling[-1][3] if scaling else "",
            "cloudformation": signals[-1][1] if signals else "",
        }


@pytest.fixture
def sandbox(tmp_path: Path, metadata: str) -> Sandbox:
    made = Sandbox(tmp_path, metadata)
    for name in ("bin", "tmp", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "calls").touch()
    for name in COMMANDS:
        command = tmp_path / "bin" / name
        text = STAND_IN.format(python=sys.executable, directory=str(tmp_path), name=name)
        command.write_text(text)
        command.chmod(0o755)
        made.does(name)
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    made.does("aws", FETCHES.format(agent=AGENT))
    return made


def assert_gave_up(sandbox: Sandbox) -> None:
    """Both get the signal, and the instance goes."""
    assert sandbox.signals == {"scaling": "ABANDON", "cloudformation": "1"}
    assert sandbox.calls("shutdown") == [["-h", "now"]]


def test_an_instance_makes_itself_whole_and_says_so(sandbox: Sandbox) -> None:
    """Agent, unit and its environment are in place, the service runs, both get the signal."""
    done = sandbox.start()
    assert done.returncode == 0, done.stderr
    agent = sandbox.root / "opt/here/agent.pyz"
    assert agent.read_bytes() == AGENT
    assert agent.stat().st_mode & 0o777 == 0o755
    assert (sandbox.root / "etc/systemd/system/codeferry-drain.service").read_text() == UNIT
    assert (sandbox.root / "etc/codeferry/drain.env").read_text() == "AWS_REGION=eu-west-1\n"
    assert sandbox.calls("systemctl") == [
        ["daemon-reload"],
        ["enable", "--now", "codeferry-drain.service"],
        ["is-active", "codeferry-drain.service"],
    ]
    assert sandbox.signals == {"scaling": "CONTINUE", "cloudformation": "0"}
    assert sandbox.calls("shutdown") == []


def test_the_ssm_agents_log_is_closed_to_local_users(sandbox: Sandbox) -> None:
    """It holds the scripts of commands, and with them archives' URLs."""
    log = sandbox.root / "var/log/amazon/ssm"
    log.mkdir(parents=True)
    log.chmod(0o755)
    assert sandbox.start().returncode == 0
    assert log.stat().st_mode & 0o777 == 0o700


def test_the_ssm_agent_survives_a_command_that_ran_out_of_memory() -> None:
    """The unit's default is to stop when the kernel kills one of its processes."""
    files = drain_files(stage="prod", region="eu-west-1", log_group="/codeferry/prod/drain")
    drop_in = files["etc/systemd/system/amazon-ssm-agent.service.d/codeferry.conf"]
    assert "\n[Service]\nOOMPolicy=continue\n" in drop_in


def test_both_are_told_of_this_very_instance(sandbox: Sandbox) -> None:
    """The lifecycle action names group, hook and instance; the signal stack and resource."""
    sandbox.start()
    (action,) = [c for c in sandbox.calls("aws") if c[0] == "autoscaling"]
    assert action[1:] == (
        "complete-lifecycle-action --lifecycle-action-result CONTINUE "
        "--auto-scaling-group-name codeferry-prod-demo --lifecycle-hook-name first-start "
        f"--instance-id {INSTANCE} --region eu-west-1"
    ).split(" ")
    assert sandbox.calls("cfn-signal") == [
        [
            "--exit-code",
            "0",
            "--stack",
            "Codeferry-prod-Fleet",
            "--resource",
            "Group",
            "--region",
            "eu-west-1",
        ]
    ]


def test_an_agent_with_another_digest_is_not_installed(sandbox: Sandbox) -> None:
    """What does not match the digest gets no name, and the instance goes."""
    sandbox.does("aws", FETCHES.format(agent=b"something else"))
    done = sandbox.start()
    assert "SHA-256" in done.stderr
    assert list((sandbox.root / "opt/here").iterdir()) == []
    assert sandbox.calls("systemctl") == []
    assert_gave_up(sandbox)


def test_a_download_that_fails_is_tried_again(sandbox: Sandbox) -> None:
    """A role's credentials may not be known everywhere in its first minute."""
    once = "mark = here / 'failed'\nif not mark.exists():\n    mark.touch()\n    sys.exit(254)\n"
    sandbox.does("aws", once + FETCHES.format(agent=AGENT))
    sandbox.start()
    assert len([c for c in sandbox.calls("aws") if c[:2] == ["s3", "cp"]]) == 2
    assert sandbox.signals == {"scaling": "CONTINUE", "cloudformation": "0"}


def test_a_download_that_keeps_failing_fails_the_instance(sandbox: Sandbox) -> None:
    """It says what the AWS CLI said, once it has given up."""
    sandbox.does(
        "aws",
        "if sys.argv[1] == 's3':\n    print('AccessDenied', file=sys.stderr)\n    sys.exit(1)",
    )
    done = sandbox.start()
    assert "AccessDenied" in done.stderr
    assert len([c for c in sandbox.calls("aws") if c[0] == "s3"]) == 4
    assert_gave_up(sandbox)


def test_a_service_that_does_not_run_fails_the_instance(sandbox: Sandbox) -> None:
    """Started is not enough: it has to be active."""
    sandbox.does("systemctl", "sys.exit(3 if sys.argv[1] == 'is-active' else 0)")
    sandbox.start()
    assert_gave_up(sandbox)


def test_the_log_of_the_service_is_shipped(sandbox: Sandbox) -> None:
    """CloudWatch's agent comes from the distribution and reads the configuration given."""
    sandbox.start()
    assert sandbox.calls("dnf")[0][2:] == ["install", "python3.11", "amazon-cloudwatch-agent"]
    (control,) = sandbox.calls("amazon-cloudwatch-agent-ctl")
    assert control[-1] == f"file:{sandbox.root}/etc/codeferry/cloudwatch.json"
    assert (sandbox.root / "var/log/codeferry").is_dir()


def test_a_log_that_cannot_be_shipped_fails_the_instance(sandbox: Sandbox) -> None:
    """An instance nobody sees the backlog of would not be missed when it is stuck."""
    sandbox.does("dnf", "sys.exit(1)")
    sandbox.start()
    assert len(sandbox.calls("dnf")) == 4
    assert_gave_up(sandbox)


def test_models_are_fetched_when_the_fleet_has_any(sandbox: Sandbox) -> None:
    """They lie below /opt/codeferry/models before the service starts."""
    sandbox.start(models="s3://models/weights/v1/")
    assert (sandbox.root / "opt/codeferry/models/weights.bin").read_bytes() == b"w"
    assert sandbox.signals == {"scaling": "CONTINUE", "cloudformation": "0"}


def test_models_that_are_not_there_fail_the_instance(sandbox: Sandbox) -> None:
    """An instance without its weights is half of one."""
    sandbox.does("aws", FETCHES.format(agent=AGENT).split('if sys.argv[1:3] == ["s3", "sync"]')[0])
    done = sandbox.start(models="s3://models/weights/v1/")
    assert "nothing below s3://models/weights/v1/" in done.stderr
    assert_gave_up(sandbox)


def test_an_instance_that_does_not_know_its_own_id_goes(sandbox: Sandbox) -> None:
    """Without the metadata service nobody can be signalled, so nobody waits for it: it ends."""
    sandbox.metadata = "http://127.0.0.1:1"
    done = sandbox.start()
    assert "metadata service" in done.stderr
    assert sandbox.signals == {"scaling": "", "cloudformation": "1"}
    assert sandbox.calls("shutdown") == [["-h", "now"]]


def test_a_group_that_does_not_hear_is_a_failure(sandbox: Sandbox) -> None:
    """An instance nobody lets into service would wait until the hook abandons it."""
    sandbox.does(
        "aws", FETCHES.format(agent=AGENT) + "\nif sys.argv[1] == 'autoscaling':\n    sys.exit(1)"
    )
    sandbox.start()
    assert sandbox.calls("cfn-signal")[-1][1] == "1"
    assert sandbox.calls("shutdown") == [["-h", "now"]]


def test_a_signal_nobody_waits_for_is_no_failure(sandbox: Sandbox) -> None:
    """Only a stack that is being created takes it; an instance that joins later is as good."""
    sandbox.does("cfn-signal", "sys.exit(1)")
    sandbox.start()
    assert sandbox.signals["scaling"] == "CONTINUE"
    assert sandbox.calls("shutdown") == []


def test_an_instance_without_python_goes(sandbox: Sandbox) -> None:
    """An image that has no python3 cannot be made whole."""
    python3 = sandbox.directory / "bin" / "python3"
    python3.unlink()
    python3.write_text("#!/bin/sh\nexit 127\n")
    python3.chmod(0o755)
    sandbox.start()
    assert sandbox.calls("shutdown") == [["-h", "now"]]


def test_the_first_start_can_be_done_again(sandbox: Sandbox) -> None:
    """Whoever runs the user data once more by hand gets the same instance."""
    sandbox.start()
    sandbox.start()
    assert (sandbox.root / "opt/here/agent.pyz").read_bytes() == AGENT
    assert sandbox.signals == {"scaling": "CONTINUE", "cloudformation": "0"}


def test_nothing_is_left_in_the_temporary_directory(sandbox: Sandbox) -> None:
    """Neither settings nor source stay behind."""
    sandbox.start()
    assert list((sandbox.directory / "tmp").iterdir()) == []


def test_the_files_of_the_service_fit_together() -> None:
    """The log that the unit writes is the one that is shipped and rotated."""
    service = (FILES / "drain_service.conf").read_text()
    log = service.split("StandardOutput=append:")[1].splitlines()[0]
    config = json.loads((FILES / "cloudwatch.json").read_text())
    (shipped,) = config["logs"]["logs_collected"]["files"]["collect_list"]
    assert shipped["file_path"] == log
    pattern = (FILES / "logrotate.conf").read_text().split(" {")[0]
    assert Path(log).match(pattern)
    unit = UNIT_FILE.read_text()
    assert "EnvironmentFile=-/etc/codeferry/drain.env" in unit


def test_the_agent_is_installed_and_started_as_its_unit_says() -> None:
    """The unit's own words, but for the interpreter, which the distribution's is too old for."""
    (unit,) = [t for t in UNIT_FILE.read_text().splitlines() if t.startswith("ExecStart=")]
    _, agent, *arguments = unit.removeprefix("ExecStart=").split(" ")
    files = drain_files(stage="prod", region="eu-west-1", log_group="/codeferry/prod/drain")
    (drop_in,) = [text for name, text in files.items() if name.endswith(".d/fleet.conf")]
    started = " ".join(["/usr/bin/python3.11", agent, *arguments])
    assert f"ExecStart=\nExecStart={started}\n" in drop_in
    assert f"/{agent_path()}" == agent
    assert "--json-logs" in arguments


def test_no_placeholder_is_left_in_any_file() -> None:
    """Region, stage, log group and command are filled in."""
    files = drain_files(stage="prod", region="eu-west-1", log_group="/codeferry/prod/drain")
    assert not [name for name, text in files.items() if "@@" in text]
    assert json.loads(files["etc/codeferry/cloudwatch.json"])
    environment = files["etc/codeferry/drain.env"].splitlines()
    assert environment == ["AWS_REGION=eu-west-1", "CODEFERRY_STAGE=prod"]


def test_the_frame_is_short_and_the_source_runs_on_python_3_9() -> None:
    """What branches is Python with tests; the instance may have the oldest we support."""
    assert len((FILES / "user_data.sh").read_text().splitlines()) < 20
    ast.parse((FILES / "first_start.py").read_text(), feature_version=(3, 9))


def test_user_data_that_ec2_would_refuse_fails_the_synth() -> None:
    """EC2 takes 16 KB; what CloudFormation fills in comes on top of ours."""
    with pytest.raises(UserDataTooLarge):
        user_data(replace(SETTINGS, files={"a": "x" * LIMIT}))
