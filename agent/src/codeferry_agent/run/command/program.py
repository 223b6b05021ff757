"""A program: the account it runs as, its start, and why it did not start."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from codeferry_agent.run.command.processes import PR_SET_PDEATHSIG, prctl
from codeferry_agent.run.errors import ERRNO_CODES, RunFailed, shown


class Account(NamedTuple):
    """Who a program runs as; ``ids`` is None where we cannot or need not become them."""

    name: str
    home: str
    shell: str
    ids: tuple[int, int] | None

    @property
    def groups(self) -> list[int]:
        return os.getgrouplist(self.name, self.ids[1]) if self.ids else []


def account_of(owner: tuple[int, int] | None, environ: Mapping[str, str]) -> Account:
    """The owner's account, or our own with the home directory we were given."""
    try:
        entry = pwd.getpwuid(owner[0] if owner else os.geteuid())
    except KeyError:  # of a user by number only
        return Account(str(os.geteuid()), environ.get("HOME", "/"), "/bin/sh", owner)
    home = entry.pw_dir if owner else environ.get("HOME", entry.pw_dir)
    return Account(entry.pw_name, home, entry.pw_shell or "/bin/sh", owner)


def become(account: Account) -> None:
    """Run as the account from here on; as ourselves where we cannot or need not become it."""
    if account.ids:
        os.setgroups(account.groups)
        os.setgid(account.ids[1])
        os.setuid(account.ids[0])


def spawn(
    arguments: Sequence[str], directory: Path, variables: Mapping[str, str], account: Account
) -> tuple[int, int]:
    """Start a program in its own session; its pid and the pipe of both its outputs."""
    ids: dict[str, object] = {}
    if account.ids:
        ids = {"user": account.ids[0], "group": account.ids[1], "extra_groups": account.groups}
    ours, its = os.pipe()
    try:
        started = subprocess.Popen(  # type: ignore[call-overload]
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            cwd=directory,
            env=dict(variables),
            umask=0o022,
            start_new_session=True,
            preexec_fn=_die_with_supervisor,  # after setuid, which would undo it
            **ids,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(its)
    started.returncode = 0  # we reap it, not the object
    os.set_blocking(ours, False)
    return started.pid, ours


def _die_with_supervisor() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Program:
    """A program by the name it was given, where it would be started."""

    def __init__(self, noun: str, name: str, directory: Path, search: str) -> None:
        self.noun, self.search = noun, search
        self.shown = shown(os.fsencode(name))
        found = name if "/" in name or noun == "script" else shutil.which(name, os.F_OK, search)
        self.path = directory / found if found else None

    def explain(self, error: OSError) -> RunFailed:
        """What the system's refusal means."""
        if error.errno == errno.E2BIG:
            return self.refused("arguments_too_long", "has too many or too long arguments")
        if not self.path or not self.path.exists():
            return self.refused("command_not_found", "was not found")
        fault = self.fault()
        if fault:
            return fault
        if error.errno == errno.EACCES:
            return self.refused(f"{self.noun}_not_executable", "may not be executed")
        if error.errno == errno.ENOEXEC:
            return self.refused("wrong_architecture", "is not for this instance's processor")
        code = ERRNO_CODES.get(error.errno or 0, "system_error")
        return self.refused(code, f"could not be started: {error.strerror}")

    def check(self) -> None:
        """Refuse a script that cannot be run."""
        if not self.path or not self.path.is_file():
            raise self.refused("script_missing", "is not in the archive")
        fault = self.fault()
        if fault:
            raise fault

    def fault(self) -> RunFailed | None:
        """What is wrong with the file itself, as far as can be read."""
        assert self.path is not None
        state = self.path.stat()
        if not stat.S_ISREG(state.st_mode) or not state.st_mode & 0o111:
            return self.refused(f"{self.noun}_not_executable", "is not executable")
        if os.statvfs(self.path).f_flag & os.ST_NOEXEC:
            return self.refused("noexec", "lies on a filesystem that is mounted noexec")
        head = head_of(self.path)
        if head.startswith(b"\x7fELF"):
            return None
        if not head.startswith(b"#!"):
            return self.refused("script_without_interpreter", "has no #! line")
        if head.endswith(b"\r"):
            return self.refused("script_line_endings", "has Windows line endings in its #! line")
        missing = self.missing_interpreter(head[2:].decode("utf-8", "surrogateescape").split())
        if missing is None:
            return None
        return self.refused("interpreter_missing", f"needs {missing}, which is not there")

    def missing_interpreter(self, words: list[str]) -> str | None:
        """What the #! line names and the instance lacks."""
        if not words or not Path(words[0]).exists():
            return words[0] if words else "an interpreter"
        if Path(words[0]).name == "env":
            named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            if named and not shutil.which(named[0], path=self.search):
                return named[0]
        return None

    def refused(self, code: str, words: str) -> RunFailed:
        return RunFailed(code, f"{self.shown} {words}.")


def head_of(path: Path) -> bytes:
    """The first line, as far as the kernel reads it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 256).split(b"\n")[0]
    finally:
        os.close(descriptor)
