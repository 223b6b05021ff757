"""The configuration file: `codeferry.toml`, or ``[tool.codeferry]`` in pyproject.toml.

Its keys are defaults of options. The nearest project file, upwards from the directory a command
works on, wins key by key over the user's own file; flags and FERRY_… variables win over both.
"""

from __future__ import annotations

import json
import pkgutil
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from codeferry_cli.errors import ConfigInvalid
from codeferry_cli.options.types import BAKE, DURATION, WAVES, WORDS

FILE_NAME = "codeferry.toml"
PYPROJECT = "pyproject.toml"

_TEXT = "a string"
_NUMBER = "a whole number"
_SHARE = 'a number or a percentage such as "10%"'
_SPAN = 'seconds, or a duration such as "10m"'
_WAVES = 'a string such as "1,10%,50%,100%"'
_LIST = "a list of strings"
_FLAG = "true or false"
_EXPECT = "a table with files and directories, each a list of strings"

KEYS: Mapping[str, str] = {
    "stage": _TEXT,
    "profile": _TEXT,
    "region": _TEXT,
    "project": _TEXT,
    "target": _TEXT,
    "root": _TEXT,
    "include": _LIST,
    "allow_secrets": _LIST,
    "keep_releases": _NUMBER,
    "max_concurrency": _SHARE,
    "max_errors": _SHARE,
    "timeout_seconds": _SPAN,
    "waves": _WAVES,
    "bake": _SPAN,
    "health": _TEXT,
    "strict": _FLAG,
    "install": _FLAG,
    "user": _TEXT,
    "persist": _LIST,
    "expect": _EXPECT,
    "wait_timeout": _SPAN,
}
# Of these the value is looked at as well, where the file it stands in can be named.
_TYPES: Mapping[str, click.ParamType[Any]] = {
    "timeout_seconds": DURATION,
    "waves": WAVES,
    "bake": BAKE,
    "health": WORDS,
    "wait_timeout": DURATION,
}


@dataclass(frozen=True)
class Config:
    """``values`` are option defaults by parameter name; ``files`` what they were read from."""

    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def load(start: Path, explicit: Path | None = None) -> Config:
    """The configuration that holds for ``start``; ``explicit`` replaces the project's file.

    Raises ConfigInvalid, naming file and line.
    """
    project = explicit or find(start)
    files = tuple(path for path in (user_file(), project) if path is not None and path.is_file())
    values: dict[str, Any] = {}
    for path in files:
        values |= _defaults(read(path), path.parent)
    return Config(values=values, files=files)


def find(start: Path) -> Path | None:
    """The nearest file upwards from ``start`` that configures Codeferry."""
    start = start.resolve()
    for directory in (start, *start.parents):
        own = directory / FILE_NAME
        if own.is_file():
            return own
        shared = directory / PYPROJECT
        if shared.is_file() and b"codeferry" in shared.read_bytes() and _has_section(shared):
            return shared
    return None


def user_file() -> Path:
    """The file of the user's own defaults, whether it exists or not."""
    from platformdirs import user_config_path

    return user_config_path("codeferry") / FILE_NAME


def read(path: Path) -> dict[str, Any]:
    """The keys of one file, each checked. Raises ConfigInvalid, naming file and line."""
    text, document = _parse(path)
    section = document
    if path.name == PYPROJECT:
        section = document.get("tool", {}).get("codeferry", {})
    for key, value in section.items():
        _check(path, text, key, value)
    return section


def _parse(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigInvalid(f"{path}, line {line}: this is not UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        line = _line_of_error(error, text)
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigInvalid(
            f"{path}, line {line}: {reason}.", hint="The file must be TOML: key = value."
        ) from error
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}.") from error


def _line_of_error(error: tomllib.TOMLDecodeError, text: str) -> int:
    found = re.search(r"at line (\d+)", str(error))
    return int(found.group(1)) if found else text.rstrip("\n").count("\n") + 1


def _has_section(path: Path) -> bool:
    tool = _parse(path)[1].get("tool", {})
    return isinstance(tool, dict) and isinstance(tool.get("codeferry"), dict)


def _check(path: Path, text: str, key: str, value: Any) -> None:
    where = f"{path}, line {line_of(key, text, pyproject=path.name == PYPROJECT)}"
    if key not in KEYS:
        raise ConfigInvalid(
            f"{where}: unknown key '{key}'.", hint=f"Known keys: {', '.join(KEYS)}."
        )
    if not _fits(KEYS[key], value):
        raise ConfigInvalid(f"{where}: '{key}' must be {KEYS[key]}.")
    if key in _TYPES:
        _convert(where, key, value)


def _convert(where: str, key: str, value: Any) -> None:
    try:
        _TYPES[key].convert(value, None, None)
    except click.BadParameter as problem:
        raise ConfigInvalid(f"{where}: '{key}': {problem.message}") from problem


def line_of(key: str, text: str, *, pyproject: bool) -> int:
    """The line a key or table of that name stands on; 1 when it cannot be made out."""
    name = rf"""["']?{re.escape(key)}["']?"""
    inside = not pyproject
    for number, line in enumerate(text.splitlines(), start=1):
        table = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
        if table:
            inside = not pyproject or table.group(1).startswith("tool.codeferry")
            if inside and re.fullmatch(rf"(tool\.codeferry\.)?{name}(\..*)?", table.group(1)):
                return number
        elif inside and re.match(rf"\s*{name}\s*[=.]", line):
            return number
    return 1


def _fits(wanted: str, value: Any) -> bool:
    if wanted == _LIST:
        return _is_list(value)
    if wanted == _EXPECT:
        known = isinstance(value, dict) and value.keys() <= {"files", "directories"}
        return known and all(_is_list(part) for part in value.values())
    if wanted == _FLAG:
        return isinstance(value, bool)
    number = isinstance(value, int) and not isinstance(value, bool)
    if wanted == _NUMBER:
        return number
    return isinstance(value, str) or (number and wanted in (_SHARE, _SPAN))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _defaults(section: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Keys as parameter names; ``root`` is relative to the file, not to where one stands."""
    values = {key: value for key, value in section.items() if key not in ("expect", "root")}
    if "root" in section:
        values["root"] = str(directory / section["root"])
    for part, paths in section.get("expect", {}).items():
        values[f"expect_{part}"] = paths
    return values


def sample(project: str) -> str:
    """The `codeferry.toml` that `ferry init` writes: every key, explained, most commented out."""
    text = pkgutil.get_data(__name__, "sample.toml")
    assert text is not None, "the package's loader reads files"
    return text.decode().replace('"PROJECT"', json.dumps(project))
