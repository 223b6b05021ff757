"""run.sh and result.sh under the real sh; the document has launch.py for its sources here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codeferry_contracts.result import parse_result
from tests.unit.agent.archives import SMALL, pack
from tests.unit.agent.conftest import LAUNCH, Instance

DOCUMENTS = Path(__file__).parents[4] / "stacks/documents"
FRAME, RESULT = DOCUMENTS / "run.sh", DOCUMENTS / "result.sh"


@pytest.fixture
def script(instance: Instance, tmp_path: Path) -> Path:
    """The step as SSM would write it to disk, for one archive in the store."""
    instance.store.body = body = pack(SMALL)
    payload = instance.payload(body)
    program = f"import runpy, sys\nsys.argv[1:] = ['sync']\nrunpy.run_path({str(LAUNCH)!r})"
    text = FRAME.read_text().replace("@@SOURCE@@", program)
    text = text.replace("{{ runId }}", payload.run_id).replace("{{ payload }}", payload.encode())
    text = text.replace("{{ agentUrl }}", "")
    assert "{{" not in text
    rendered = tmp_path / "_script.sh"
    rendered.write_text(text)
    return rendered


def run(script: Path, path: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Under a PATH of its own, as an instance's agent has one."""
    shell = shutil.which("sh") or "/bin/sh"
    environ = {"PATH": str(path), "CODEFERRY_ROOT": str(root)}
    return subprocess.run([shell, str(script)], env=environ, capture_output=True, text=True)


def python(path: Path, name: str, target: str) -> None:
    """A command ``name`` on the PATH ``path`` that runs ``target``."""
    path.mkdir(exist_ok=True)
    (path / name).write_text(f'#!/bin/sh\nexec {target} "$@"\n')
    (path / name).chmod(0o755)


def test_the_frame_is_short() -> None:
    """What branches is Python with tests; the shell only finds it."""
    assert len(RESULT.read_text().splitlines()) < 20
    lines = FRAME.read_text().splitlines()
    assert len(lines) < 20
    assert lines.count("@@SOURCE@@") == 1


def test_the_document_applies_the_archive(instance: Instance, script: Path, tmp_path: Path) -> None:
    """The source arrives through the heredoc unharmed and answers with one line."""
    python(tmp_path / "bin", "python3", sys.executable)
    done = run(script, tmp_path / "bin", instance.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert parse_result(done.stdout).status == "applied"
    assert (instance.current / "train.py").exists()


def test_an_old_python3_is_passed_over(instance: Instance, script: Path, tmp_path: Path) -> None:
    """A python3 that is too old or broken is no obstacle when a fit one has another name."""
    python(tmp_path / "bin", "python3", "false")
    python(tmp_path / "bin", "python3.9", sys.executable)
    done = run(script, tmp_path / "bin", instance.root)
    assert done.returncode == 0, done.stderr
    assert parse_result(done.stdout).status == "applied"


@pytest.mark.skipif(
    Path("/usr/libexec/platform-python").exists(), reason="this machine has a platform-python"
)
@pytest.mark.parametrize("present", [(), ("python3", "python3.11")])
def test_no_fit_python_is_a_result_of_its_own(
    instance: Instance, script: Path, tmp_path: Path, present: tuple[str, ...]
) -> None:
    """The instance says what is missing, in a line the workflow reads."""
    (tmp_path / "bin").mkdir()
    for name in present:
        python(tmp_path / "bin", name, "false")
    done = run(script, tmp_path / "bin", instance.root)
    assert done.returncode == 1
    result = parse_result(done.stdout)
    assert (result.run_id, result.status) == ("run-1", "failed")
    assert result.error is not None
    assert result.error["code"] == "python_missing"
    assert "3.9" in result.error["message"]
    assert not list(instance.root.iterdir())


def test_a_failure_is_exit_1(instance: Instance, script: Path, tmp_path: Path) -> None:
    """SSM sees 1, and the reason is in the line."""
    python(tmp_path / "bin", "python3", sys.executable)
    instance.store.status = 404
    done = run(script, tmp_path / "bin", instance.root)
    assert done.returncode == 1
    error = parse_result(done.stdout).error
    assert error is not None
    assert error["code"] == "archive_missing"


def result_step(root: Path) -> str:
    text = RESULT.read_text().replace("{{ runId }}", "run-1")
    environ = {"PATH": os.environ["PATH"], "CODEFERRY_ROOT": str(root)}
    done = subprocess.run(
        ["/bin/sh", "-c", text], env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_second_step_is_silent_when_there_was_no_command(tmp_path: Path) -> None:
    """No directory, no line, no error."""
    assert result_step(tmp_path) == ""


@pytest.mark.parametrize("pid", ["0x", "999999999"])
def test_the_second_step_waits_for_nobody_who_is_gone(tmp_path: Path, pid: str) -> None:
    """A marker that was left by a dead supervisor does not hold it up."""
    answers = tmp_path / ".results"
    answers.mkdir()
    (answers / "run-1").write_text("the line\n")
    (answers / "run-1.working").write_text(pid)
    assert result_step(tmp_path) == "the line\n"


def test_the_second_step_waits_for_a_supervisor_at_work(tmp_path: Path) -> None:
    """What it prints is the line that is there afterwards."""
    answers = tmp_path / ".results"
    answers.mkdir()
    (answers / "run-1").write_text("interrupted\n")
    worker = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            'echo $$ >"$0.working"; read go; echo "the end" >"$0"',
            answers / "run-1",
        ],
        stdin=subprocess.PIPE,
        text=True,
    )
    while not (answers / "run-1.working").exists():
        assert worker.poll() is None
    step = threading.Timer(0.5, lambda: worker.communicate("go\n"))
    step.start()
    assert result_step(tmp_path) == "the end\n"
    step.join()
