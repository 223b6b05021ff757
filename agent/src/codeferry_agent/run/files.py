"""Files and directories that a crash or a full disk does no harm to, and their owner.

Where an owner can write, they may exchange anything while we are root: no link of theirs is
followed, and only what is new is given to them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Optional

from codeferry_agent.run.errors import RunFailed, log, shown

CHUNK = 1 << 20
LEVELS = 10_000  # of a tree that are removed by one run
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# What only we can rename: a link there is the administrator's, to a larger disk perhaps.
OURS = os.O_RDONLY | os.O_DIRECTORY
LIBC = ctypes.CDLL(None, use_errno=True)
Owner = Optional[tuple[int, int]]  # noqa: UP045 - evaluated, and Python 3.9 has no | for types


@contextlib.contextmanager
def opened(path: Path, how: int = OURS) -> Iterator[int]:
    descriptor = os.open(path, how)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def file_digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def sync_filesystem(directory: Path) -> None:
    with opened(directory) as descriptor:
        if LIBC.syncfs(descriptor) != 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False where kernel or filesystem cannot."""
    rename, here, swap = getattr(LIBC, "renameat2", None), -100, 2
    return rename is not None and rename(here, bytes(one), here, bytes(other), swap) == 0


def sync_directory(directory: Path) -> None:
    with opened(directory) as descriptor:
        os.fsync(descriptor)


def flush(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def write_json(path: Path, document: Any) -> None:
    """Replace a small file of ours; a reader or a crash sees the old or the new one."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump(document, file)
        flush(file)
    temporary.replace(path)
    sync_directory(path.parent)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def discard(path: Path) -> None:
    """Remove a tree, or a file, and never raise; what resists stays for the next run.

    However deep it is, and whatever its owner does to it meanwhile: what a directory in it holds is
    moved up to its top, a level at a time, and by descriptors that follow no link.
    """
    try:
        for _ in range(LEVELS):
            if removed(path):
                return
            with opened(path, DIRECTORY) as top:
                gone = [lift(name, top) for name in os.listdir(top)]  # noqa: PTH208
            if not any(gone):
                break
    except FileNotFoundError:
        return
    except OSError as error:
        log(f"{path.name}: {error.strerror}")
    log(f"Could not remove all of {path.name}")


def lift(name: str, top: int) -> bool:
    """Remove what has this name in ``top``, its directories moved to ``top``; whether that went."""
    if removed(name, top):
        return True
    with contextlib.suppress(OSError):
        below = os.open(name, DIRECTORY, dir_fd=top)
        try:
            for each in os.listdir(below):  # noqa: PTH208 - of a descriptor
                if not removed(each, below):
                    with contextlib.suppress(OSError):
                        os.rename(each, os.urandom(16).hex(), src_dir_fd=below, dst_dir_fd=top)
        finally:
            os.close(below)
    return removed(name, top)


def removed(name: str | Path, at: int | None = None) -> bool:
    """Remove a file, link or empty directory; whether it is gone."""
    for remove in (os.unlink, os.rmdir):
        try:
            remove(name, dir_fd=at)
        except FileNotFoundError:
            return True
        except OSError:
            continue
        return True
    return False


def reserve(path: Path, size: int) -> None:
    """Take room on the disk for what will be ``fill``ed."""
    with spare(path).open("wb") as file:
        file.write(b" " * size)
        flush(file)


def fill(path: Path, words: str) -> None:
    """Replace a file at once, in the room reserved for it if there is any."""
    place = spare(path)
    place.touch(mode=0o600)
    with place.open("r+b") as file:
        file.write(words.encode())
        file.truncate()
        flush(file)
    place.replace(path)
    sync_directory(path.parent)


def spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.spare")


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
            raise RunFailed("user_unknown", f"The instance has no user {user!r}.") from None
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
        raise RunFailed("owner_differs", message)


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
    is given to them. NotADirectoryError where a link or file is in the way; RunFailed where a
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
