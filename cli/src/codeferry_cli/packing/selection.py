"""Select the files of a project that are packed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from codeferry_cli.packing.errors import (
    LinksLeaveTree,
    NoFiles,
    PathsImpossible,
    listing,
    show,
    unreadable,
)
from codeferry_cli.packing.git import Git, Listing
from codeferry_cli.packing.root import in_repository, walk
from codeferry_contracts.archive import MAX_NAME, MAX_PATH, META_DIRECTORY, MOST_FILES

# Paths are bytes here, as the file system and git have them; pathlib cannot hold those.
# ruff: noqa: PTH114, PTH115, PTH208


if TYPE_CHECKING:
    from codeferry_cli.packing.ignore import IgnoreFiles

_LINK_MODE = stat.S_IFLNK | 0o777
_RESERVED = META_DIRECTORY.encode() + b"/"
_FERRYIGNORE = b".ferryignore"
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
_WILDCARD = re.compile(rb"[*?\[\\]")

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: what lies in a tree instead of a
# file whose content was not fetched. All are this long but those of extensions, which hardly
# anybody has; reading every small file for them would take longer than choosing them all.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_SIZES = range(126, 140)


class File(NamedTuple):
    """A regular file or, with a ``target``, a symlink, as it was when selected.

    A tuple, because there may be 100,000. ``path`` is relative to the root; ``mode`` are the
    permissions it lands with; ``size`` in bytes. ``source`` is where it is read from, where
    that is not below the root.
    """

    path: bytes
    mode: int
    size: int
    mtime_ns: int
    target: bytes | None = None
    source: bytes | None = None


@dataclass(frozen=True)
class Selection:
    """What will be packed: ``files`` in the order of their path's bytes.

    ``left_out`` pairs each path that was dropped for a reason of its own with that reason;
    what git ignores is listed by ``ignored``. ``allowed`` are the paths of --allow-secret.
    """

    root: Path
    files: tuple[File, ...]
    warnings: tuple[str, ...]
    left_out: tuple[tuple[bytes, str], ...]
    allowed: frozenset[bytes]

    @property
    def bytes(self) -> int:
        """The sum of the file sizes when selected."""
        return sum(file.size for file in self.files)

    def largest(self, count: int = 10) -> list[File]:
        """The files that take most room, largest first."""
        return sorted(self.files, key=lambda file: -file.size)[:count]


def select(
    root: Path,
    include_patterns: Sequence[str] = (),
    allow_secrets: Sequence[str] = (),
) -> Selection:
    """Choose the files of ``root`` as git would, less ``.ferryignore``, plus the patterns.

    Raises NoFiles, LinksLeaveTree, FilesUnreadable, PathsImpossible, PatternsUnreadable or
    GitRefused.
    """
    with _rules(root) as rules:
        choice = _Choice(root)
        choice.take_standard(rules)
        choice.drop_ferryignored(rules)
        for pattern in include_patterns:
            choice.include(pattern, rules)
    choice.require_sound()
    if not choice.files:
        raise _no_files(root, include_patterns, len(choice.left_out))
    return choice.made(allow_secrets)


def select_all(root: Path, allow_secrets: Sequence[str] = ()) -> Selection:
    """Choose every file below ``root``, whatever ignores it: it was named. Never ``.git``.

    It may be empty. Raises LinksLeaveTree, FilesUnreadable or PathsImpossible.
    """
    choice = _Choice(root)
    choice.take_everything()
    choice.require_sound()
    return choice.made(allow_secrets)


def ignored(root: Path) -> list[bytes]:
    """What the ignore files leave out, whole directories once with a slash at their end.

    Only for people who ask: without git it is empty.
    """
    with _rules(root) as rules:
        return rules.all_ignored()


def packed_mode(found: int) -> int:
    """The permissions a file of the mode ``found`` lands with: git's rule for modes.

    Nothing of a umask is in them, so that the same commit is the same release from anywhere.
    """
    return 0o755 if found & stat.S_IXUSR else 0o644


def keep_private(files: Iterable[File], secrets: Collection[bytes]) -> tuple[File, ...]:
    """``files``, of which nobody but their owner may read the ``secrets`` where they land."""
    if not secrets:
        return tuple(files)
    return tuple(
        file._replace(mode=file.mode & 0o700) if file.path in secrets and not file.target else file
        for file in files
    )


def require_possible(files: Collection[File]) -> None:
    """Raise PathsImpossible, naming all, for what no file system of an instance can hold, and
    for more files than a run can carry."""
    if len(files) > MOST_FILES:
        raise PathsImpossible(
            f"There are {len(files):,} files, and a run carries at most {MOST_FILES:,}.",
            hint="Put many small files into an archive of their own, or exclude them.",
        )
    suspects = [file for file in files if len(file.path) > MAX_NAME or file.target]
    reasons = ((file, _impossible(file)) for file in suspects)
    impossible = [f"{show(file.path[-200:])} ({why})" for file, why in reasons if why]
    if impossible:
        raise PathsImpossible(
            f"{len(impossible)} files cannot be made on any instance:{listing(impossible)}",
            hint="Give them shorter names, or exclude them in .gitignore or .ferryignore.",
        )


def _impossible(file: File) -> str | None:
    if len(file.path) > MAX_PATH:
        return f"its path has {len(file.path):,} bytes, not at most {MAX_PATH:,}"
    if max(map(len, file.path.split(b"/"))) > MAX_NAME:
        return f"a name in its path has more than {MAX_NAME} bytes"
    if file.target is not None and len(file.target) > MAX_PATH:
        return f"it points to more than {MAX_PATH:,} bytes"
    return None


@contextmanager
def _rules(root: Path) -> Iterator[Git | IgnoreFiles]:
    """git, wherever it is installed."""
    if shutil.which("git") is None:
        from codeferry_cli.packing.ignore import IgnoreFiles  # pathspec takes a while to import

        yield IgnoreFiles(root)
        return
    with tempfile.TemporaryDirectory(prefix="ferry-git-") as scratch:
        yield Git(root, Path(scratch))


class _Choice:
    """The selection while it is made."""

    def __init__(self, root: Path) -> None:
        self.files: dict[bytes, File] = {}
        self.left_out: dict[bytes, str] = {}
        self._root = root
        self._top = os.fsencode(root)
        self._prefix = self._top + b"/"
        self._warnings: list[str] = []
        self._skipped: dict[bytes, str] = {}  # directories with a slash at their end
        self._unreadable: dict[bytes, str] = {}
        self._searched: set[bytes] = set()
        self._set_bits: list[bytes] = []
        self._modes = Listing(())
        self._real = {b"": True}

    def take_standard(self, rules: Git | IgnoreFiles, inside: bytes = b"") -> None:
        """Take what git would list, in ``inside`` (a submodule, ending in a slash) or the root."""
        found = rules.listing(inside)
        self._warnings += found.warnings
        self._unreadable |= {inside + path: why for path, why in found.unreadable.items()}
        if not inside:
            self._modes = found
        for name in found.names:
            path = inside + name
            if name.endswith(b"/"):
                self._skip(path, "is a repository of its own; --include-pattern takes its files")
            elif self._take(path, found.is_executable(name)):
                self._take_submodule(inside, name, rules)
        self._look_for_special_files(rules, inside)

    def take_everything(self) -> None:
        for path in walk(self._top, self._unreadable):
            self._take(path)

    def drop_ferryignored(self, rules: Git | IgnoreFiles) -> None:
        """Drop what ``.ferryignore`` excludes, also of what cannot be read or goes not along."""
        directories = (self._prefix + path + b"/" for path, real in self._real.items() if real)
        if not any(os.path.lexists(directory + _FERRYIGNORE) for directory in directories):
            return
        names = {_within(path): path for path in {*self.files, *self._skipped, *self._unreadable}}
        excluded, warnings = rules.excluded_by(_FERRYIGNORE, names)
        self._warnings += warnings
        for path in (names[name] for name in excluded):
            self.files.pop(path, None)
            self._skipped.pop(path, None)
            self._unreadable.pop(path, None)
            self.left_out[path] = "is excluded by .ferryignore"

    def include(self, text: str, rules: Git | IgnoreFiles) -> None:
        """Take what an include pattern names, whatever ignores it, never inside a ``.git``.

        It is a gitignore pattern, except that one without a wildcard is a path from the root;
        what it matches is a file or a whole tree.
        """
        wanted = os.fsencode(text).removeprefix(b"./").strip(b"/")
        fixed = _WILDCARD.split(wanted, maxsplit=1)[0]
        anchored = text.startswith("/") or fixed == wanted
        # A pattern from the root cannot leave the directory it spells out: walk only that.
        start = fixed.rpartition(b"/")[0] if anchored or b"/" in wanted else b""
        closed: dict[bytes, str] = {}
        beyond = {b"..", b".git"} & {*start.split(b"/")} or not self._is_real(start + b"/.")
        paths = () if beyond or not wanted else walk(self._top, closed, start=start)
        names = {_within(path): path for path in (*paths, *closed)}
        found = rules.matching(names, b"/" + wanted if anchored else wanted) if names else ()
        if not found:
            self._warnings.append(f"--include-pattern {text!r} names no file.")
        for path in sorted(names[name] for name in found):
            self._include(path, closed.pop(path, None))
        self._warnings += (
            f"{show(path)} cannot be searched for --include-pattern {text!r}: {why}."
            for path, why in closed.items()
        )

    def _include(self, path: bytes, closed: str | None) -> None:
        self.left_out.pop(path, None)
        if closed:
            self._unreadable[path] = closed
        elif path not in self.files:
            self._take(path, self._modes.is_executable(path))

    def require_sound(self) -> None:
        """Raise for files that cannot go."""
        if self._unreadable:
            raise unreadable(self._unreadable)
        require_possible(self.files.values())
        if leaving := self._leaving():
            raise LinksLeaveTree(
                f"{len(leaving)} symlinks lead out of the project:{listing(leaving)}",
                hint="Make them relative and inside, or exclude them in .ferryignore; what an"
                " --include-pattern brings is left out by a narrower one.",
            )

    def made(self, allow_secrets: Sequence[str]) -> Selection:
        allowed = frozenset(_relative(self._root, path) for path in allow_secrets)
        files = keep_private((self.files[path] for path in sorted(self.files)), allowed)
        self._warnings += (f"{show(path)} {why}: left out." for path, why in self._skipped.items())
        self._warnings += (
            f"{show(path)} has setuid or setgid, which does not travel."
            for path in self._set_bits
            if path in self.files
        )
        self._warnings += _lfs_pointers(self._prefix, files)
        return Selection(
            root=self._root,
            files=files,
            warnings=tuple(dict.fromkeys(self._warnings)),
            left_out=tuple(sorted((self.left_out | self._skipped).items())),
            allowed=allowed,
        )

    def _take(self, path: bytes, executable: bool | None = None) -> bool:
        """Take what lies at ``path``, and say whether that is a directory, which is not taken.

        ``executable`` decides where the file system does not know.
        """
        if path == _RESERVED[:-1] or path.startswith(_RESERVED):
            self._skip(_RESERVED, "is where the archive's own manifest goes")
            return False
        try:
            # A tracked path may lie beyond what is now a link: git counts it as deleted.
            found = os.lstat(self._prefix + path) if self._is_real(path) else None
            return found is not None and self._take_as_found(path, found, executable)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._unreadable[path] = os.strerror(error.errno or 0)
            return False

    def _take_as_found(self, path: bytes, found: os.stat_result, executable: bool | None) -> bool:
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            mode = found.st_mode if executable is None else executable and stat.S_IXUSR
            self.files[path] = File(path, packed_mode(mode), found.st_size, found.st_mtime_ns)
            if found.st_mode & (stat.S_ISUID | stat.S_ISGID):
                self._set_bits.append(path)
        elif kind == stat.S_IFLNK:
            target = os.readlink(self._prefix + path)
            self.files[path] = File(path, _LINK_MODE, 0, found.st_mtime_ns, target)
        elif kind != stat.S_IFDIR:
            self._skip(path, f"is {_KINDS.get(kind, 'a device')}")
        return kind == stat.S_IFDIR

    def _take_submodule(self, inside: bytes, name: bytes, rules: Git | IgnoreFiles) -> None:
        """Take what belongs to a directory that git lists as one name, if it is a submodule.

        If not, a file became a directory, and what is in it is listed, too.
        """
        path = inside + name + b"/"
        if not rules.is_submodule(inside, name):
            return
        try:
            empty = not os.listdir(self._prefix + path)
        except OSError as error:
            self._unreadable[path] = os.strerror(error.errno or 0)
            return
        if empty:
            self._skip(path, "is a submodule that is not checked out")
        else:
            self.take_standard(rules, path)

    def _look_for_special_files(self, rules: Git | IgnoreFiles, inside: bytes) -> None:
        """Warn of sockets, FIFOs and devices too: git lists none of them."""
        here = [p for p, real in self._real.items() if real and (p + b"/").startswith(inside)]
        fresh = [path for path in here if path not in self._searched]
        self._searched.update(fresh)
        special = [path for directory in fresh for path in self._special_files(directory)]
        unknown = [path[len(inside) :] for path in special if path not in self._skipped]
        for name in {*unknown} - rules.ignored(inside, unknown):
            self._take(inside + name)

    def _special_files(self, directory: bytes) -> list[bytes]:
        inside = directory + b"/" if directory else b""
        # A courtesy: what is gone or closed is named where its files are taken.
        with suppress(OSError), os.scandir(self._prefix + inside) as entries:
            return [inside + entry.name for entry in entries if _is_special(entry)]
        return []

    def _is_real(self, path: bytes) -> bool:
        """Whether the directories above ``path`` are directories and not links."""
        parent = path.rpartition(b"/")[0]
        if parent not in self._real:
            self._real[parent] = self._is_real(parent) and not os.path.islink(self._prefix + parent)
        return self._real[parent]

    def _skip(self, path: bytes, why: str) -> None:
        if self._is_real(path):
            self._skipped.setdefault(path, why)

    def _leaving(self) -> list[str]:
        """The links that lead out here, or where only what is packed is there."""
        links = {path: file.target for path, file in self.files.items() if file.target is not None}
        reasons = (
            (path, target, leaves_tree(path, target, self._link_at) or _misses(path, target, links))
            for path, target in sorted(links.items())
        )
        return [f"{show(path)} -> {show(target)} ({why})" for path, target, why in reasons if why]

    def _link_at(self, path: bytes) -> bytes | None:
        try:
            return os.readlink(self._prefix + path)
        except OSError:
            return None  # no link, or nothing there: a link may dangle inside the tree


def _misses(path: bytes, target: bytes, links: Mapping[bytes, bytes]) -> str | None:
    why = leaves_tree(path, target, links.get)
    return f"{why} without a link that is left out" if why else None


def _within(path: bytes) -> bytes:
    """The path of a file; for a directory (with a slash) one inside that no pattern is about."""
    return path + b"\xff" if path.endswith(b"/") else path


def _lfs_pointers(prefix: bytes, files: Collection[File]) -> tuple[str, ...]:
    small = (file for file in files if file.size in _LFS_SIZES and file.target is None)
    pointers = [show(file.path) for file in small if _is_lfs_pointer(prefix + file.path)]
    if not pointers:
        return ()
    return (
        f"{len(pointers)} files are Git LFS pointers, not the content they stand for"
        f" (git lfs pull fetches it):{listing(pointers)}",
    )


def _is_lfs_pointer(path: bytes) -> bool:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, len(_LFS_POINTER)) == _LFS_POINTER
        finally:
            os.close(descriptor)
    return False


def _is_special(entry: os.DirEntry[bytes]) -> bool:
    return not (
        entry.is_file(follow_symlinks=False)
        or entry.is_dir(follow_symlinks=False)
        or entry.is_symlink()
    )


def _no_files(root: Path, include_patterns: Sequence[str], dropped: int) -> NoFiles:
    how = "as git lists it" if in_repository(root) else "less what .gitignore excludes"
    patterns = f" and --include-pattern {', '.join(include_patterns)}" if include_patterns else ""
    rest = f"; {dropped} paths were left out" if dropped else ""
    return NoFiles(
        f"No files to sync: looked at {str(root)!r} {how}{patterns}{rest}.",
        hint="Add files, check .gitignore and .ferryignore, or use --include-pattern.",
    )


def _relative(root: Path, path: str) -> bytes:
    """A path a person typed, as the selection spells it."""
    return os.fsencode(os.path.relpath(root / path, root))


_MOST_HOPS = 40  # as the kernel has it; a longer chain is a loop, and a loop stays inside


def leaves_tree(path: bytes, target: bytes, link_at: Callable[[bytes], bytes | None]) -> str | None:
    """Why the link at ``path`` (relative to the root) would lead out of the tree; None if not.

    Every ``..`` and every link on the way (``link_at`` gives a path's target, if it is one) is
    followed as the kernel would, so a target that goes out and comes back in leaves too.
    """
    if target.startswith(b"/"):
        return "is absolute"
    place = path.split(b"/")[:-1]
    ahead = target.split(b"/")[::-1]
    hops = 0
    while ahead and hops <= _MOST_HOPS:
        part = ahead.pop()
        if part == b"..":
            if not place:
                return "leads out of the project"
            place.pop()
        elif part not in (b"", b"."):
            place.append(part)
            onward = link_at(b"/".join(place))
            if onward is not None:
                hops += 1
                if onward.startswith(b"/"):
                    return "leads to an absolute link"
                place.pop()
                ahead.extend(onward.split(b"/")[::-1])
    return None
