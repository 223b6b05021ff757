"""The app as a whole: offline, deterministic, clean under both linters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# One worker for all of these, and so one synthesis.
ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.xdist_group("stacks")


def contents(directory):
    """Every file but the asset staging's own bookkeeping, by name."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_same_sources_give_the_same_assembly(assembly, synthesise, tmp_path):
    """Nothing of time, machine or chance gets into a template or an asset."""
    again = contents(synthesise(tmp_path, stage="prod"))
    assert again == contents(assembly)


def test_cdk_nag_stops_a_synth_with_an_unexplained_finding(synthesise, tmp_path, monkeypatch):
    """The AwsSolutions pack judges our own app: without its reasons the bucket fails it."""
    monkeypatch.setattr("stacks.storage.acknowledge", lambda scope, reasons: None)
    with pytest.raises(RuntimeError, match="AwsSolutions-S1"):
        synthesise(tmp_path, stage="prod")


def test_our_own_synth_has_no_finding(assembly):
    """Every rule of the pack is met or its exception has a reason."""
    assert json.loads((assembly / "validation-report.json").read_text())["pluginReports"] == []


@pytest.mark.slow
def test_cfn_lint_accepts_the_templates(assembly):
    """CloudFormation's own linter finds nothing, not even a warning."""
    templates = sorted(str(path) for path in assembly.glob("*.template.json"))
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [linter, "--regions", "eu-west-1", "us-east-1", "--", *templates],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert len(templates) == 5


@pytest.mark.slow
def test_a_synth_leaves_nothing_behind(tmp_path):
    """All it makes is in the output directory; temporary files are gone with the process."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"CDK_OUTDIR": str(tmp_path / "out"), "TMPDIR": str(temporary)},
        check=True,
    )
    assert (tmp_path / "out" / "manifest.json").exists()
    assert list(temporary.iterdir()) == []
