"""Types of arguments and options: what is wrong is said before anything is done."""

from __future__ import annotations

import re
from typing import Any

import click

from codeferry_contracts.names import PROJECT_PATTERN, RUN_ID_PATTERN, STAGE_PATTERN
from codeferry_contracts.request import RELEASE_PATTERN
from codeferry_contracts.target import parse_target

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class TargetType(click.ParamType[str]):
    """A target; anything else is TargetInvalid, whose hint says what one looks like."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        parse_target(value)
        return str(value)


class NameType(click.ParamType[str]):
    """A name that matches one of the contracts' patterns."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name = name
        self._pattern = re.compile(pattern)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._pattern.fullmatch(value):
            wanted = self._pattern.pattern.strip("^$")
            self.fail(f"{value!r} cannot be a {self.name}; it must match {wanted}.", param, ctx)
        return str(value)


class DurationType(click.ParamType[int]):
    """Seconds as a number, or with a unit: ``90``, ``90s``, ``15m``, ``2h``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", str(value).strip())
        if not found or int(found.group(1)) == 0:
            self.fail(f"{value!r} is not a duration such as 90, 90s, 15m or 2h.", param, ctx)
        return int(found.group(1)) * _UNITS[found.group(2)]


TARGET = TargetType()
STAGE = NameType("stage", STAGE_PATTERN)
PROJECT = NameType("project", PROJECT_PATTERN)
# A run is named in full, by the beginning of its name, or as `latest`.
RUN = NameType("run", RUN_ID_PATTERN)
RELEASE = NameType("release", RELEASE_PATTERN)
DURATION = DurationType()
