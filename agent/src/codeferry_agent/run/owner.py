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
from codeferry_agent.run.failures import Refused, shown

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


def uid_of(owner: Owner) -> int:
    return owner[0] if owner else os.geteuid()


def refuse_foreign(state: os.stat_result, owner: Owner, path: bytes) -> None:
    """Nobody runs with what a third can change: only root's is as good as their own."""
    if os.geteuid() == 0 and state.st_uid not in (0, uid_of(owner)):
        whose, wanted = account_name(state.st_uid), account_name(uid_of(owner))
        message = f"{shown(path)} belongs to {whose}, and this run is {wanted}'s."
        raise Refused("owner_differs", message)


def account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


@contextlib.contextmanager
def acting_in(at: int, owner: Owner) -> Iterator[bool]:
    """In a directory of the owner's act as they, and say so: a name given away there may by then
    stand for something else.

    By the effective ids alone, so that they can neither signal nor trace us meanwhile. A supervisor
    would lose its PDEATHSIG by it.
    """
    if not owner or owner[0] in (0, os.geteuid()) or os.fstat(at).st_uid != owner[0]:
        yield False
        return
    group = os.getegid()
    try:
        os.setegid(owner[1])
        os.seteuid(owner[0])
        yield True
    finally:
        os.seteuid(0)
        os.setegid(group)


@contextlib.contextmanager
def parent_of(top: Path, path: bytes, owner: Owner) -> Iterator[tuple[int, bytes]]:
    """The directory of ``path`` below ``top``, made if needed, and the last name.

    The owner can write there while we are root: no link is followed, and only what is new
    is given to them. NotADirectoryError where a link or file is in the way; Refused where a
    directory is another user's.
    """
    *directories, name = path.split(b"/")
    at = os.open(top, OURS)
    try:
        for directory in directories:
            refuse_foreign(os.fstat(at), owner, path)
            make_directory(at, directory, owner)
            below = os.open(directory, DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        refuse_foreign(os.fstat(at), owner, path)
        yield at, name
    finally:
        os.close(at)


def make_directory(at: int, name: bytes, owner: Owner) -> None:
    with acting_in(at, owner) as already, contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=at)
        if not already:
            give_new(owner, at, name)
