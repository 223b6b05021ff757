"""Why the matcher is our own: pathspec, the library for it, is not yet git.

Should one of these fail because pathspec has come to agree with git, it is time to use it
(docs/decisions/0008).
"""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pathspec
import pytest

from codeferry_cli.packing import select


def git_ignores(directory: Path, name: str) -> bool:
    subprocess.run(["git", "init", "-q", "."], cwd=directory, check=True)
    asked = subprocess.run(
        ["git", "check-ignore", "-q", "--no-index", name], cwd=directory, check=False
    )
    return asked.returncode == 0


def pathspec_ignores(pattern: str, name: str) -> bool | None:
    """Its verdict; None when it cannot read the pattern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pathspec.GitIgnoreSpec.from_lines([pattern]).match_file(name)
        except Exception:  # noqa: BLE001 - each version raises something else
            return None


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("[[:alpha:]].txt", "a.txt"), ("[[:digit:]]*", "1x"), ("!", "x"), ("x\\  ", "x ")],
)
def test_git_and_the_matcher_agree_where_pathspec_does_not(
    tmp_path: Path, pattern: str, name: str
) -> None:
    """A tree without a repository is selected as git would, where pathspec would not."""
    (tmp_path / ".gitignore").write_text(f"{pattern}\n")
    (tmp_path / name).write_text("")
    ours = name.encode() not in {file.path for file in select(tmp_path).files}
    git = git_ignores(tmp_path, name)
    assert ours == git
    assert pathspec_ignores(pattern, name) != git
