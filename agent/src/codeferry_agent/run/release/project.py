"""The directory of one project: its lock, its releases, and which of them is current."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from codeferry_agent.run.errors import RunFailed, first, log, shown
from codeferry_agent.run.files import (
    Owner,
    acting_in,
    discard,
    exchange,
    give_new,
    make_directory,
    opened,
    parent_of,
    read_json,
    refuse_foreign,
    sync_directory,
    uid_of,
    write_json,
)
from codeferry_agent.run.release.manifest import Entry, damaged, foreign

RECORDS_KEPT = 200


class Lock:
    """A project's lock while it is held; its file says by which run, and if for a command."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.before = holder(descriptor)[:2]  # who held it last

    def note(self, run_id: str, work: str = "") -> None:
        """Needs no room on the disk."""
        said = f"{run_id} {os.getpid()}\n{work}" if work else f"{run_id} {os.getpid()}"
        os.ftruncate(self.descriptor, os.pwrite(self.descriptor, said.encode(), 0))


def holder(lock: int) -> tuple[str, str, str]:
    """Run id, work and pid, as a lock's file states them; earlier versions state no pid."""
    who, _, work = os.pread(lock, 100, 0).decode("ascii", "replace").partition("\n")
    run_id, _, pid = who.partition(" ")
    return run_id, work, pid


@contextlib.contextmanager
def locked(path: Path, run_id: str, seconds: float) -> Iterator[Lock]:
    """Hold the project's lock, or say who does when ``seconds`` have passed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whoever can open it can hold it, for ever
        acquire(descriptor, run_id, time.monotonic() + seconds)
        lock = Lock(descriptor)
        lock.note(run_id)
        yield lock
    finally:
        os.close(descriptor)


def acquire(lock: int, run_id: str, deadline: float) -> None:
    """Take turns with what is short; a command is waited for only by deliveries of its run."""
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            at_work, work, pid = holder(lock)
            if (work and at_work != run_id) or (not work and time.monotonic() >= deadline):
                raise locked_by(lock, at_work, pid) from None
            time.sleep(0.1)


def locked_by(lock: int, run_id: str, pid: str) -> RunFailed:
    """The failure that names the holder, and what ends that."""
    if not pid or has_open(pid, lock):
        hint = f"Wait for it, or stop it: ferry cancel {run_id}" if run_id else ""
        return RunFailed("locked", f"Run {run_id} holds the project.", hint)
    message = f"Another process holds the project's lock; run {run_id}, the last to have it, ended."
    return RunFailed("locked", message)


def has_open(pid: str, file: int) -> bool:
    """Whether a process has the file open, as far as we may know."""
    wanted, place = os.fstat(file), Path("/proc", pid, "fd")
    try:
        for each in place.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(each.stat(), wanted):
                    return True
    except PermissionError:
        return True
    except OSError:
        return False
    return False


class Project:
    """The releases of one project; whoever changes them holds the lock."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self.releases, self.staging = path / "releases", path / "staging"
        self.shared, self.runs = path / "shared", path / "runs"

    def create(self) -> None:
        if self.releases.is_symlink():  # what outlives a release is found from where it lies
            raise RunFailed("releases_elsewhere", "The project's releases/ is a link.")
        for directory in (self.releases, self.runs, self.staging):
            directory.mkdir(parents=True, exist_ok=True)
        self.staging.chmod(0o700)
        self.runs.chmod(0o700)  # records quote what commands print
        with opened(self.path) as at:
            make_directory(at, b"shared", self.owner)

    @contextlib.contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """A directory in staging, removed in the end."""
        directory = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.staging))
        try:
            yield directory
        finally:
            discard(directory)

    def current(self) -> str:
        """The id of the current release, or nothing."""
        try:
            return (self.path / "current").readlink().name
        except FileNotFoundError:
            return ""

    def activated(self) -> list[str]:
        """Release ids, last activated first; a killed run could not note its switch."""
        known, current = read_json(self.path / "activations.json") or [], self.current()
        return [current] * bool(current) + [each for each in known if each != current]

    def place(self, tree: Path, release: Path, entries: Mapping[bytes, Entry]) -> str:
        """Move the tree to the releases; what was wrong with an older copy, if anything.

        An intact copy stays, so that what runs from it is not disturbed. One of another user's is
        none, and is not given away either: its user may hold its files open for writing.
        """
        wrong = self.wrong(release, entries) if release.is_dir() else ""
        if wrong and not exchange(tree, release):
            # No exchange on some overlays: killed here, this damaged release is missing.
            release.rename(tree.with_name("replaced"))
        if not release.is_dir():
            tree.rename(release)
        sync_directory(self.releases)
        return wrong

    def wrong(self, release: Path, entries: Mapping[bytes, Entry]) -> str:
        changed = damaged(release, entries)
        if changed:
            return f"had been changed on the instance: {first(changed)}"
        if foreign(release, entries, uid_of(self.owner)):
            return "belonged to another user, and was unpacked anew"
        return ""

    def switch(self, release_id: str, staging: Path) -> None:
        write_json(self.path / "activations.json", self.activated())
        link = staging / "current"
        link.symlink_to(f"releases/{release_id}")
        link.replace(self.path / "current")
        sync_directory(self.path)

    def prune(self, keep: int, staging: Path) -> None:
        """Remove what was activated longest ago; never current nor the one before it."""
        kept = [each for each in self.activated() if (self.releases / each).is_dir()]
        kept = kept[: max(2, keep)]
        for release in self.releases.iterdir():
            if release.name not in kept:
                log(f"Removing release {release.name}")
                # Out of releases first, so that half a release is never seen there.
                discard(release.rename(staging / f"pruned-{release.name}"))
        write_json(self.path / "activations.json", kept)  # last: a full disk has room by now
        prune_records(self.runs)

    def settle(self) -> None:
        """Clear what killed runs left; note a switch they could not."""
        for leftover in self.staging.iterdir():
            record = leftover / "record.json"
            done = read_json(record)
            if done and done["release_id"] == self.current():
                record.replace(self.runs / f"{done['run_id']}.json")
            log(f"Removing {leftover.name} of a killed run")
            discard(leftover)

    def persist(self, release: Path, wanted: Iterable[str]) -> list[str]:
        """Link what outlives releases to shared; the paths the release has as its own."""
        own, linked = [], list[bytes]()
        for path in sorted(os.fsencode(re.sub("/+", "/", path.rstrip("/"))) for path in wanted):
            inside = any(path.startswith(outer + b"/") for outer in linked)
            if inside or self.link(release, path):
                self.make_shared(path)
                linked.append(path)
            else:
                own.append(path.decode("utf-8", "backslashreplace"))
        return own

    def link(self, release: Path, path: bytes) -> bool:
        target = b"../" * (path.count(b"/") + 2) + b"shared/" + path
        try:
            with parent_of(release, path, self.owner) as (at, name):
                with acting_in(at, self.owner) as already, contextlib.suppress(FileExistsError):
                    os.symlink(target, name, dir_fd=at)
                    if not already:
                        give_new(self.owner, at, name)
                return os.readlink(name, dir_fd=at) == target
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTDIR):  # no link; none on the way
                raise
            return False

    def venv(self) -> tuple[Path, Path]:
        """The user's virtual environment, and the note of what is in it.

        Where shared/ is root's and the user is not, both are by number, in a directory of theirs.
        """
        uid = uid_of(self.owner)
        if self.shared.stat().st_uid == uid:
            return self.shared / "venv", self.path / "installed.json"
        self.make_shared(b"venv-%d" % uid)
        return self.shared / f"venv-{uid}/venv", self.path / f"installed-{uid}.json"

    def make_shared(self, path: bytes) -> None:
        """A directory, or what the owner has put in its place (a link to a larger disk)."""
        try:
            with parent_of(self.shared, path, self.owner) as (at, name):
                make_directory(at, name, self.owner)
                for follow in (False, True):
                    with contextlib.suppress(FileNotFoundError):  # a disk that is not mounted yet
                        state = os.stat(name, dir_fd=at, follow_symlinks=follow)
                        refuse_foreign(state, self.owner, b"shared/" + path)
        except NotADirectoryError:
            message = f"shared/ has no directory on the way to {shown(path)}."
            raise RunFailed("persist_blocked", message) from None


def prune_records(directory: Path) -> None:
    """Keep the latest; others may be at work there too."""
    records = sorted(directory.iterdir(), key=written)
    for record in records[:-RECORDS_KEPT]:
        record.unlink(missing_ok=True)


def written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0
