"""docs/security.md says which test shows what it says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_test_that_the_page_names_is_there():
    """Files and functions; a claim whose test is gone is one that nobody shows any more."""
    files = [*(ROOT / "tests").rglob("test_*.py")]
    known = {path.stem for path in files}
    for path in files:
        known |= set(re.findall(r"(?m)^def (test_\w+)", path.read_text()))
    named = set(re.findall(r"test_\w+", (ROOT / "docs/security.md").read_text()))
    assert named
    assert named - known == set()


def test_every_function_is_on_the_page():
    """What each could do that is taken over; a new one has to be thought about."""
    from stacks.workflow.functions import FUNCTIONS

    page = (ROOT / "docs/security.md").read_text()
    table = page.partition("## The functions")[2].partition("\n## ")[0]
    named = [name for row in re.findall(r"(?m)^\| (`.+?) \|", table) for name in row.split(", ")]
    assert sorted(named) == sorted(f"`{name}`" for name in FUNCTIONS)
