"""The subset of JSON Schema the contracts use: check a value, name every problem.

A schema is the one description of a document: validation reads it and the docs are
generated from it. The subset is type, properties, required, additionalProperties
(false), items, maxItems, minItems, pattern, maxLength, minimum and maximum."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from codeferry_contracts.archive import MOST_FILES, UNPACKED_BYTES, UNPACKED_FILES, UNPACKED_RATIO
from codeferry_contracts.names import PROJECT_PATTERN, RUN_ID_PATTERN
from codeferry_contracts.parameters import (
    APPLY_SECONDS,
    HEALTH_SECONDS,
    LONGEST_BAKE_SECONDS,
    LONGEST_COMMAND_SECONDS,
    SCRIPT_SECONDS,
)

DEFAULT_KEEP_RELEASES = 5
DEFAULT_PERSIST = ("output", "checkpoints", "data")
MAX_ARGUMENTS = 2000

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


def problems(value: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Every way in which ``value`` departs from ``schema``, each as a sentence part."""
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
        yield f"{where or 'the request'} must be {_article(kind)}, not {_spell(value)}"
        return
    match kind:
        case "object":
            yield from _object(value, schema, where)
        case "array":
            yield from _array(value, schema, where)
        case "string":
            yield from _string(value, schema, where)
        case "integer":
            yield from _integer(value, schema, where)


def _object(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    known: Mapping[str, Any] = schema["properties"]
    for key in value:
        if key not in known:
            yield f"{_join(where, str(key))} is not a known key (known: {', '.join(known)})"
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{_join(where, key)} is missing"
    for key, part in known.items():
        if key in value:
            yield from problems(value[key], part, _join(where, key))


def _array(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    most = schema.get("maxItems")
    if most is not None and len(value) > most:
        yield f"{where} has {len(value)} items, at most {most} are allowed"
        return
    least = schema.get("minItems", 0)
    if len(value) < least:
        yield f"{where} has {len(value)} items, at least {least} is needed"
    for index, item in enumerate(value):
        yield from problems(item, schema["items"], f"{where}[{index}]")


def _string(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    most = schema.get("maxLength")
    if most is not None and len(value) > most:
        yield f"{where} is longer than {most} characters"
    elif "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value):
        wanted = schema.get("x-says", f"of the form {schema['pattern']}")
        yield f"{where} {_spell(value)} is not {wanted}"


def _integer(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if (least is not None and value < least) or (most is not None and value > most):
        yield f"{where} must be between {least} and {most}, not {value}"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _spell(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


_RELATIVE_PATH = {
    "type": "string",
    "maxLength": 1024,
    "pattern": r"^(?!/)(?!(?:[^/]*/)*\.{1,2}(?:/|$))[^\x00-\x1f]+$",
    "x-says": "a path inside the project",
}
_PATHS = {"type": "array", "maxItems": 100, "items": _RELATIVE_PATH}
_WORD = {"type": "string", "maxLength": 16_384, "pattern": r"^[^\x00]*$", "x-says": "without NUL"}
_SIGNATURE = {
    "description": "Base64 of an RSA signature (PKCS #1 v1.5, SHA-256).",
    "type": "string",
    "pattern": r"^[A-Za-z0-9+/]{1,2048}={0,2}$",
    "x-says": "base64",
}
SHARE_PATTERN = r"^([1-9][0-9]{0,5}|[1-9][0-9]?%|100%)$"
RELEASE_PATTERN = r"^[0-9a-f]{20}$"

_STARTER_TEXT = {"type": "string", "maxLength": 1024, "pattern": r"^[^\x00-\x1f\x7f]*$"} | {
    "x-says": "one line of text"
}
_STARTED_BY = {
    "description": "Who asked for the run, as that machine says: shown, and told apart by; what "
    "AWS knows of the caller is in CloudTrail.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "user": _STARTER_TEXT | {"description": "The user's name on that machine."},
        "host": _STARTER_TEXT | {"description": "That machine's name."},
        "root": _STARTER_TEXT | {"description": "The project's directory there."},
    },
}

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
                    "description": "Its key, under archives/ or inbox/, from where the run "
                    "deletes it, or under releases/, where it stays.",
                    "type": "string",
                    "maxLength": 1024,
                    "pattern": r"^(archives|inbox|releases)/.*[^/]\.tar\.gz$",
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
                "unpacked_bytes": {
                    "description": "What its files may come to at most. When absent as much as "
                    f"its manifest lists; without one {UNPACKED_BYTES >> 30} GiB, or "
                    f"{UNPACKED_RATIO} times the archive if that is more.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 1 << 50,
                },
                "unpacked_files": {
                    "description": "How many files, links and directories may come out of it. "
                    "When absent as many as its manifest lists; without one "
                    f"{UNPACKED_FILES:,}.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST_FILES,
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
            "description": "i-… (up to 50 with commas between them), tag:Key=Value, asg:NAME, "
            "all, or a value of the tag codeferry:target.",
            "type": "string",
            "maxLength": 1024,
        },
        "command": {
            "description": "The program to run in the new release, then its arguments. Of a "
            "script run: the script's path in the archive, then its arguments.",
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_ARGUMENTS,
            "items": _WORD,
        },
        "environment": {
            "description": "The command's variables, a JSON object of strings in the stage's "
            "bucket. Not written here: a request is kept, and they may be secrets.",
            "type": "object",
            "additionalProperties": False,
            "required": ["key"],
            "properties": {
                "key": {
                    "description": "Its key, with the execution's name (or any under archives/, "
                    "where an older ferry puts it and others may read it). The run deletes it.",
                    "type": "string",
                    "maxLength": 1024,
                    "pattern": r"^(environments|archives)/.*[^/]\.env\.json$",
                    "x-says": "environments/<execution>.env.json",
                },
                "version_id": {
                    "description": "The object version; the newest when absent.",
                    "type": "string",
                    "maxLength": 1024,
                },
            },
        },
        "signature": {
            "description": "Of a stage whose instances ask for signed releases: made by ferry. "
            "Of an upload to the inbox it lies beside it, as <name>.sig.",
            "type": "object",
            "additionalProperties": False,
            "required": ["value", "sequence", "target"],
            "properties": {
                "value": _SIGNATURE,
                "kept": _SIGNATURE
                | {
                    "description": "The same without run, command and expiry: for the release as "
                    "it is kept for late joiners."
                },
                "sequence": {
                    "description": "When it was signed, in milliseconds since 1970. An instance "
                    "takes none that is below one it has had for target and project.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 1 << 50,
                },
                "expires_at": {
                    "description": "Seconds since 1970; never when absent.",
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 1 << 50,
                },
                "run_id": {
                    "description": "The only run that may bring it; any when absent.",
                    "type": "string",
                    "pattern": RUN_ID_PATTERN,
                    "x-says": "a run id",
                },
                "target": {
                    "description": "The target it was signed for.",
                    "type": "string",
                    "maxLength": 1024,
                    "pattern": r"^[^\x00-\x1f]+$",
                    "x-says": "a target",
                },
                "environment": {
                    "description": "Hex SHA-256 of the command's variables, as they lie in S3.",
                    "type": "string",
                    "pattern": r"^[0-9a-f]{64}$",
                    "x-says": "64 lower-case hex digits",
                },
            },
        },
        "started_by": _STARTED_BY,
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
                    "description": "Of the command on each instance; when absent "
                    f"{SCRIPT_SECONDS} for a script and as long as Run Command allows (48 h) "
                    f"for a command. Without one of the work itself, {APPLY_SECONDS} when absent.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": LONGEST_COMMAND_SECONDS,
                },
                "max_concurrency": {
                    "description": "Instances at a time over the whole fleet, "
                    "a number or N%; all when absent.",
                    "type": "string",
                    "pattern": SHARE_PATTERN,
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
                "install": {
                    "description": "Install what requirements.txt, pyproject.toml or uv.lock "
                    "names, before the command if there is one.",
                    "type": "boolean",
                },
                "user": {
                    "description": "Owner of the tree, and who the command runs as; "
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
                "rollout": {
                    "description": "Carry the release out in waves, and back where it fails.",
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["waves"],
                    "properties": {
                        "waves": {
                            "description": "How many instances have the release after each "
                            "wave, numbers or N%; what is left after the last follows it.",
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 20,
                            "items": {
                                "type": "string",
                                "pattern": SHARE_PATTERN,
                                "x-says": "a number or a percentage such as 10%",
                            },
                        },
                        "bake_seconds": {
                            "description": "How long each instance is left alone with the "
                            "release before its wave counts as done.",
                            "type": "integer",
                            "minimum": 0,
                            "maximum": LONGEST_BAKE_SECONDS,
                        },
                        "health": {
                            "description": "A command run in the release after that, for at most "
                            f"{HEALTH_SECONDS} s. Any exit code but 0 returns the instance to "
                            "its release before, and then its wave.",
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 100,
                            "items": _WORD,
                        },
                    },
                },
            },
        },
    },
}

_OPTION_SCHEMAS = SCHEMA["properties"]["options"]["properties"]
ROLLBACK_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Codeferry rollback request",
    "description": "The input of the rollback workflow; only target and project are required.",
    "type": "object",
    "additionalProperties": False,
    "required": ["target"],
    "properties": {
        "target": {
            "description": "As of a run, or run:RUN for the instances that a run has given its "
            "release, or wave:RUN for those of them in its last wave; both name the project.",
            "type": "string",
            "maxLength": 1024,
        },
        "project": SCHEMA["properties"]["project"]
        | {"description": "The project on the instances."},
        "release": {
            "description": "The release to go back to; the one before the current one when "
            "absent, on each instance its own.",
            "type": "string",
            "pattern": RELEASE_PATTERN,
            "x-says": "a release id, 20 hex digits",
        },
        "started_by": _STARTED_BY,
        "options": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: _OPTION_SCHEMAS[name]
                for name in ("timeout_seconds", "max_concurrency", "max_errors")
            },
        },
    },
}
