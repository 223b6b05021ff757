"""Ignore files where git is not installed: pathspec reads them, this applies them as git does.

git looks at one directory level at a time: an excluded directory is never entered, so
nothing in it can be brought back, and for one path the last matching line of the nearest
file that has a matching line decides. Paths are bytes, relative to the top, as in git.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from codeferry_cli.packing.errors import (
    FilesUnreadable,
    PatternsUnreadable,
    listing,
    show,
    unreadable,
)
from codeferry_cli.packing.git import Listing, ignored_itself
from codeferry_cli.packing.root import is_repository, walk

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# git matches bytes; pathspec text, and it strips what Unicode calls a space. So every byte
# becomes one character that is neither a space nor a newline to a regular expression.
_CHARACTERS = {
    byte: 0xE000 + byte for byte in (*range(9, 14), *range(0x1C, 0x20), *range(0x80, 256))
}

# What pathspec was seen to read as git does; the tests compare the two on generated patterns.
_PLAIN = r"(?:[^\\\[\]*/]|\\[^/\s])"
_MEMBER = r"[^\\\[\]/!^&|~-]"
_CLASS = rf"\[[!^]?(?:{_MEMBER}-{_MEMBER}|{_MEMBER})+\]"
_NAME = rf"(?:{_PLAIN}|\*(?!\*)|{_CLASS})+"
_READABLE = re.compile(rf"/?(?:\*\*/(?=[^/]))?{_NAME}(?:/\*\*(?=/.)|/{_NAME})*(?:/|/\*\*)?")

# "**/a" and "/**/a" mean what "a" does (gitignore(5)).
_ANYWHERE = re.compile(r"^/?\*\*/")


@dataclass(frozen=True)
class _Pattern:
    """One line of an ignore file."""

    spec: GitIgnoreSpecPattern
    negative: bool
    by_name: bool
    everything: bool
    inside: bool

    def matches(self, path: str, name: str) -> bool:
        """Whether it names this very path (``name`` is its last part), not one above it.

        A directory's path and name end in a slash.
        """
        text = name if self.by_name else path
        found = self.spec.match_file(text)
        if found is None:
            return False
        whole = found.match.end() == len(text)
        return self.everything or whole != self.inside


Patterns = tuple[_Pattern, ...]  # the last line of the file first


class IgnoreFiles:
    """What the ignore files say of the tree below ``root``, where no git can be asked."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = os.fsencode(root)

    def listing(self, _inside: bytes = b"") -> Listing:
        """What git would list if all of it were untracked. Raises PatternsUnreadable.

        Repositories inside, submodules among them, are given with a slash and not entered.
        """
        owner = next((p for p in (self._root, *self._root.parents) if is_repository(p)), None)
        warnings = list[str]()
        if owner:
            warnings.append(
                "git is not installed: files that are tracked though ignored cannot be known."
            )
        top = owner or self._root
        rules = _Levels(os.fsencode(top), b".gitignore", _standard(top))
        below = b"" if top == self._root else os.fsencode(self._root.relative_to(top))
        if below and rules.shuts_out_directory(below):
            warnings.append(ignored_itself(self._top))
            rules, below = _Levels(self._top, b".gitignore", _standard(self._root)), b""
        prefix = below + b"/" if below else b""
        unreadable: dict[bytes, str] = {}

        def excluded(path: bytes, directory: bool) -> bool:
            return rules.excludes(prefix + path, directory=directory)

        names = tuple(walk(self._top, unreadable, excluded))
        return Listing(names, tuple(warnings), unreadable)

    def ignored(self, _inside: bytes, names: Iterable[bytes]) -> set[bytes]:
        """All of ``names``: the listing has every path that is not ignored."""
        return set(names)

    def all_ignored(self) -> list[bytes]:
        """Nothing: only git tells that without entering what is ignored."""
        return []

    def matching(self, names: Collection[bytes], pattern: bytes) -> set[bytes]:
        """Which of ``names`` the pattern, or a directory of theirs, matches."""
        wanted = _pattern(_text(pattern))
        if wanted is None:
            raise _refusal([f"--include-pattern {show(pattern)}"])
        return {n for n in names if not wanted.negative and wanted.spec.match_file(_text(n))}

    def excluded_by(
        self, file: bytes, names: Collection[bytes]
    ) -> tuple[set[bytes], tuple[str, ...]]:
        """Which of ``names`` the ignore files called ``file`` exclude, and no warnings."""
        rules = _Levels(self._top, file)
        return {name for name in names if rules.shuts_out(name)}, ()

    def is_submodule(self, _inside: bytes, _name: bytes) -> bool:
        """No: the listing has no directory without a slash."""
        return False


class _Levels:
    """The ignore files of one name in one tree, each read when a path first needs it.

    ``lowest`` are patterns that apply to the whole tree when no file decides.
    """

    def __init__(self, top: bytes, name: bytes, lowest: Iterable[_Pattern] = ()) -> None:
        self._top = top
        self._name = name
        self._lowest = tuple(lowest)
        self._levels: dict[bytes, tuple[tuple[int, Patterns], ...]] = {}
        self._shut: dict[bytes, bool] = {b"": False}

    def excludes(self, path: bytes, *, directory: bool) -> bool:
        """Whether ``path`` is excluded, provided that no directory above it is."""
        parent, _, name = path.rpartition(b"/")
        slash = "/" if directory else ""
        for start, patterns in self._above(parent):
            relative = _text(path[start:]) + slash
            for pattern in patterns:
                if pattern.matches(relative, _text(name) + slash):
                    return not pattern.negative
        return False

    def shuts_out(self, path: bytes) -> bool:
        """Whether the file at ``path``, or any directory above it, is excluded."""
        return self.shuts_out_directory(path.rpartition(b"/")[0]) or self.excludes(
            path, directory=False
        )

    def shuts_out_directory(self, path: bytes) -> bool:
        """Whether the directory at ``path``, or any above it, is excluded."""
        if path not in self._shut:
            self._shut[path] = self.shuts_out_directory(path.rpartition(b"/")[0]) or self.excludes(
                path, directory=True
            )
        return self._shut[path]

    def _above(self, directory: bytes) -> tuple[tuple[int, Patterns], ...]:
        """Where each non-empty ignore file above counts from, with its patterns, nearest first."""
        if directory not in self._levels:
            own = _read(b"/".join(filter(None, (self._top, directory, self._name))))
            level = ((len(directory) + 1 if directory else 0, own),) if own else ()
            self._levels[directory] = level + self._inherited(directory)
        return self._levels[directory]

    def _inherited(self, directory: bytes) -> tuple[tuple[int, Patterns], ...]:
        if directory:
            return self._above(directory.rpartition(b"/")[0])
        return ((0, self._lowest),) if self._lowest else ()


def _standard(top: Path) -> Patterns:
    """``.git/info/exclude`` and the user's own ignore file where git looks by default."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    found: list[_Pattern] = []
    for file in (top / ".git" / "info" / "exclude", Path(home) / "git" / "ignore"):
        with suppress(FilesUnreadable):  # another's home, after su: git goes on, too
            found += _read(os.fsencode(file))
    return tuple(found)


def _read(file: bytes) -> Patterns:
    """The patterns of an ignore file, the last first; none if it is absent or no regular file.

    Raises PatternsUnreadable or FilesUnreadable.
    """
    try:
        descriptor = os.open(file, _FLAGS)
    except PermissionError as error:
        raise unreadable({file: os.strerror(error.errno or 0)}) from error
    except OSError:
        return ()  # absent, or a link, which git does not read either
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ()
        lines = stream.read().removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    return _patterns(lines, file)


def _patterns(lines: Sequence[bytes], file: bytes) -> Patterns:
    """The lines that are patterns, the last first. Raises PatternsUnreadable."""
    texts = [_text(line.partition(b"\0")[0].removesuffix(b"\r")) for line in lines]
    patterns = [_pattern(text.rstrip(" ")) for text in texts if not _is_blank(text)]
    if None in patterns:
        refused = [
            f"{show(file)}:{number}: {show(line)}"
            for number, (line, text) in enumerate(zip(lines, texts, strict=True), 1)
            if not _is_blank(text) and _pattern(text.rstrip(" ")) is None
        ]
        raise _refusal(refused)
    return tuple(pattern for pattern in reversed(patterns) if pattern)


def _refusal(patterns: list[str]) -> PatternsUnreadable:
    return PatternsUnreadable(
        "git is not installed, and without it these patterns cannot be read as git reads"
        f" them:{listing(patterns)}",
        hint="Install git, or write them without escaped spaces, classes and ** inside names.",
    )


def _is_blank(text: str) -> bool:
    return text.startswith("#") or not text.strip(" ")


def _pattern(text: str) -> _Pattern | None:
    """A pattern without its trailing spaces; None if pathspec does not read it as git does."""
    body = text.removeprefix("!")
    if text.endswith(" ") or not _READABLE.fullmatch(body):
        return None
    try:
        [spec] = GitIgnoreSpec.from_lines([text], backend="simple").patterns
    except (ValueError, re.error):
        return None
    name = _ANYWHERE.sub("", body)
    return _Pattern(
        spec,
        negative=body != text,
        by_name="/" not in name.removesuffix("/"),
        everything=name == "*",
        inside=body.endswith("/**"),
    )


def _text(path: bytes) -> str:
    return path.decode("latin-1").translate(_CHARACTERS)
