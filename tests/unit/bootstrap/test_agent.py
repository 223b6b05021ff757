"""The agent in one file: the same bytes wherever it is built."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_file_does_not_tell_where_it_was_made(tmp_path):
    """No umask, and no list of installed files, which names the environment's directory: a
    runner's is the laptop's, and no fleet is replaced for nothing."""
    output = tmp_path / "agent.pyz"
    command = [sys.executable, ROOT / "scripts" / "build_agent.py", output]
    subprocess.run(command, check=True, capture_output=True, umask=0o077)
    packed = [
        entry
        for entry in zipfile.ZipFile(output).infolist()
        if entry.filename.startswith("site-packages/") and not entry.is_dir()
    ]
    assert packed
    assert {entry.external_attr >> 16 & 0o777 for entry in packed} == {0o644}
    assert [e.filename for e in packed if Path(e.filename).name == "RECORD"] == []
