"""What a transfer would do, as values: copy, compare, skip, delete, refuse, and why.

Both sides come as streams sorted by path, so that a plan for a million files needs the
memory of one. Only what is to be deleted is kept back, because nothing may be deleted
before both listings are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Entry(NamedTuple):
    """A file or object: path relative to its side's root, bytes, seconds since 1970."""

    path: str
    size: int
    modified: float


class Verb(StrEnum):
    COPY = "copy"
    COMPARE = "compare"
    """Copy unless the contents, which only reading can tell, are equal."""
    SKIP = "skip"
    DELETE = "delete"
    REFUSE = "refuse"


class Action(NamedTuple):
    """One line of the plan; ``size`` in bytes, of the source (of the victim for a deletion)."""

    verb: Verb
    path: str
    size: int
    why: str


@dataclass(frozen=True)
class Rules:
    """Compare ``content`` instead of size and time; ``delete`` what is extra."""

    content: bool = False
    delete: bool = False


Compare = Callable[[Entry, Entry, Rules], Action]


def copy_all(source: Iterable[Entry], *, content: bool = False) -> Iterator[Action]:
    """Everything, whatever the other side holds; with ``content`` unless it holds the same."""
    for entry in source:
        if content:
            yield Action(Verb.COMPARE, entry.path, entry.size, "content to be compared")
        else:
            yield Action(Verb.COPY, entry.path, entry.size, "asked for")


def synchronise(
    source: Iterable[Entry], destination: Iterable[Entry], rules: Rules
) -> Iterator[Action]:
    """What makes ``destination`` like ``source``; deletions come last, all together.

    Both must be sorted by path. An exception of either stream passes, and no deletion has
    then been given.
    """
    victims: list[Action] = []
    there = iter(destination)
    other = next(there, None)
    for entry in source:
        while other is not None and other.path < entry.path:
            victims.append(_extra(other))
            other = next(there, None)
        if other is not None and other.path == entry.path:
            yield _compared(entry, other, rules)
            other = next(there, None)
        else:
            yield Action(Verb.COPY, entry.path, entry.size, "new")
    while other is not None:
        victims.append(_extra(other))
        other = next(there, None)
    if rules.delete:
        yield from victims


def _extra(entry: Entry) -> Action:
    return Action(Verb.DELETE, entry.path, entry.size, "not in the source")


def _compared(source: Entry, destination: Entry, rules: Rules) -> Action:
    if source.size != destination.size:
        return Action(Verb.COPY, source.path, source.size, "size differs")
    if rules.content:
        return Action(Verb.COMPARE, source.path, source.size, "content to be compared")
    if source.modified > destination.modified:
        return Action(Verb.COPY, source.path, source.size, "newer")
    return Action(Verb.SKIP, source.path, source.size, "same size, not newer")


def checked(actions: Iterable[Action], unfit: Callable[[str], str]) -> Iterator[Action]:
    """Refuses the paths that ``unfit`` gives a reason against, before anything is done."""
    for action in actions:
        reason = unfit(action.path) if action.verb in (Verb.COPY, Verb.COMPARE) else ""
        yield Action(Verb.REFUSE, action.path, action.size, reason) if reason else action
