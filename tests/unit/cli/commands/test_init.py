"""`ferry init`: the sample configuration, never over a file that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_init_writes_a_file_the_next_command_reads(ferry: Any, project: Path) -> None:
    """The project's name comes from its directory."""
    answer = ferry("init", str(project))
    assert answer.exit == 0
    assert 'project = "demo"' in (project / "codeferry.toml").read_text()
    assert ferry("pack", str(project), "--list", "--json").json()["project"] == "demo"


def test_init_never_overwrites_without_force(ferry: Any, project: Path) -> None:
    """A file that is there stays, exit 2; --force replaces it."""
    path = project / "codeferry.toml"
    path.write_text("# mine\n")
    answer = ferry("init", str(project), "--json")
    assert (answer.exit, answer.json()["error"]["code"]) == (2, "config_exists")
    assert path.read_text() == "# mine\n"
    assert ferry("init", str(project), "--force").exit == 0
    assert "# mine" not in path.read_text()


def test_init_dry_run_prints_the_file_and_writes_none(ferry: Any, project: Path) -> None:
    """What would be written goes to stdout."""
    answer = ferry("init", str(project), "--dry-run")
    assert 'project = "demo"' in answer.out
    assert not (project / "codeferry.toml").exists()
