"""Select the paths of a transfer: ``--include`` and ``--exclude``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate

_WILD = re.compile(r"[*?\[]")


class Selection:
    """Says of paths, relative and with ``/``, whether they are meant.

    A path is meant when it fits one of ``include``, or there are none, and fits none of
    ``exclude``. Patterns are globs over the whole path, in which ``*`` also means ``/``;
    ``name`` also means all that lies in a directory of that name, ``name/`` only that. A
    ``./`` or ``/`` before them is the place the paths are relative to. ``unmatched`` are the
    patterns that have fitted nothing so far.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = [_Pattern("--include", each) for each in include]
        self._exclude = [_Pattern("--exclude", each) for each in exclude]
        self._idle = [*self._include, *self._exclude]
        wanted = self._include or [_Pattern("", "*")]
        self._wanted = _any_of(glob for each in wanted for glob in each.globs)
        self._unwanted = _any_of(glob for each in self._exclude for glob in each.globs)
        self._all_unwanted = _any_of(glob for each in self._exclude for glob in each.wide)
        self._all = not include and not exclude

    def __call__(self, path: str) -> bool:
        if self._all:
            return True
        self._note(path)
        return bool(self._wanted(path)) and not self._unwanted(path)

    def concerns(self, path: str) -> bool:
        """Whether the path, or anything that may be below it, is meant."""
        if self._all:
            return True
        self._note(path)
        return not self._unwanted(path) and bool(
            self._wanted(path) or self._may_hold_wanted(f"{path}/")
        )

    def enters(self, directory: str) -> bool:
        """Whether anything in the directory (``path/``) may be meant."""
        if not self._all_unwanted(directory) and self._may_hold_wanted(directory):
            return True
        # A pattern that only names a place in there would change nothing.
        self._idle = [
            each
            for each in self._idle
            if not each.covers(directory) and not each.begins.startswith(directory)
        ]
        return False

    @property
    def unmatched(self) -> list[str]:
        return [str(each) for each in self._idle]

    def _note(self, path: str) -> None:
        if self._idle:
            self._idle = [each for each in self._idle if not each.fits(path)]

    def _may_hold_wanted(self, directory: str) -> bool:
        return not self._include or any(each.may_fit_below(directory) for each in self._include)


def globs_of(pattern: str) -> list[str]:
    """What a pattern means, as globs over the whole path."""
    place = "/".join(part for part in pattern.split("/") if part not in ("", "."))
    if not place:
        return ["*"] if pattern else []  # "." is everything; an empty word is nothing
    return [f"{place}/*"] if pattern.endswith("/") else [place, f"{place}/*"]


class _Pattern:
    """One pattern as it was typed, and the globs that it means.

    ``wide`` are those of the globs that fit all below a directory whose ``path/`` they fit;
    ``begins`` is what every path that fits begins with.
    """

    def __init__(self, option: str, typed: str) -> None:
        self._option, self._typed = option, typed
        self.globs = globs_of(typed)
        self.wide = [glob for glob in self.globs if glob.endswith("*")]
        self.fits, self.covers = _any_of(self.globs), _any_of(self.wide)
        self.begins = _WILD.split(self.globs[-1])[0] if self.globs else ""

    def __str__(self) -> str:
        return f"{self._option} {self._typed!r}"

    def may_fit_below(self, directory: str) -> bool:
        return self.begins.startswith(directory) or directory.startswith(self.begins)


def _any_of(globs: Iterable[str]) -> Callable[[str], re.Match[str] | None]:
    # Of no pattern at all the expression must fit nothing, not everything.
    return re.compile("|".join(translate(glob) for glob in globs) or r"(?!)").match
