"""Types of arguments and options: a wrong value is refused before anything is done."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
from click.shell_completion import CompletionItem

from codeferry_contracts.names import PROJECT_PATTERN, RUN_ID_PATTERN, STAGE_PATTERN
from codeferry_contracts.parameters import LONGEST_BAKE_SECONDS
from codeferry_contracts.request_schema import SHARE_PATTERN
from codeferry_contracts.target import parse_target

RELEASE_DIGITS = 20  # as request.RELEASE_PATTERN
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Completed:
    """A type whose words the shell may be told; ``name`` says of which kind they are."""

    name: str

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from codeferry_cli.candidates import candidates

        found = candidates(self.name, ctx.params)
        return [CompletionItem(word) for word in found if word.startswith(incomplete)]


class CompletedText(Completed, click.types.StringParamType):
    """Any text, of which some is known."""

    def __init__(self, name: str) -> None:
        self.name = name


class TargetType(Completed, click.ParamType[str]):
    """A target; anything else is TargetInvalid, whose hint says what one looks like."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        parse_target(value)
        return str(value)


class NameType(Completed, click.ParamType[str]):
    """A name that matches one of the contracts' patterns."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name = name
        self._pattern = re.compile(pattern)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._pattern.fullmatch(value):
            wanted = self._pattern.pattern.strip("^$")
            self.fail(f"{value!r} cannot be a {self.name}; it must match {wanted}.", param, ctx)
        return str(value)


class RunType(NameType):
    """A run: its name, also as targets have it (``run:NAME``, as `ferry runs` lists those)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(re.sub("^(run|wave):", "", str(value)), param, ctx)


class ReleaseType(Completed, click.ParamType[str]):
    """A release: its 20 hex digits, the first of them (6 or more), or a whole digest."""

    name = "release"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch("[0-9a-f]{6,64}", value):
            self.fail(
                f"{value!r} cannot be a release; it is 20 hex digits, or the first 6 or more.",
                param,
                ctx,
            )
        return str(value)[:RELEASE_DIGITS]


class DurationType(click.ParamType[int]):
    """Seconds as a number, or with a unit: ``90``, ``90s``, ``15m``, ``2h``; ``most`` of them."""

    name = "duration"

    def __init__(self, most: int | None = None) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", str(value).strip())
        if not found or int(found.group(1)) == 0:
            self.fail(f"{value!r} is not a duration such as 90, 90s, 15m or 2h.", param, ctx)
        seconds = int(found.group(1)) * _UNITS[found.group(2)]
        if self._most is not None and seconds > self._most:
            self.fail(f"{value!r} is too long: at most {self._most} s.", param, ctx)
        return seconds


class WavesType(click.ParamType[tuple[str, ...]]):
    """The ends of a roll-out's waves: ``1,10%,50%,100%``; empty text is none."""

    name = "waves"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        waves = tuple(part.strip() for part in str(value).split(",")) if value else ()
        for wave in waves:
            if not re.fullmatch(SHARE_PATTERN, wave):
                wanted = "a number or a percentage, such as 1,10%,50%,100%"
                self.fail(f"{wave!r} cannot be a wave: each is {wanted}.", param, ctx)
        return waves


class WordsType(click.ParamType[tuple[str, ...]]):
    """A command in one text, split into words as a shell would; empty text is none."""

    name = "command"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            self.fail(f"{value!r} cannot be split into words: {error}.", param, ctx)


TARGET = TargetType()
STAGE = NameType("stage", STAGE_PATTERN)
PROJECT = NameType("project", PROJECT_PATTERN)
# A run is named in full, by the beginning of its name, or as `latest`.
RUN = RunType("run", RUN_ID_PATTERN)
RELEASE = ReleaseType()
INSTANCE = CompletedText("instance")
PROFILE = CompletedText("profile")
DURATION = DurationType()
BAKE = DurationType(most=LONGEST_BAKE_SECONDS)
WAVES = WavesType()
WORDS = WordsType()


def is_text(word: str) -> bool:
    """Whether it is text that JSON and programs can hold.

    Bytes that are not UTF-8 arrive as surrogates, and NUL ends what a program is given.
    """
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in word)
