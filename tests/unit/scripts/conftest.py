"""The scripts lie in the checkout, which is no package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """``stand_in("gh", code)``: a command on the PATH that runs Python ``code``."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")

    def make(name, code):
        command = directory / name
        command.write_text(f"#!{sys.executable}\n{code}")
        command.chmod(0o755)
        return command

    return make
