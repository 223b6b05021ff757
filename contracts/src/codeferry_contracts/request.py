"""The run request: what the CLI, the inbox and a person at the console all hand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codeferry_contracts import layout
from codeferry_contracts.errors import CodeferryError, RequestInvalid
from codeferry_contracts.names import PROJECT_PATTERN
from codeferry_contracts.shape import problems
from codeferry_contracts.target import parse_target

DEFAULT_TIMEOUT_SECONDS = 900
DEFAULT_KEEP_RELEASES = 5
DEFAULT_PERSIST = ("output", "checkpoints", "data")

_RELATIVE_PATH = {
    "type": "string",
    "maxLength": 1024,
    "pattern": r"^(?!/)(?!(?:[^/]*/)*\.{1,2}(?:/|$))[^\x00-\x1f]+$",
    "x-says": "a path inside the project",
}
_PATHS = {"type": "array", "maxItems": 100, "items": _RELATIVE_PATH}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Codeferry run request",
    "description": "The input of a Codeferry workflow; only archive.key and target are required.",
    "type": "object",
    "additionalProperties": False,
    "required": ["archive", "target"],
    "properties": {
        "archive": {
            "description": "The archive in the stage's artifact bucket.",
            "type": "object",
            "additionalProperties": False,
            "required": ["key"],
            "properties": {
                "key": {
                    "description": "Its key, under archives/ or inbox/. The run deletes it.",
                    "type": "string",
                    "maxLength": 1024,
                    "pattern": r"^(archives|inbox)/.*[^/]\.tar\.gz$",
                    "x-says": "archives/….tar.gz or inbox/<target>/….tar.gz",
                },
                "sha256": {
                    "description": "Hex SHA-256 of the archive; computed by plan when absent.",
                    "type": "string",
                    "pattern": r"^[0-9a-f]{64}$",
                    "x-says": "64 lower-case hex digits",
                },
                "version_id": {
                    "description": "The object version; the newest when absent.",
                    "type": "string",
                    "maxLength": 1024,
                },
            },
        },
        "project": {
            "description": "Names the directory on the instance; "
            "from the manifest or the key when absent.",
            "type": "string",
            "pattern": PROJECT_PATTERN,
            "x-says": "a project name: letters, digits, dot, dash, underscore, at most 64",
        },
        "target": {
            "description": "i-…, tag:Key=Value, asg:NAME, all, "
            "or a value of the tag codeferry:target.",
            "type": "string",
            "maxLength": 512,
        },
        "expect": {
            "description": "What must exist in the release.",
            "type": "object",
            "additionalProperties": False,
            "properties": {"files": _PATHS, "directories": _PATHS},
        },
        "options": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "timeout_seconds": {
                    "description": "Of the work on each instance; "
                    f"{DEFAULT_TIMEOUT_SECONDS} when absent.",
                    "type": "integer",
                    "minimum": 30,
                    "maximum": 172800,
                },
                "max_concurrency": {
                    "description": "Instances at a time over the whole fleet, "
                    "a number or N%; all when absent.",
                    "type": "string",
                    "pattern": r"^([1-9][0-9]{0,5}|[1-9][0-9]?%|100%)$",
                    "x-says": "a number or a percentage such as 10%",
                },
                "max_errors": {
                    "description": "Failed instances a run may have and still go on and "
                    "succeed, a number or N%. Absent: every instance is tried and the run "
                    "succeeds only if all did.",
                    "type": "string",
                    "pattern": r"^(0|[1-9][0-9]{0,5}|[1-9]?[0-9]%|100%)$",
                    "x-says": "a number or a percentage such as 10%",
                },
                "keep_releases": {
                    "description": "Releases kept on an instance; "
                    f"{DEFAULT_KEEP_RELEASES} when absent.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 100,
                },
                "strict": {
                    "description": "An unmet expectation fails the instance instead of warning.",
                    "type": "boolean",
                },
                "user": {
                    "description": "Owner of the tree; "
                    "the first login user (uid 1000) when absent.",
                    "type": "string",
                    "pattern": r"^[a-z_][a-z0-9_-]{0,31}$",
                    "x-says": "a user name",
                },
                "persist": {
                    "description": "Paths that live on from release to release; "
                    f"{', '.join(DEFAULT_PERSIST)} when absent, "
                    "each only when the archive has no such path.",
                }
                | _PATHS,
            },
        },
    },
}


@dataclass(frozen=True)
class Archive:
    key: str
    sha256: str | None = None
    version_id: str | None = None


@dataclass(frozen=True)
class Expect:
    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS
    max_concurrency: str = "100%"
    max_errors: str | None = None
    keep_releases: int = DEFAULT_KEEP_RELEASES
    strict: bool = False
    user: str | None = None
    persist: tuple[str, ...] = DEFAULT_PERSIST


@dataclass(frozen=True)
class RunRequest:
    """A checked request; every default filled in."""

    archive: Archive
    target: str
    project: str | None = None
    expect: Expect = field(default_factory=Expect)
    options: Options = field(default_factory=Options)

    def to_json(self) -> dict[str, Any]:
        """The request as the workflow takes it: what equals its default is left out."""
        document = {
            "archive": _stated(self.archive, None),
            "project": self.project,
            "target": self.target,
            "expect": _stated(self.expect, Expect()),
            "options": _stated(self.options, Options()),
        }
        return {key: value for key, value in document.items() if value}


def parse_request(document: Any) -> RunRequest:
    """A RunRequest from the JSON a person or program handed in.

    Raises RequestInvalid that lists every problem, or TargetInvalid.
    """
    found = list(problems(document, SCHEMA))
    if not found and not layout.is_archive_key(document["archive"]["key"]):
        found.append("archive.key must lie under archives/ or inbox/")
    if found:
        raise RequestInvalid(
            f"The run request is not usable: {'; '.join(found)}.",
            hint="Its shape is described in docs/run-request.md.",
        )
    parse_target(document["target"])
    return RunRequest(
        archive=Archive(**document["archive"]),
        target=document["target"],
        project=document.get("project"),
        expect=Expect(**_tuples(document.get("expect", {}))),
        options=Options(**_tuples(document.get("options", {}))),
    )


def is_request(document: Any) -> bool:
    """Whether ``parse_request`` would take it."""
    try:
        parse_request(document)
    except CodeferryError:
        return False
    return True


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}


def _stated(value: Any, default: Any) -> dict[str, Any]:
    """The fields of a dataclass that were set, lists as JSON has them."""
    stated = {}
    for name in value.__dataclass_fields__:
        content = getattr(value, name)
        if content != getattr(default, name, None):
            stated[name] = list(content) if isinstance(content, tuple) else content
    return stated
