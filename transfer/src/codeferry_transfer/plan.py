"""Plan a transfer, as values: copy, compare, skip, delete, keep, refuse, and why.

Both sides come as streams sorted by path, so that a plan for a million files needs the
memory of one. Only what is to be deleted is kept back, because nothing may be deleted
before both listings are complete.

Which paths can be carried over: keys as files, and files as keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

# A directory that a killed download leaves behind; never part of a tree.
STAGING_PREFIX = ".ferry-download"


class Entry(NamedTuple):
    """A file or object: path relative to its side's root, bytes, seconds since 1970.

    Of no bytes, and with a path that ends in ``/``, it is a directory or the object that marks
    one: that is never copied, and a marker is deleted where the source has no such directory.
    """

    path: str
    size: int
    modified: float

    @property
    def is_directory(self) -> bool:
        return not self.size and self.path[-1:] == "/"


class Verb(StrEnum):
    COPY = "copy"
    COMPARE = "compare"
    """Copy unless the contents, which only reading can tell, are equal."""
    SKIP = "skip"
    DELETE = "delete"
    KEEP = "keep"
    """Not in the source, but where the source was not looked at."""
    REFUSE = "refuse"


class Action(NamedTuple):
    """One line of the plan; ``size`` in bytes, of the source (of the victim for a deletion)."""

    verb: Verb
    path: str
    size: int
    why: str


@dataclass(frozen=True)
class Rules:
    """Compare ``content`` instead of size and time; ``delete`` what is extra.

    ``now`` is S3's clock, in seconds since 1970: a file dated later says nothing by its time.
    """

    content: bool = False
    delete: bool = False
    now: Callable[[], float] = time.time


TOLERANCE = 2.0  # seconds that clocks may differ by, and filesystems round by


def copy_all(source: Iterable[Entry], *, content: bool = False) -> Iterator[Action]:
    """Everything, whatever the other side holds; with ``content`` unless it holds the same."""
    for entry in source:
        if content:
            yield Action(Verb.COMPARE, entry.path, entry.size, "content to be compared")
        else:
            yield Action(Verb.COPY, entry.path, entry.size, "asked for")


def synchronise(
    source: Iterable[Entry],
    destination: Iterable[Entry],
    rules: Rules,
    unseen: Callable[[str], str] = lambda _: "",
) -> Iterator[Action]:
    """What makes ``destination`` like ``source``; deletions come last, all together.

    Both must be sorted by path. An exception of either stream passes, and no deletion has
    then been given. ``unseen``, asked when both have ended, says of a path why nobody knows
    whether the source has it: such a one is kept.
    """
    victims: list[Action] = []
    there = iter(destination)
    other = next(there, None)
    for entry in source:
        while other is not None and other.path < entry.path:
            victims.append(_extra(other))
            other = next(there, None)
        if other is not None and other.path == entry.path:
            if not entry.is_directory:
                yield _compared(entry, other, rules)
            elif not other.is_directory:
                victims.append(_extra(other))
            other = next(there, None)
        elif not entry.is_directory:
            yield Action(Verb.COPY, entry.path, entry.size, "new")
    while other is not None:
        victims.append(_extra(other))
        other = next(there, None)
    if rules.delete:
        yield from (_kept_if(unseen(victim.path), victim) for victim in victims)


def _extra(entry: Entry) -> Action:
    return Action(Verb.DELETE, entry.path, entry.size, "not in the source")


def _kept_if(why: str, victim: Action) -> Action:
    return victim._replace(verb=Verb.KEEP, why=why) if why else victim


def _compared(source: Entry, destination: Entry, rules: Rules) -> Action:
    if source.size != destination.size:
        return Action(Verb.COPY, source.path, source.size, "size differs")
    if rules.content:
        return Action(Verb.COMPARE, source.path, source.size, "content to be compared")
    if max(source.modified, destination.modified) > rules.now() + TOLERANCE:
        return Action(Verb.COMPARE, source.path, source.size, "dated in the future")
    if source.modified > destination.modified:
        return Action(Verb.COPY, source.path, source.size, "newer")
    return Action(Verb.SKIP, source.path, source.size, "same size, not newer")


def checked(actions: Iterable[Action], unfit: Callable[[str], str]) -> Iterator[Action]:
    """Refuses the paths that ``unfit`` gives a reason against, before anything is done."""
    for action in actions:
        reason = unfit(action.path) if action.verb in (Verb.COPY, Verb.COMPARE) else ""
        yield Action(Verb.REFUSE, action.path, action.size, reason) if reason else action


LONGEST_KEY = 1024  # bytes of UTF-8
_LONGEST_NAME = 255  # bytes, on every usual filesystem


def unfit_as_file() -> Callable[[str], str]:
    """Says of one path after the other, in sorted order, why it cannot be a file here."""
    files: list[str] = []  # those whose names begin the present path

    def reason(path: str) -> str:
        while files and not path.startswith(files[-1]):
            files.pop()
        for file in files:
            if path.startswith(f"{file}/"):
                return f"{file!r} is an object as well as a directory"
        files.append(path)
        return _unsafe(path)

    return reason


def _unsafe(path: str) -> str:
    if "\0" in path:
        return "it holds a NUL character"
    parts = path.split("/")
    if parts[0] == "":
        return "it is absolute"
    if ".." in parts or "." in parts:
        return "it has '.' or '..' in it"
    if "" in parts:
        return "it has an empty name in it"
    if parts[0].startswith(STAGING_PREFIX):
        return "the name is reserved for unfinished downloads"
    if any(len(part.encode(errors="surrogateescape")) > _LONGEST_NAME for part in parts):
        return "a name in it is longer than 255 bytes"
    return ""


def unfit_as_key(prefix: str) -> Callable[[str], str]:
    """Says why a file's path, behind ``prefix``, cannot be a key."""

    def reason(path: str) -> str:
        try:
            length = len((prefix + path).encode())
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        return "its key would be longer than 1,024 bytes" if length > LONGEST_KEY else ""

    return reason
