"""A script and its supporting files: check them, and select them for the archive."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from codeferry_cli.errors import ScriptRefused
from codeferry_cli.options.types import is_text
from codeferry_cli.packing.selection import (
    File,
    Selection,
    keep_private,
    packed_mode,
    require_possible,
    select_all,
)

# Paths are bytes here, as the file system has them; pathlib cannot hold those.
# ruff: noqa: PTH116, PTH118


FILES = "files"  # where supporting files are in the archive, whatever their directory is called


def select_script(
    script: Path, files: Path | None = None, allow_secrets: Sequence[str] = ()
) -> Selection:
    """The script at the archive's root, and everything in ``files`` below ``files/``.

    Both may be links themselves; ``allow_secrets`` are paths as the archive has them.
    Raises LinksLeaveTree, FilesUnreadable or PathsImpossible.
    """
    supporting = select_all(files.resolve()) if files else None
    allowed = frozenset(os.fsencode(os.path.normpath(path)) for path in allow_secrets)
    chosen = [_script_file(script), *(_moved(supporting) if supporting else ())]
    require_possible(chosen)
    return Selection(
        root=script.parent.resolve(),
        files=keep_private(sorted(chosen), allowed),
        warnings=supporting.warnings if supporting else (),
        left_out=supporting.left_out if supporting else (),
        allowed=allowed,
    )


def _script_file(script: Path) -> File:
    source = os.fsencode(script.resolve())
    found = os.stat(source)
    name = os.fsencode(script.name)
    return File(name, packed_mode(found.st_mode), found.st_size, found.st_mtime_ns, source=source)


def _moved(supporting: Selection) -> list[File]:
    prefix, below = os.fsencode(supporting.root), os.fsencode(FILES) + b"/"
    return [
        file._replace(path=below + file.path, source=os.path.join(prefix, file.path))
        for file in supporting.files
    ]


_FIRST_BYTES = 4096


def require_script(script: Path) -> None:
    """Raise ScriptRefused for what could only fail on every instance."""
    if not script.exists():
        raise _script_refused("script_missing", f"The script '{script}' does not exist.")
    if not script.is_file():
        raise _script_refused(
            "script_not_a_file",
            f"The script '{script}' is not a file.",
            "To run a command in a project: ferry run TARGET DIR -- CMD",
        )
    if not is_text(script.name):
        raise _script_refused("script_name", f"The name of the script '{script}' is not UTF-8.")
    quoted = shlex.quote(str(script))
    if not script.stat().st_mode & 0o111:
        raise _script_refused(
            "script_not_executable",
            f"The script '{script}' is not executable.",
            f"Make it so: chmod +x {quoted}",
        )
    _require_first_line(script, quoted)


def _require_first_line(script: Path, quoted: str) -> None:
    with script.open("rb") as file:
        line = file.read(_FIRST_BYTES).partition(b"\n")[0]
    if not line.startswith(b"#!"):
        raise _script_refused(
            "script_without_interpreter",
            f"The script '{script}' does not say which program runs it.",
            "Let its first line be, for example: #!/bin/sh or #!/usr/bin/env python3",
        )
    if line.endswith(b"\r"):
        raise _script_refused(
            "script_line_endings",
            f"The #! line of '{script}' ends with a carriage return (Windows line ends):"
            " no system finds an interpreter of that name.",
            f"Convert it: sed -i 's/\\r$//' {quoted}",
        )


def require_files(directory: Path) -> None:
    """Raise ScriptRefused unless it is a directory."""
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise _script_refused(
            "files_missing",
            f"The files directory '{directory}' {what}.",
            "Name one with --files DIR, or none with --no-files.",
        )


def _script_refused(code: str, message: str, hint: str = "") -> ScriptRefused:
    return ScriptRefused(message, hint=hint or "Name another, or rename it.", code=code)
