"""Errors that end a run: codes, messages and hints; also a cancel, which is a signal."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import Any

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

HINTS = {
    "archive_changed": "Start the run again.",
    "archive_invalid": "Pack and upload it again.",
    "archive_missing": "Start the run again.",
    "archive_too_large": "Pack it with ferry, or state archive.unpacked_bytes and unpacked_files.",
    "archive_refused": "It may hold files, directories and links that stay inside, each once.",
    "arguments_too_long": "Put long arguments into a file of the project.",
    "checksum_mismatch": "Pack and upload it again.",
    "command_not_executable": "chmod +x it, or name its interpreter before it.",
    "command_not_found": "Write ./NAME for a program of the project, or install it.",
    "agent_outdated": "Update it (SSM document AWS-UpdateSSMAgent), or run without variables.",
    "digest_mismatch": "Pack and upload it again.",
    "disk_full": "Free space or inodes, or lower options.keep_releases.",
    "download_failed": "The instance needs a route to S3: NAT, a proxy or an endpoint.",
    "environment_invalid": "Variables are names and texts, at most 256 KB in all.",
    "environment_unavailable": "Start the run again.",
    "exit_code": "See what it printed: ferry logs RUN",
    "expectation_unmet": "See what the archive holds and what expect asks for.",
    "health_failed": "See what it printed: ferry logs RUN",
    "install_failed": "See what it printed: ferry logs RUN",
    "interpreter_missing": "Install it on the instance, or name another in the #! line.",
    "interrupted": "The instance restarted, or the run was killed. Start a new run.",
    "locked": "Wait for the run that holds the project, or cancel it.",
    "manifest_mismatch": "Pack and upload it again.",
    "noexec": "Name its interpreter before it, or mount that filesystem with exec.",
    "out_of_memory": "Let it use less memory, or take a larger instance.",
    "owner_differs": "Name that user in options.user, or have root move it out of the way.",
    "payload_invalid": "Document and functions differ: deploy the stage again.",
    "permission_denied": "Run Command normally runs as root.",
    "persist_blocked": "Make it a directory, or take it out of options.persist.",
    "project_missing": "Name the project as ferry push did, or push it first.",
    "releases_elsewhere": "Put the whole project directory on the other disk, by link or mount.",
    "release_missing": "Push the release again, or name one that is there with --to.",
    "signature_expired": "Push it again.",
    "signature_invalid": "Push it again; if it stays so, somebody has changed what was sent.",
    "signature_missing": "This stage takes signed releases only: push it with ferry.",
    "signature_replayed": "Push it again, or go back with ferry rollback.",
    "signature_target": "Push it to these instances.",
    "script_line_endings": "Save it with Unix line endings (LF).",
    "script_missing": "The archive must hold the script that command names.",
    "script_not_executable": "chmod +x it and start again.",
    "script_without_interpreter": "Begin it with a line like #!/bin/sh.",
    "timed_out": "Allow more with options.timeout_seconds.",
    "url_expired": "Start the run again; else the signer lacks s3:GetObjectVersion.",
    "user_unknown": "Name a user of the instance in options.user, or none.",
    "venv_missing": "apt-get install python3-venv (Debian, Ubuntu), or put uv on the instance.",
    "wrong_architecture": "Build it for the instance's processor.",
}
ERRNO_CODES = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EXDEV: "releases_elsewhere",
    errno.EMFILE: "too_many_open_files",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EIO: "disk_failing",
}


class RunFailed(Exception):
    """What ends a run, named by ``code`` (a class for each would be long, for one line each)."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.hint = code, hint or HINTS.get(code, "")

    def fields(self) -> dict[str, str]:
        """The error of a result."""
        return {"code": self.code, "message": str(self), "hint": self.hint}


class Interrupted(Exception):
    """A transfer broke off in a way that trying again may mend."""


def invalid(message: str) -> RunFailed:
    return RunFailed("archive_invalid", f"The archive {message}.")


def refused(message: str) -> RunFailed:
    return RunFailed("archive_refused", f"The archive {message}.")


def too_large(message: str) -> RunFailed:
    return RunFailed("archive_too_large", f"The archive {message}.")


def shown(path: bytes) -> str:
    """A name for a message."""
    name = path.decode("utf-8", "backslashreplace")
    return repr(name if len(name) <= 120 else name[:117] + "...")


def first(paths: Iterable[bytes]) -> str:
    ordered = sorted(paths)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(map(shown, ordered[:3])) + more


def log(words: str) -> None:
    if os.environ.get("CODEFERRY_VERBOSE"):  # else it would take the result line's room
        print(words, file=sys.stderr, flush=True)


def reached(point: str) -> None:
    """Tests only: die as by kill -9 at CODEFERRY_CRASH_AT."""
    if os.environ.get("CODEFERRY_CRASH_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def failure_from(error: Exception, doing: str, secrets: Iterable[str] = ()) -> RunFailed:
    """The failure that an error means; a defect of ours with its traceback on stderr, in which
    ``secrets`` are left out."""
    if isinstance(error, RunFailed):
        return error
    if isinstance(error, OSError):
        code = ERRNO_CODES.get(error.errno or 0, "system_error")
        return RunFailed(code, f"{error.strerror or type(error).__name__} while {doing}.")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for secret in filter(None, secrets):
        trace = trace.replace(secret, "<url>")
    print(trace, file=sys.stderr)
    at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"line {at.lineno} of {os.path.basename(at.filename)}"  # noqa: PTH119 - a name
    return RunFailed("internal", f"{type(error).__name__} at {where}.")


def raise_cancelled(number: int, _: object) -> None:
    raise RunFailed("cancelled", f"The run was cancelled ({signal.Signals(number).name}).")


def on_cancel(action: Any) -> None:
    for each in ENDING_SIGNALS:
        signal.signal(each, action)
