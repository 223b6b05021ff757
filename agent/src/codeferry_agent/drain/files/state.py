"""State that outlives the agent: outside of the roots, in a directory of its own.

Programs write to a root, and its owner may rename what is in it; so nothing of the agent's is
read or written there. ``home()/<digest of the root's path>/`` has the ledger of a root, its state
for `drain status`, and its lock. It is opened by descriptor at each use, has to belong to the
agent's user, and nothing in it is followed or waited for.

Versions before kept it in the root, in ``.codeferry-drain``: ``read_legacy_ledger`` reads that
once.

Which multipart uploads this root's agent has begun: a file of its state, which outlives it.

At the next start those a kill left behind are aborted, and only those: what somebody else
uploads to the same bucket is not ours to abort. An upload killed before its id was written
down is found by nobody but the bucket's lifecycle rule."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from codeferry_agent.drain.files.scan import OWN_PREFIX, Directory, is_bucket_name

STATE, UPLOADS, LOCK = "state.json", "uploads.json", "lock"
# systemd names the unit's StateDirectory by the first; the second is for whoever wants another.
UNIT_VARIABLE, OWN_VARIABLE = "STATE_DIRECTORY", "CODEFERRY_DRAIN_STATE"
OF_ROOT = Path("/var/lib/codeferry-drain")
LARGEST = 4 << 20  # bytes of a file of ours; a ledger of all workers' uploads has a tenth
BEFORE = f"{OWN_PREFIX}drain"
_NAMES = re.compile(r"(state|uploads)\.json|lock|\.(state|uploads)\.json\.[0-9a-f.]+")
_MOST_NAMES = 1000  # that are looked at in the old place
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LOCKING = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def home() -> Path:
    """The unit's StateDirectory; root's is the same by hand, and others' in their own home."""
    if os.environ.get(UNIT_VARIABLE):
        return Path(os.environ[UNIT_VARIABLE].partition(":")[0])
    asked = os.environ.get(OWN_VARIABLE) or os.environ.get("XDG_STATE_HOME")
    return OF_ROOT if os.geteuid() == 0 and not asked else user_state_directory()


def user_state_directory() -> Path:
    """Where this user has it, log and PID file of an agent in the background beside it."""
    if os.environ.get(OWN_VARIABLE):
        return Path(os.environ[OWN_VARIABLE])
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base) / OF_ROOT.name if base else home_of(Path.home())


def home_of(directory: Path) -> Path:
    """The same for a user with this home directory, as far as others can know."""
    return directory / ".local" / "state" / OF_ROOT.name


class State:
    """What is kept of one root. Each method raises OSError."""

    def __init__(self, root: str, base: Path | None = None, owner: int | None = None) -> None:
        """``base`` and ``owner`` are ``home()`` and this user unless another's is looked at."""
        self.root = str(Path(root).absolute())
        self._base = base or home()
        self._owner = os.geteuid() if owner is None else owner
        self._name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:40]

    @property
    def path(self) -> Path:
        return self._base / self._name

    @contextmanager
    def _opened(self, *, make: bool) -> Iterator[int]:
        if make:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
        base = os.open(self._base, _DIRECTORY)
        try:
            if make:
                self._close_to_others(base)
            self._check(base)
            if make:
                with suppress(FileExistsError):
                    os.mkdir(self._name, 0o700, dir_fd=base)
            here = os.open(self._name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=base)
        finally:
            os.close(base)
        try:
            self._check(here)
            yield here
        finally:
            os.close(here)

    def _close_to_others(self, base: int) -> None:
        """Versions before made it for log and PID file alone, by the umask."""
        status = os.fstat(base)
        if status.st_uid == self._owner and status.st_mode & 0o022:
            os.fchmod(base, stat.S_IMODE(status.st_mode) & ~0o022)

    def _check(self, descriptor: int) -> None:
        """Nobody but its owner may change what is in a directory of ours."""
        status = os.fstat(descriptor)
        if status.st_uid != self._owner or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "it is, or can be changed by, somebody else's")

    def read(self, name: str) -> bytes:
        with self._opened(make=False) as here:
            return read(here, name, self._owner)

    def replace(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        """Give the file this content; readers see the old or the new one, and after a crash of the
        machine too if it is to be ``lasting`` (which takes some ms)."""
        with self._opened(make=True) as here:
            new = f".{name}.{secrets.token_hex(8)}"
            with os.fdopen(os.open(new, _NEW, 0o600, dir_fd=here), "wb") as file:
                try:
                    file.write(content)
                    file.flush()
                    if lasting:
                        os.fsync(file.fileno())
                    os.rename(new, name, src_dir_fd=here, dst_dir_fd=here)
                except BaseException:
                    os.unlink(new, dir_fd=here)
                    raise

    def tidy(self) -> None:
        """Remove what kills have left half written; only for who has the lock."""
        with suppress(OSError), self._opened(make=False) as here:
            _remove(here, lambda name: name.startswith("."))

    def lock_file(self, *, make: bool) -> int:
        """A descriptor of the file whose lock is the root's."""
        with self._opened(make=make) as here:
            return os.open(LOCK, _LOCKING | (os.O_CREAT if make else 0), 0o600, dir_fd=here)


def read(directory: int, name: str, owner: int) -> bytes:
    """A regular file of the owner's, of bounded size; whatever else it is, this does not wait."""
    with os.fdopen(os.open(name, _READ, dir_fd=directory), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
            raise PermissionError(errno.EPERM, "it is no regular file of its owner's")
        content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return content


def read_legacy_ledger(top: Directory) -> bytes:
    """The ledger that a version before kept in the root, or nothing.

    Only of a directory that is the agent's own user's: what the root's owner has put in its
    place is not read.
    """
    try:
        with _old_place(top) as old:
            return read(old, UPLOADS, os.geteuid())
    except OSError:
        return b""


def remove_legacy(top: Directory, *, but: str = "") -> None:
    """Remove what a version before kept in the root, by the names it gave, and nothing else."""
    with suppress(OSError), _old_place(top) as old:
        _remove(old, lambda name: _NAMES.fullmatch(name) and name != but)
        if not but:
            os.rmdir(BEFORE, dir_fd=top.descriptor)


def _remove(directory: int, chosen: Callable[[str], object]) -> None:
    with os.scandir(directory) as entries:
        names = [each.name for each in islice(entries, _MOST_NAMES)]
    for name in filter(chosen, names):
        os.unlink(name, dir_fd=directory)


@contextmanager
def _old_place(top: Directory) -> Iterator[int]:
    old = os.open(BEFORE, _DIRECTORY | os.O_NOFOLLOW, dir_fd=top.descriptor)
    try:
        if os.fstat(old).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it is somebody else's")
        yield old
    finally:
        os.close(old)


def lock_file_in(top: Directory) -> int:
    """The file in the root whose lock is the root's where directories have none (NFS): there the
    agents of several machines meet. Nothing is written to it."""
    with suppress(FileExistsError):
        os.mkdir(BEFORE, 0o755, dir_fd=top.descriptor)
    old = os.open(BEFORE, _DIRECTORY | os.O_NOFOLLOW, dir_fd=top.descriptor)
    try:
        return os.open(LOCK, _LOCKING | os.O_CREAT, 0o644, dir_fd=old)
    finally:
        os.close(old)


_log = logging.getLogger(__name__)


class MultipartUpload(NamedTuple):
    """An upload in parts that was begun and, as far as is known, neither ended nor aborted."""

    bucket: str
    key: str
    upload: str


class Ledger:
    """The begun uploads of a root. Safe to use from many threads."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._begun: set[MultipartUpload] = set()
        try:
            self._begun = _parsed(state.read(UPLOADS))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("The uploads of %s are forgotten: %s.", state.root, error)

    def begun(self) -> list[MultipartUpload]:
        with self._lock:
            return sorted(self._begun)

    def add(self, begun: MultipartUpload) -> None:
        with self._lock:
            self._begun.add(begun)
            self._write()

    def remove(self, begun: MultipartUpload) -> None:
        with self._lock:
            self._begun.discard(begun)
            self._write()

    def adopt(self, content: bytes) -> bool:
        """Add what another ledger holds; whether it is kept now, as far as it is a ledger."""
        try:
            others = _parsed(content)
        except (ValueError, RecursionError) as error:
            _log.warning("Older uploads of %s are forgotten: %s.", self._state.root, error)
            return True
        with self._lock:
            self._begun |= others
            return self._write()

    def _write(self) -> bool:
        try:
            self._state.replace(UPLOADS, json.dumps(sorted(self._begun)).encode())
        except OSError as error:
            # Going on is right: results on a full disk have to leave, and an upload that
            # nobody remembers costs a little until the lifecycle rule ends it.
            _log.warning("%s/%s could not be written: %s.", self._state.path, UPLOADS, error)
            return False
        return True


def _parsed(content: bytes) -> set[MultipartUpload]:
    """Raises ValueError or RecursionError for what is no ledger."""
    document = json.loads(content)
    if not isinstance(document, list) or not all(map(_is_begun, document)):
        raise ValueError("it is no list of uploads")
    return {MultipartUpload(*entry) for entry in document}


def _is_begun(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != len(MultipartUpload._fields):
        return False
    if not all(isinstance(part, str) and part for part in entry):
        return False
    "".join(entry).encode()  # a lone surrogate is a ValueError, and no key
    return is_bucket_name(entry[0])
