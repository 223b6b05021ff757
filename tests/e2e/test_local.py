"""ferry local and ferry demo, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from codeferry_contracts.local_stage import HOME_VARIABLE

pytestmark = pytest.mark.e2e

FERRY = Path(sys.executable).with_name("ferry")


def started_in(directory):
    """Processes whose working directory or arguments lie below ``directory``."""
    found = []
    for process in psutil.process_iter():
        try:
            places = [process.cwd(), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(directory) in place for place in places):
            found.append(process)
    return found


@pytest.fixture
def ferry(tmp_path):
    """``ferry(...)`` with an embedded AWS of its own, which is down afterwards."""
    home = tmp_path / "home"

    def run(*arguments, **environment):
        return subprocess.run(
            [FERRY, *map(str, arguments)],
            env=os.environ | {HOME_VARIABLE: str(home)} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )

    yield run
    run("local", "down")


def test_local_up_status_env_and_down(ferry, tmp_path, project):
    """Up returns when everything answers; down leaves neither process nor instance."""
    up = ferry("local", "up", "--unpaced", "--instances", 2, "--target", "workers", "--json")
    assert up.returncode == 0, up.stderr
    status = json.loads(ferry("local", "status", "--json").stdout)
    assert status == json.loads(up.stdout)
    assert [i["tags"]["codeferry:target"] for i in status["instances"]] == ["workers"] * 2

    pushed = ferry("push", "workers", project, "--stage", "local")
    assert pushed.returncode == 0, pushed.stderr
    for instance in status["instances"]:
        current = Path(instance["root"]) / "opt/codeferry" / project.name / "current"
        assert (current / "main.py").exists()

    script = f'eval "$("{FERRY}" local env)"; "{sys.executable}" -c "{LIST_BUCKETS}"'
    listed = subprocess.run(
        ["sh", "-c", script],
        env=os.environ | {HOME_VARIABLE: str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert status["bucket"] in listed.stdout

    again = ferry("local", "up")
    assert again.returncode == 3
    assert "ferry local down" in again.stderr

    assert ferry("local", "down").returncode == 0
    assert started_in(tmp_path / "home") == []
    assert not (tmp_path / "home" / "instances").exists()


LIST_BUCKETS = "import boto3; print(boto3.client('s3').list_buckets()['Buckets'])"


@pytest.mark.parametrize(
    "command", [["local", "status"], ["local", "env"], ["local", "down"], ["runs"]]
)
def test_without_an_embedded_aws_the_fix_is_named(ferry, command):
    """Nothing runs: exit 3 and the command that starts it."""
    stage = ["--stage", "local"] if command == ["runs"] else []
    done = ferry(*command, *stage)
    assert done.returncode == 3
    assert "ferry local up" in done.stderr


def test_the_demo_shows_it_all_and_leaves_nothing(tmp_path):
    """Three runs on three instances, the old release kept, and nothing left afterwards."""
    done = subprocess.run(
        [FERRY, "demo"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("3/3 instances have release") == 3
    assert "<- current" in done.stdout
    assert "the archive has no manifest" in done.stdout
    releases = [line for line in done.stdout.splitlines() if line.startswith("  releases/")]
    assert len(releases) == 3  # one after the first push, two after the second
    assert "epoch-9.bin" not in done.stdout
    assert started_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(400)
def test_the_fleet_demo_fails_at_wave_two_and_returns_by_itself(tmp_path):
    """A good release in three waves, an ill one that goes back, one undone, one late joiner."""
    done = subprocess.run(
        [FERRY, "demo", "--fleet"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=350,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6/6 instances have release" in done.stdout
    assert "Wave 2 of 3: failed on 1 of 2 instances, and the release before is back" in done.stdout
    assert "Wave 3 of 3: 3 instances untouched" in done.stdout
    releases = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("  i-")]
    assert len(set(releases[:6])) == 2  # after the failure: wave one alone has the new one
    assert len(releases) == 6 + 6 + 7
    assert len(set(releases[6:])) == 1
    assert started_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_aws_ends_with_whoever_started_it(tmp_path):
    """Killed without a chance to clean up, the starter takes everything down with it."""
    home = Path(tempfile.mkdtemp(dir=tmp_path))
    script = (
        "import sys; from pathlib import Path; from codeferry_local.home import Home;"
        "from codeferry_local.process import Supervisor;"
        f"Supervisor.start(Home(Path({str(home)!r})), instances=0, target='x', attached=True);"
        "print('up', flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout.readline() == "up\n"
    running = started_in(home)
    assert len(running) >= 2
    starter.kill()
    starter.wait()
    gone, alive = psutil.wait_procs(running, timeout=30)
    assert alive == []
    assert gone
