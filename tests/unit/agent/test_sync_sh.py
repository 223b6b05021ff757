"""sync.sh, rendered as the document renders it, under the real sh."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codeferry_contracts.result import parse_result
from tests.unit.agent.archives import SMALL, pack
from tests.unit.agent.conftest import APPLY, Instance

FRAME = Path(__file__).parents[3] / "stacks/documents/sync.sh"


@pytest.fixture
def script(instance: Instance, tmp_path: Path) -> Path:
    """The step as SSM would write it to disk, for one archive in the store."""
    instance.store.body = body = pack(SMALL)
    payload = instance.payload(body)
    text = FRAME.read_text().replace("@@SOURCE@@", APPLY.read_text().rstrip("\n"))
    text = text.replace("{{ runId }}", payload.run_id).replace("{{ payload }}", payload.encode())
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
