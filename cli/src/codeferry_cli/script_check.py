"""Whether a file can be run as a script, before anything of it goes anywhere."""

from __future__ import annotations

import shlex
from pathlib import Path

from codeferry_cli.errors import ScriptRefused
from codeferry_cli.options.types import is_text

_FIRST_BYTES = 4096


def require_script(script: Path) -> None:
    """Raise ScriptRefused for what could only fail on every instance."""
    if not script.exists():
        raise _refused("script_missing", f"The script '{script}' does not exist.")
    if not script.is_file():
        raise _refused(
            "script_not_a_file",
            f"The script '{script}' is not a file.",
            "To run a command in a project: ferry run TARGET DIR -- CMD",
        )
    if not is_text(script.name):
        raise _refused("script_name", f"The name of the script '{script}' is not UTF-8.")
    quoted = shlex.quote(str(script))
    if not script.stat().st_mode & 0o111:
        raise _refused(
            "script_not_executable",
            f"The script '{script}' is not executable.",
            f"Make it so: chmod +x {quoted}",
        )
    _require_first_line(script, quoted)


def _require_first_line(script: Path, quoted: str) -> None:
    with script.open("rb") as file:
        line = file.read(_FIRST_BYTES).partition(b"\n")[0]
    if not line.startswith(b"#!"):
        raise _refused(
            "script_without_interpreter",
            f"The script '{script}' does not say which program runs it.",
            "Let its first line be, for example: #!/bin/sh or #!/usr/bin/env python3",
        )
    if line.endswith(b"\r"):
        raise _refused(
            "script_line_endings",
            f"The #! line of '{script}' ends with a carriage return (Windows line ends):"
            " no system finds an interpreter of that name.",
            f"Convert it: sed -i 's/\\r$//' {quoted}",
        )


def require_files(directory: Path) -> None:
    """Raise ScriptRefused unless it is a directory."""
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise _refused(
            "files_missing",
            f"The files directory '{directory}' {what}.",
            "Name one with --files DIR, or none with --no-files.",
        )


def _refused(code: str, message: str, hint: str = "") -> ScriptRefused:
    return ScriptRefused(message, hint=hint or "Name another, or rename it.", code=code)
