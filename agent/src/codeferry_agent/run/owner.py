"""Whose the tree is, and directories made for them where they can write while we are root."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from codeferry_agent.run.disk import DIRECTORY, OURS
from codeferry_agent.run.failures import Refused

Owner = Optional[tuple[int, int]]  # noqa: UP045 - evaluated, and Python 3.9 has no | for types


def give(owner: Owner, root: int, path: bytes) -> None:
    if owner:
        os.chown(path, *owner, dir_fd=root, follow_symlinks=False)


def give_new(owner: Owner, root: int, name: bytes) -> None:
    """As ``give``, in a directory whose owner may exchange what we have just made there.

    What is theirs afterwards is a link, or an empty directory, that was ours: nothing else.
    """
    if not owner:
        return
    made = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=root)
    try:
        state, itself = os.fstat(made), f"/proc/self/fd/{made}"
        empty = stat.S_ISDIR(state.st_mode) and not os.listdir(itself)  # noqa: PTH208
        if state.st_uid == os.geteuid() and (empty or stat.S_ISLNK(state.st_mode)):
            os.chown(itself, *owner)
    finally:
        os.close(made)


def find_owner(user: str) -> Owner:
    """The user asked for, else the first login user; None when not root or there is none."""
    if os.geteuid() != 0:
        return None
    try:
        uid = int(os.environ.get("CODEFERRY_LOGIN_UID", "1000"))
        account = pwd.getpwnam(user) if user else pwd.getpwuid(uid)
    except KeyError:
        if user:
            raise Refused("user_unknown", f"The instance has no user {user!r}.") from None
        return None
    login = user or not account.pw_shell.endswith(("/nologin", "/false"))
    return (account.pw_uid, account.pw_gid) if login else None


@contextlib.contextmanager
def parent_of(top: Path, path: bytes, owner: Owner) -> Iterator[tuple[int, bytes]]:
    """The directory of ``path`` below ``top``, made if needed, and the last name.

    The owner can write there while we are root: no link is followed, and only what is new
    is given to them. NotADirectoryError where a link or file is in the way.
    """
    *directories, name = path.split(b"/")
    at = os.open(top, OURS)
    try:
        for directory in directories:
            make_directory(at, directory, owner)
            below = os.open(directory, DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        yield at, name
    finally:
        os.close(at)


def make_directory(at: int, name: bytes, owner: Owner) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=at)
        give_new(owner, at, name)
