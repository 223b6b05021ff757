"""The unit is as closed as the drain allows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from codeferry_agent.drain.files.state import OF_ROOT, home

UNIT = Path(__file__).resolve().parents[4] / "agent" / "systemd" / "codeferry-drain.service"
ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="this system has no systemd-analyze")


@needs_systemd
def test_the_unit_is_hardened() -> None:
    """systemd's own measure of exposure is at most 2.5."""
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=yes", UNIT],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    level = re.search(r"exposure level for \S+ ([\d.]+)", done.stdout)
    assert level is not None, done.stdout
    assert float(level[1]) <= 2.5


def test_the_unit_may_take_leases_and_comes_back() -> None:
    """Without CAP_LEASE others' files would have none; a crash is a restart, for ever."""
    text = UNIT.read_text()
    assert re.search(r"^CapabilityBoundingSet=.*\bCAP_LEASE\b", text, re.MULTILINE)
    assert "\nRestart=always\n" in text
    assert "\nStartLimitIntervalSec=0\n" in text


def test_the_unit_keeps_its_state_where_no_program_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory of root's alone, which root's `drain status` finds by hand as well."""
    text = UNIT.read_text()
    assert f"\nStateDirectory={OF_ROOT.name}\nStateDirectoryMode=0700\n" in text
    for name in ("STATE_DIRECTORY", "CODEFERRY_DRAIN_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert home() == OF_ROOT == Path("/var/lib") / OF_ROOT.name
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")
    assert home() == Path("/home/ada/.local/state/codeferry-drain")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/codeferry-drain:/var/lib/other")
    assert home() == OF_ROOT
