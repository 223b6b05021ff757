"""Which paths a transfer is about: ``--include`` and ``--exclude``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

Selects = Callable[[str], bool]


def selection(include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Selects:
    """Whether a path, relative and with ``/``, is meant.

    A path is meant when it fits one of ``include``, or there are none, and fits none of
    ``exclude``. Patterns are globs over the whole path, in which ``*`` also means ``/``;
    ``name/`` means all that lies in a directory of that name at the top.
    """
    if not include and not exclude:
        return lambda _: True
    wanted, unwanted = _any_of(include or ("*",)), _any_of(exclude)
    return lambda path: bool(wanted(path)) and not unwanted(path)


def _any_of(patterns: Sequence[str]) -> Callable[[str], re.Match[str] | None]:
    globs = (f"{p}*" if p.endswith("/") else p for p in patterns)
    # Of no pattern at all the expression must fit nothing, not everything.
    return re.compile("|".join(translate(glob) for glob in globs) or r"(?!)").match
