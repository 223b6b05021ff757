"""Types of arguments and options: a wrong value is refused before anything is done."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar

import click
from click.shell_completion import CompletionItem

from codeferry_contracts.names import PROJECT_PATTERN, RUN_ID_PATTERN, STAGE_PATTERN
from codeferry_contracts.parameters import LONGEST_BAKE_SECONDS
from codeferry_contracts.request_schema import SHARE_PATTERN
from codeferry_contracts.target import parse_target

T = TypeVar("T")

RELEASE_DIGITS = 20  # as request.RELEASE_PATTERN
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Type(click.ParamType[T]):
    """A type by its ``parse``, whose ValueError says what is wrong.

    The shell is offered what ``completions`` knows of a kind of value, named as the type is, with
    the parameters typed so far.
    """

    # Set by the commands, which may look into the stage; options know nothing of runs.
    completions: ClassVar[Callable[[str, Mapping[str, Any]], Iterable[str]]] = lambda *_: ()

    def __init__(self, name: str, parse: Callable[[Any], T], *, completed: bool = False) -> None:
        self.name = name
        self._parse = parse
        self._completed = completed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = Type.completions(self.name, ctx.params) if self._completed else ()
        return [CompletionItem(word) for word in found if word.startswith(incomplete)]


def _target(value: Any) -> str:
    """Raises TargetInvalid, whose hint says what a target looks like."""
    parse_target(value)
    return str(value)


def _name(value: Any, kind: str, pattern: str) -> str:
    """A name that matches one of the contracts' patterns."""
    if not re.fullmatch(pattern, value):
        wanted = pattern.strip("^$")
        raise ValueError(f"{value!r} cannot be a {kind}; it must match {wanted}.")
    return str(value)


def _run(value: Any) -> str:
    """A run's name, its beginning or `latest`, also as targets have it (``run:NAME``)."""
    return _name(re.sub("^(run|wave):", "", str(value)), "run", RUN_ID_PATTERN)


def _release(value: Any) -> str:
    """A release: its 20 hex digits, the first of them (6 or more), or a whole digest."""
    if not re.fullmatch("[0-9a-f]{6,64}", value):
        raise ValueError(
            f"{value!r} cannot be a release; it is 20 hex digits, or the first 6 or more."
        )
    return str(value)[:RELEASE_DIGITS]


def _seconds(value: Any, most: int | None = None) -> int:
    """Seconds as a number, or with a unit: ``90``, ``90s``, ``15m``, ``2h``; ``most`` of them."""
    found = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", str(value).strip())
    if not found or int(found.group(1)) == 0:
        raise ValueError(f"{value!r} is not a duration such as 90, 90s, 15m or 2h.")
    seconds = int(found.group(1)) * _UNITS[found.group(2)]
    if most is not None and seconds > most:
        raise ValueError(f"{value!r} is too long: at most {most} s.")
    return seconds


def _waves(value: Any) -> tuple[str, ...]:
    """The ends of a roll-out's waves: ``1,10%,50%,100%``; empty text is none."""
    waves = tuple(part.strip() for part in str(value).split(",")) if value else ()
    for wave in waves:
        if not re.fullmatch(SHARE_PATTERN, wave):
            wanted = "a number or a percentage, such as 1,10%,50%,100%"
            raise ValueError(f"{wave!r} cannot be a wave: each is {wanted}.")
    return waves


def _words(value: Any) -> tuple[str, ...]:
    """A command in one text, split into words as a shell would; empty text is none."""
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be split into words: {error}.") from error


TARGET = Type("target", _target, completed=True)
STAGE = Type("stage", partial(_name, kind="stage", pattern=STAGE_PATTERN), completed=True)
PROJECT = Type("project", partial(_name, kind="project", pattern=PROJECT_PATTERN), completed=True)
RUN = Type("run", _run, completed=True)
RELEASE = Type("release", _release, completed=True)
INSTANCE = Type("instance", str, completed=True)
PROFILE = Type("profile", str, completed=True)
DURATION = Type("duration", _seconds)
BAKE = Type("duration", partial(_seconds, most=LONGEST_BAKE_SECONDS))
WAVES = Type("waves", _waves)
WORDS = Type("command", _words)


def is_text(word: str) -> bool:
    """Whether it is text that JSON and programs can hold.

    Bytes that are not UTF-8 arrive as surrogates, and NUL ends what a program is given.
    """
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in word)
