"""The root of a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeferry_cli.packing import RootMissing, find_root


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, two below ``top``."""
    directory = tmp_path / "top" / "middle" / "deep"
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory)
    return directory


def test_the_top_of_a_repository_is_a_root(deep: Path) -> None:
    """Without a directory that was typed, one with a .git above is the root."""
    (deep.parent.parent / ".git").mkdir()
    assert find_root(None) == deep.parent.parent


def test_worktree_file_counts_as_repository(deep: Path) -> None:
    """The .git file of a worktree or submodule marks a root like the directory does."""
    (deep.parent / ".git").write_text("gitdir: elsewhere\n")
    assert find_root(None) == deep.parent


@pytest.mark.parametrize(
    "marker",
    ["requirements.txt", "setup.py", "pyproject.toml", "Cargo.toml", "package.json", "go.mod"],
)
def test_nearest_marker_is_the_root(deep: Path, marker: str) -> None:
    """The nearest wins, be it a marker file or a repository: a service in a large repository."""
    (deep.parent.parent / "go.mod").touch()
    (deep.parent.parent / ".git").mkdir()
    (deep.parent / marker).touch()
    assert find_root(None) == deep.parent


def test_repository_nearer_than_a_marker_is_the_root(deep: Path) -> None:
    """A marker file above a repository says nothing about it."""
    (deep.parent.parent / "go.mod").touch()
    (deep.parent / ".git").mkdir()
    assert find_root(None) == deep.parent


def test_the_working_directory_is_the_last_resort(deep: Path) -> None:
    """With neither repository nor marker this directory is the root."""
    assert find_root(None) == deep


def test_a_directory_that_was_typed_is_the_root(deep: Path, tmp_path: Path) -> None:
    """Whatever is above it, symlinks resolved."""
    (deep.parent / ".git").mkdir()
    (deep.parent / "go.mod").touch()
    (tmp_path / "link").symlink_to(deep)
    assert find_root(deep) == find_root(Path()) == find_root(tmp_path / "link") == deep


def test_explicit_root_overrides(deep: Path) -> None:
    """--root wins over everything found and typed."""
    (deep.parent / ".git").mkdir()
    assert find_root(None, deep) == find_root(deep.parent, deep) == deep


def test_missing_directory_is_named(deep: Path) -> None:
    """A DIR or --root that is no directory is refused by name."""
    with pytest.raises(RootMissing, match="absent"):
        find_root(deep, deep / "absent")
    with pytest.raises(RootMissing, match="absent"):
        find_root(deep / "absent")
