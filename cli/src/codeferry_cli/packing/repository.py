"""The files of a git repository, by asking git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codeferry_cli.packing.errors import GitRefused

# Set inside hooks and by some tools; they would make git answer for another repository.
_MISLEADING = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
)
# A file system monitor is a command of the user's; listing must not start daemons.
_COMMAND = ("git", "-c", "core.fsmonitor=false", "ls-files", "-z")
SELECTED = ("-co", "--exclude-standard")
IGNORED = ("-oi", "--directory", "--exclude-standard")


class GitUnusable(Exception):
    """git cannot be asked here: it is not installed, or ``.git`` is no repository."""


@dataclass(frozen=True)
class Listing:
    """``paths`` relative to the directory asked about; those ending in a slash are not files."""

    paths: tuple[bytes, ...]
    warnings: tuple[str, ...]


def list_files(directory: Path, which: Sequence[str] = SELECTED) -> Listing:
    """What ``git ls-files`` says of ``directory``.

    Raises GitUnusable when the ignore files alone must do, GitRefused when the user has
    something to settle with git first.
    """
    try:
        done = subprocess.run(
            [*_COMMAND, *which], cwd=directory, env=_environment(), capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise GitUnusable("git is not installed") from error
    complaint = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0:
        raise _refusal(directory, complaint)
    names = {name for name in done.stdout.split(b"\0") if name}
    return Listing(tuple(names), tuple(f"git: {line}" for line in complaint.splitlines()))


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    return kept | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _refusal(directory: Path, complaint: str) -> Exception:
    if "dubious ownership" in complaint:
        return GitRefused(
            f"git does not trust the repository of {str(directory)!r}: another user owns it.",
            hint="If you do: git config --global --add safe.directory " + _top(directory),
        )
    if "not a git repository" in complaint:
        return GitUnusable(".git is not a repository git can read")
    reason = complaint.splitlines()[-1] if complaint else "it gave no reason"
    return GitRefused(
        f"git cannot list the files of {str(directory)!r}: {reason}.",
        hint="Run git status there to see the same error.",
    )


def _top(directory: Path) -> str:
    owners = (p for p in (directory, *directory.parents) if (p / ".git").exists())
    return f"'{next(owners, directory)}'"
