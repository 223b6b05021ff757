"""Installing what a release names: the plan as a value, and real venvs without a network."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import os
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeferry_agent.run.command import dependencies
from codeferry_agent.run.command.dependencies import plan
from codeferry_agent.run.command.program import Account
from codeferry_agent.run.errors import RunFailed
from tests.unit.agent.archives import Tree
from tests.unit.agent.commands import Machine, Outcome, machine
from tests.unit.agent.conftest import Instance

PROJECT = "[project]\nname = 'x'\nversion = '1'\n"
VENV = Path("/v")
US = Account("us", "/", "/bin/sh", None)
NOBODY = Account("nobody", "/", "/bin/sh", (65534, 65534))


def _plan(release: Path, *, uv: str | None = "/bin/uv", release_id: str = "1") -> dependencies.Plan:
    files = dependencies.found_in(release, US)
    found = plan(files, release_id, VENV, uv=uv, python="/bin/python3")
    assert found is not None
    return found


def test_a_locked_project_is_synced_by_uv(tmp_path: Path) -> None:
    """Exactly what the lock says; the project itself is run from its release."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "uv.lock").write_text("version = 1")
    steps = [["/bin/uv", "sync", "--frozen", "--no-dev", "--no-install-project"]]
    assert _plan(tmp_path).steps == steps


def test_a_lock_without_uv_is_passed_over_with_a_word(tmp_path: Path) -> None:
    """pip cannot read it; the project's own requirements are what is left."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "uv.lock").write_text("version = 1")
    found = _plan(tmp_path, uv=None)
    assert found.warnings == ["uv.lock is not used: the instance has no uv."]
    assert found.steps[1:] == [
        ["/bin/python3", "-m", "venv", "/v"],
        ["/v/bin/python", "-m", "pip", "install", "."],
    ]


def test_requirements_come_before_the_project(tmp_path: Path) -> None:
    """A project with both says in requirements.txt what it is to run with."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "requirements.txt").write_text("x")
    assert _plan(tmp_path).steps == [
        ["rm", "-rf", "/v"],
        ["/bin/uv", "venv", "/v"],
        ["/bin/uv", "pip", "install", "--python", "/v/bin/python", "-r", "requirements.txt"],
    ]


@pytest.mark.parametrize("content", ["", "[tool.ruff]\nline-length = 100\n"])
def test_a_pyproject_of_tools_only_names_nothing(tmp_path: Path, content: str) -> None:
    """It configures a linter and describes no package."""
    (tmp_path / "pyproject.toml").write_text(content)
    files = dependencies.found_in(tmp_path, US)
    assert plan(files, "1", VENV, uv=None, python="p") is None


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that other users may enter, as they may not a temporary one of pytest."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_names_dependencies_is_read_as_who_runs_the_command(open_directory: Path) -> None:
    """A link leads root to nothing that its owner may not read, and no FIFO holds anybody up."""
    release = open_directory
    secret, public = release / "secret", release / "public"
    for file in (secret, public):
        file.write_text("demo==1")
    secret.chmod(0o600)
    (release / "uv.lock").symlink_to(secret)
    (release / "requirements.txt").symlink_to(public)
    os.mkfifo(release / "pyproject.toml")
    found = dependencies.found_in(release, NOBODY)
    assert found == {"uv.lock": b"", "requirements.txt": b"demo==1", "pyproject.toml": b""}
    (release / "uv.lock").unlink()
    (release / "uv.lock").symlink_to("/dev/zero")
    assert dependencies.found_in(release, NOBODY)["uv.lock"] == b""


def test_a_reader_that_is_stopped_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what names the dependencies would be other dependencies."""
    monkeypatch.setattr(dependencies, "read", lambda path: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RunFailed, match="cannot be read"):
        dependencies.found_in(tmp_path, US)


def test_the_fingerprint_changes_with_what_decides(tmp_path: Path) -> None:
    """Files and installer always; the release only where its own code is installed."""
    (tmp_path / "requirements.txt").write_text("x")
    first = _plan(tmp_path).fingerprint
    assert _plan(tmp_path, release_id="2").fingerprint == first
    assert _plan(tmp_path, uv=None).fingerprint != first
    (tmp_path / "requirements.txt").write_text("y")
    assert _plan(tmp_path).fingerprint != first
    (tmp_path / "requirements.txt").unlink()
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    assert _plan(tmp_path).fingerprint != _plan(tmp_path, release_id="2").fingerprint


def _wheel(version: str) -> bytes:
    """A wheel of one module, made by hand."""
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,\n"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _tree(version: str) -> Tree:
    name = f"tiny-{version}-py3-none-any.whl"
    return {name: _wheel(version), "requirements.txt": f"--no-index\n./{name}\n".encode()}


SHOW = ("python", "-c", "import os, tiny; print(tiny.version, os.environ['VIRTUAL_ENV'])")


def _install(here: Machine, version: str, *words: str) -> Outcome:
    return here.run(*(words or SHOW), tree=_tree(version), install=True)


UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
PLAIN = "/usr/bin:/bin"


@pytest.fixture
def here(instance: Instance, tmp_path: Path) -> Machine:
    instance.environ |= {"UV_OFFLINE": "1", "HOME": str(tmp_path), "PATH": PLAIN}
    return machine(instance)


@pytest.fixture
def with_uv(here: Machine) -> Machine:
    if UV is None:
        pytest.skip("this machine has no uv")
    here.environ["PATH"] = f"{Path(UV).parent}:{PLAIN}"
    return here


def test_dependencies_are_installed_once(with_uv: Machine) -> None:
    """The command uses the project's venv; it is made again only when they change."""
    venv = with_uv.project / "shared/venv"
    marker = with_uv.project / "installed.json"
    first = _install(with_uv, "1.0")
    assert first.output.endswith(f"1.0 {venv}\n".encode()), first.out
    assert "install" in first.last.seconds
    assert marker.stat().st_mode & 0o777 == 0o600
    assert _install(with_uv, "1.0").output == f"1.0 {venv}\n".encode()
    assert _install(with_uv, "2.0").output.endswith(f"2.0 {venv}\n".encode())


@pytest.mark.slow
def test_without_uv_the_venv_is_pythons_own(here: Machine) -> None:
    """venv and pip are what every Python brings along."""
    venv = here.project / "shared/venv"
    assert _install(here, "1.0").output.endswith(f"1.0 {venv}\n".encode())
    assert "uv = " not in (venv / "pyvenv.cfg").read_text()


# As Debian and Ubuntu ship Python: what venv needs is another package's.
WITHOUT = """import importlib.util, runpy
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ensurepip" else find(name, *more)
runpy.run_path({launch!r}, run_name="__main__")
"""


def test_a_python_without_ensurepip_is_named_with_the_remedy(here: Machine) -> None:
    """It is no failure of the installation, whose output would be all there is to see."""
    script = here.root / "launch.py"
    script.write_text(WITHOUT.format(launch=str(here.script)))
    there = dataclasses.replace(here, script=script)
    outcome = _install(there, "1.0")
    assert (outcome.code, outcome.ran.ending, outcome.output) == (
        "venv_missing",
        "not_started",
        b"",
    )
    assert "has no ensurepip" in outcome.message
    assert outcome.last.error is not None
    assert "apt-get install python3-venv" in outcome.last.error["hint"]


def test_uv_needs_no_ensurepip(with_uv: Machine) -> None:
    """It brings what it needs."""
    script = with_uv.root / "launch.py"
    script.write_text(WITHOUT.format(launch=str(with_uv.script)))
    assert _install(dataclasses.replace(with_uv, script=script), "1.0").exit == 0


def test_dependencies_are_installed_without_a_command(with_uv: Machine) -> None:
    """A release that only arrives has them as well."""
    outcome = with_uv.run(tree=_tree("1.0"), install=True)
    assert outcome.last.status == "applied"
    assert (with_uv.project / "shared/venv/bin/python").exists()
    failed = with_uv.run(tree={"requirements.txt": b"./missing.whl\n"}, install=True)
    assert failed.code == "install_failed"


def test_an_installation_that_fails_says_so(with_uv: Machine) -> None:
    """Its output is the tail, the command was not started, the release stays current."""
    tree = {"requirements.txt": b"--no-index\n./missing-1.0-py3-none-any.whl\n"}
    outcome = with_uv.run("echo", "started", tree=tree, install=True)
    assert (outcome.code, outcome.ran.ending) == ("install_failed", "not_started")
    assert "uv: exit code" in outcome.message
    assert "missing-1.0" in outcome.ran.tail
    assert outcome.last.release_id == with_uv.current_id
    assert not (with_uv.project / "installed.json").exists()


def test_nothing_to_install_is_a_warning(here: Machine) -> None:
    """The command runs all the same, without a venv."""
    outcome = here.sh("echo ${VIRTUAL_ENV-none}", install=True)
    assert outcome.output == b"none\n"
    assert outcome.last.warnings[0].startswith("Nothing to install")
