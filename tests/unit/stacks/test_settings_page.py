"""docs/fleet.md lists what a deployment can choose."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_setting_is_explained():
    """Each name that stacks/settings.py reads from the context, and no other."""
    read = re.findall(r'context\.\w+\(\s*"(\w+)"', (ROOT / "stacks/settings.py").read_text())
    page = (ROOT / "docs/fleet.md").read_text()
    table = page.partition("## Settings")[2].partition("\n## ")[0]
    cells = re.findall(r"(?m)^\| (`.+?) \|", table)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(read)
