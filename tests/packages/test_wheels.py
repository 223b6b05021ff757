"""The wheels people install: each works in an environment that has nothing else of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
WHEELS = ("agent", "cli", "contracts", "transfer")


def run(*command, **options):
    """Run a command; its output, or a failure that shows it."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """The four wheels, built from the checkout."""
    directory = tmp_path_factory.mktemp("wheels")
    for name in WHEELS:
        run(UV, "build", "--wheel", "--package", f"codeferry-{name}", "-o", directory, cwd=ROOT)
    return directory


@pytest.fixture
def install(wheels, tmp_path):
    """``install("cli")``: a clean environment with that wheel; its bin directory."""

    def into(name):
        environment = tmp_path / "venv"
        run(UV, "venv", "--python", sys.executable, environment)
        python = environment / "bin" / "python"
        found = ("--find-links", wheels, f"codeferry-{name}")
        run(UV, "pip", "install", "--python", python, *found, cwd=tmp_path)
        return environment / "bin"

    return into


def test_ferry_works_from_its_wheel(install, tmp_path):
    """The installed command packs a project, far from any checkout."""
    binaries = install("cli")
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "requirements.txt").write_text("")
    (project / "src" / "main.py").write_text("print(1)\n")
    listed = json.loads(run(binaries / "ferry", "pack", project, "--list", "--json"))
    assert [file["path"] for file in listed["files"]] == ["requirements.txt", "src/main.py"]
    run(binaries / "ferry", "pack", project, "-o", tmp_path / "a.tar.gz")
    assert b"main.py" in subprocess.check_output(["tar", "tzf", tmp_path / "a.tar.gz"])
    assert 'project = "project"' in run(binaries / "ferry", "init", project, "--dry-run")


def test_ferry_without_the_embedded_aws_says_how_to_get_it(install, tmp_path):
    """``ferry demo`` needs a checkout; the installed command says so and ends with 3."""
    binaries = install("cli")
    done = subprocess.run(
        [binaries / "ferry", "demo"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 3
    assert "codeferry-local" in done.stderr


@pytest.mark.parametrize("name", ["agent", "contracts", "transfer"])
def test_a_library_imports_from_its_wheel(install, tmp_path, name):
    """Its dependencies come with it, and it carries its types."""
    binaries = install(name)
    run(binaries / "python", "-I", "-c", f"import codeferry_{name}", cwd=tmp_path)


def test_the_agent_carries_apply(wheels):
    """The instance's script is in the agent's wheel, and the wheels are typed."""
    for name in WHEELS:
        (wheel,) = wheels.glob(f"codeferry_{name}-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        assert f"codeferry_{name}/py.typed" in names
        assert (f"codeferry_{name}/run/release/apply.py" in names) == (name == "agent")
