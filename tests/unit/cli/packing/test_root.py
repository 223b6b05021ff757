"""Where a project begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeferry_cli.packing import RootMissing, find_root


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    directory = tmp_path / "top" / "middle" / "deep"
    directory.mkdir(parents=True)
    return directory


def test_repository_wins_over_nearer_markers(deep: Path) -> None:
    """A .git anywhere above beats a marker file that is nearer."""
    (deep.parent.parent / ".git").mkdir()
    (deep / "pyproject.toml").touch()
    assert find_root(deep) == deep.parent.parent


def test_worktree_file_counts_as_repository(deep: Path) -> None:
    """The .git file of a worktree or submodule marks a root like the directory does."""
    (deep.parent / ".git").write_text("gitdir: elsewhere\n")
    assert find_root(deep) == deep.parent


@pytest.mark.parametrize(
    "marker",
    ["requirements.txt", "setup.py", "pyproject.toml", "Cargo.toml", "package.json", "go.mod"],
)
def test_nearest_marker_is_the_root(deep: Path, marker: str) -> None:
    """Without a repository the nearest directory with a marker file is the root."""
    (deep.parent.parent / "go.mod").touch()
    (deep.parent / marker).touch()
    assert find_root(deep) == deep.parent


def test_start_directory_is_the_last_resort(deep: Path) -> None:
    """With neither repository nor marker the start directory is the root."""
    assert find_root(deep) == deep


def test_explicit_root_overrides(deep: Path) -> None:
    """--root wins over everything found."""
    (deep.parent / ".git").mkdir()
    assert find_root(deep, deep) == deep


def test_script_starts_in_its_directory_through_links(deep: Path, tmp_path: Path) -> None:
    """A start that is a file begins in its directory, symlinks resolved."""
    (deep / "job.sh").touch()
    (tmp_path / "link").symlink_to(deep)
    assert find_root(tmp_path / "link" / "job.sh") == deep


def test_missing_directory_is_named(deep: Path) -> None:
    """A start or --root that is no directory is refused by name."""
    with pytest.raises(RootMissing, match="absent"):
        find_root(deep, deep / "absent")
    with pytest.raises(RootMissing, match="absent"):
        find_root(deep / "absent")
