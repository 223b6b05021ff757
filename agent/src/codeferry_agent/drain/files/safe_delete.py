"""Delete a name only if it still stands for the file whose bytes are in S3.

Between looking at a name and unlinking it anybody may rename another file over it, and
unlink would take that one. So the entry is first renamed, in its own directory, to a name
nobody else uses: whatever it stands for now, it cannot be replaced any more. If it is the
file, nothing has been written to it and nobody asks to, it is unlinked; if not, it gets its
name back.

A writer that had found the file by its name just before the renaming, and is still on its way
through open(2), reaches the lease within moments; so a claim rests ``REST_SECONDS`` before
the last look.

Killed in between, the claim stays, and ``restore`` gives it its name back at the next start.
If something new has that name by then, the claim is drained first, under the same key."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress

from codeferry_agent.drain.errors import FileBusy, FileChanged
from codeferry_agent.drain.files.open_file import OpenFile
from codeferry_agent.drain.files.scan import OWN_PREFIX, Directory, Listener, OnError, Place, files

REST_SECONDS = 0.05
MARK = f"{OWN_PREFIX}claim"
_PREFIX = f"{MARK}."
_LONGEST_NAME = 255  # bytes, on every filesystem in use
# Answers of a filesystem that has no hard links, or none for this file.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


def _fits(name: str) -> bool:
    return len(os.fsencode(_PREFIX + name)) <= _LONGEST_NAME


def claim_place(file: Place) -> Place:
    """Where a claim on ``file`` is: beside it, under a prefix.

    A name too long for the prefix is claimed into a directory instead, which is made.
    """
    if _fits(file.name):
        return Place(file.directory, _PREFIX + file.name)
    with suppress(FileExistsError):
        os.mkdir(MARK, 0o700, dir_fd=file.directory.descriptor)
    return Place(file.directory.below(MARK), file.name)


def original_place(claim: Place) -> Place | None:
    """What ``claim`` is a claim on; None when it is none. The reverse of ``claim_place``."""
    directory, name = claim
    if name.startswith(_PREFIX):
        return Place(directory, name.removeprefix(_PREFIX))
    if directory.path.endswith(f"/{MARK}"):
        return Place(directory.above(), name)
    return None


def left_over(file: Place) -> bool:
    """Whether there is a claim on ``file`` that was left over."""
    if _fits(file.name):
        return Place(file.directory, _PREFIX + file.name).status() is not None
    try:
        return Place(file.directory.below(MARK), file.name).status() is not None
    except FileNotFoundError:
        return False


class Claim:
    """A file on its way out, under a name of ours; ends by ``settle``."""

    def __init__(self, file: OpenFile) -> None:
        """Claim the file. Raises FileChanged or FileBusy, with nothing done, or OSError."""
        self.file = file
        here = file.place
        if not file.is_at(here):
            raise FileChanged("It changed while it went up.")
        if not file.unwritten():
            raise FileBusy("Somebody opened it for writing while it went up.")
        self._again = original_place(here) is not None
        self._place = here if self._again else _renamed(here, claim_place(here))

    def settle(self) -> None:
        """Unlink it if it is the file and unwritten, else give the name back.

        Raises FileChanged or FileBusy when it was not unlinked.
        """
        same = self.file.is_at(self._place, renamed=True)
        if same and self.file.unwritten():
            _unlink(self._place)
            return
        if not self._again:
            give_back(self._place)
        if same:
            raise FileBusy("Somebody wanted to write to it at the last moment.")
        raise FileChanged("Another file took its name at the last moment.")


def _renamed(old: Place, new: Place) -> Place:
    try:
        os.rename(
            old.name,
            new.name,
            src_dir_fd=old.directory.descriptor,
            dst_dir_fd=new.directory.descriptor,
        )
    except FileNotFoundError:
        raise FileChanged("It is gone.") from None
    return new


def _unlink(claim: Place) -> None:
    os.unlink(claim.name, dir_fd=claim.directory.descriptor)
    if not claim.name.startswith(_PREFIX):
        with suppress(OSError):  # other claims are still in it
            os.rmdir(f"../{MARK}", dir_fd=claim.directory.descriptor)


def give_back(claim: Place) -> bool:
    """Rename a claim to what it is a claim on, unless something has that name.

    False when something has; the claim then stays.
    """
    name = original_place(claim)
    assert name is not None
    try:
        _link(claim, name)
    except FileExistsError:
        if not _same_file(claim, name):
            return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _give_back_without_links(claim, name)
    _unlink(claim)
    return True


def _link(old: Place, new: Place) -> None:
    os.link(
        old.name,
        new.name,
        src_dir_fd=old.directory.descriptor,
        dst_dir_fd=new.directory.descriptor,
        follow_symlinks=False,
    )


def _give_back_without_links(claim: Place, name: Place) -> bool:
    """The same by rename, which replaces what takes the name within the same moment."""
    if name.status() is not None:
        return False
    _renamed(claim, name)
    return True


def _same_file(one: Place, other: Place) -> bool:
    first, second = one.status(), other.status()
    return first is not None and second is not None and os.path.samestat(first, second)


def restore(top: Directory, on_error: OnError) -> Iterator[Place]:
    """Give back every claim that was left over below ``top``; those that have to stay claims.

    ``on_error`` hears of a failure, and its claim is among those that stay.
    """
    for found in files(top, Listener(on_error), hidden=True):
        place = found.place
        if original_place(place) is not None and not _given_back(place, on_error):
            yield place


def _given_back(claim: Place, on_error: OnError) -> bool:
    try:
        return give_back(claim)
    except OSError as error:
        on_error(claim.path, error)
        return False
