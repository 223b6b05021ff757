"""Where a command is typed: by whom, on which machine, in which project."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from pathlib import Path

from codeferry_cli.packing import find_root
from codeferry_contracts.names import project_name
from codeferry_contracts.request import StartedBy


@dataclass(frozen=True)
class Here:
    """A project on this machine, and who works on it."""

    project: str
    by: StartedBy

    def is_mine(self, by: StartedBy | None) -> bool:
        """Whether this person on this machine is who asked for a run."""
        return by is not None and (by.user, by.host) == (self.by.user, self.by.host)

    def is_anothers(self, by: StartedBy | None) -> bool:
        """Whether somebody else is; nobody is named by an upload, the console, an old ferry."""
        return by is not None and not self.is_mine(by)


def here(project: str | None = None) -> Here:
    """This directory's project, or the one named."""
    root = find_root(None)
    return Here(project or project_name(root.name), started_by(root))


def started_by(root: Path) -> StartedBy:
    """Who goes with a run of the project at ``root``."""
    return StartedBy(_line(_user()), _line(socket.gethostname()), _line(str(root)))


def who(by: StartedBy | None) -> str:
    """``user@host`` as people read it; empty where nobody is named."""
    if by is None or not by.user:
        return ""
    host = by.host.partition(".")[0]
    return f"{by.user}@{host}" if host else by.user


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in some containers
        return ""


def _line(text: str) -> str:
    """``text`` as a request holds it: one line of Unicode."""
    known = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in known)[:1024]
