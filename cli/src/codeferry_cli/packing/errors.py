"""Errors of packing, and paths and lists as their messages show them.

CodeferryError
└── PackError
    ├── RootMissing         the directory to pack is not there
    ├── NoFiles             nothing is left to pack
    ├── GitRefused          git is there and will not list the files
    ├── PatternsUnreadable  ignore patterns that only git reads, and there is no git
    ├── PathsImpossible     names that no instance can hold
    ├── LinksLeaveTree      symlinks that would point out of the release
    ├── FilesUnreadable     files or directories the user may not read
    ├── SecretsFound        credentials among the files
    └── PackAgain           a large file shrank under the reader: start over

Paths are shown with harmful characters and bytes that are not UTF-8 escaped; content never is
shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from codeferry_cli.errors import REFUSED, USAGE
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.escaping import one_line

_MOST_SHOWN = 20


class PackError(CodeferryError):
    """The tree cannot be packed as asked."""

    code = "pack_failed"
    exit_code = REFUSED


class RootMissing(PackError):
    """The start directory or ``--root`` is not an existing directory."""

    code = "root_missing"
    exit_code = USAGE


class NoFiles(PackError):
    """The selection is empty; ``message`` says what was looked at."""

    code = "no_files"


class GitRefused(PackError):
    """git is installed, the repository is there, and git will not list its files."""

    code = "git_refused"


class PatternsUnreadable(PackError):
    """Without git, patterns that cannot be read as it would; each by file and line."""

    code = "patterns_unreadable"


class PathsImpossible(PackError):
    """Paths, link targets or a number of files that no instance can take."""

    code = "paths_impossible"


class LinksLeaveTree(PackError):
    """Symlinks lead out of the tree; all of them are named."""

    code = "link_leaves_tree"


class FilesUnreadable(PackError):
    """Permission is missing for some files or directories; all of them are named."""

    code = "files_unreadable"


class SecretsFound(PackError):
    """Credentials among the files; each path with its reason, never a value."""

    code = "secrets_found"


class PackAgain(PackError):
    """The bytes already sent can no longer become a true archive; begin a new one.

    ``path`` is the file that became shorter, or unreadable, after its header was written.
    """

    code = "file_changed"

    def __init__(self, path: bytes) -> None:
        super().__init__(
            f"{show(path)} became shorter while it was being packed.",
            hint="Pack again when nothing writes to it, or exclude it in .ferryignore.",
        )
        self.path = path


def unreadable(reasons: Mapping[bytes, str]) -> FilesUnreadable:
    """The error that names every path with why it cannot be read."""
    lines = [f"{show(path)} ({why})" for path, why in sorted(reasons.items())]
    return FilesUnreadable(
        f"{len(lines)} files or directories cannot be read:{listing(lines)}",
        hint="Give yourself permission, or exclude them in .gitignore or .ferryignore.",
    )


def path_text(path: bytes) -> str:
    """``path`` as text; bytes that are not UTF-8 as surrogate escapes."""
    return path.decode("utf-8", "surrogateescape")


def show(path: bytes) -> str:
    """``path`` for a person: on one line, with what is harmful escaped."""
    return one_line(path_text(path))


def listing(lines: list[str]) -> str:
    """The lines indented under a message; the first of a long list and how many follow."""
    shown = [f"\n  {line}" for line in lines[:_MOST_SHOWN]]
    rest = len(lines) - _MOST_SHOWN
    return "".join(shown) + (f"\n  … and {rest} more" if rest > 0 else "")
