"""The app as a whole: offline, deterministic, clean under both linters."""

from __future__ import annotations

import json

import pytest


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
    monkeypatch.setattr("stacks.storage.artifacts.acknowledge", lambda scope, reasons: None)
    with pytest.raises(RuntimeError, match="AwsSolutions-S1"):
        synthesise(tmp_path, stage="prod")


def test_our_own_synth_has_no_finding(assembly):
    """Every rule of the pack is met or its exception has a reason."""
    assert json.loads((assembly / "validation-report.json").read_text())["pluginReports"] == []
