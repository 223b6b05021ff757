"""The schemas of a run request and of a rollback request, and the check against them.

A schema is the one description of a document: validation reads it and the docs are
generated from it. The subset of JSON Schema is type, properties, required,
additionalProperties (false), items, maxItems, minItems, pattern, maxLength, minimum and
maximum; ``x-says`` names what a pattern is for.
"""

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

Schema = dict[str, Any]

DEFAULT_KEEP_RELEASES = 5
DEFAULT_PERSIST = ("output", "checkpoints", "data")
MAX_ARGUMENTS = 2000
SHARE_PATTERN = r"^([1-9][0-9]{0,5}|[1-9][0-9]?%|100%)$"
RELEASE_PATTERN = r"^[0-9a-f]{20}$"

_LONGEST = 1024  # of a key, a version, a target and a path
_MANY = 1 << 50


def _object(properties: Schema, description: str = "", required: tuple[str, ...] = ()) -> Schema:
    return {
        **({"description": description} if description else {}),
        "type": "object",
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        "properties": properties,
    }


def _text(description: str = "", pattern: str = "", says: str = "", longest: int = 0) -> Schema:
    return {
        **({"description": description} if description else {}),
        "type": "string",
        **({"maxLength": longest} if longest else {}),
        **({"pattern": pattern} if pattern else {}),
        **({"x-says": says} if says else {}),
    }


def _integer_between(minimum: int, maximum: int, description: str) -> Schema:
    return {
        "description": description,
        "type": "integer",
        "minimum": minimum,
        "maximum": maximum,
    }


def _words(description: str, longest: int) -> Schema:
    items = _text(pattern=r"^[^\x00]*$", says="without NUL", longest=16_384)
    return {
        "description": description,
        "type": "array",
        "minItems": 1,
        "maxItems": longest,
        "items": items,
    }


def _sha256(description: str) -> Schema:
    return _text(description, r"^[0-9a-f]{64}$", "64 lower-case hex digits")


def _signature(description: str) -> Schema:
    return _text(description, r"^[A-Za-z0-9+/]{1,2048}={0,2}$", "base64")


def _share(description: str = "", pattern: str = SHARE_PATTERN) -> Schema:
    return _text(description, pattern, "a number or a percentage such as 10%")


def _flag(description: str) -> Schema:
    return {"description": description, "type": "boolean"}


_PATHS = {
    "type": "array",
    "maxItems": 100,
    "items": _text(
        pattern=r"^(?!/)(?!(?:[^/]*/)*\.{1,2}(?:/|$))[^\x00-\x1f]+$",
        says="a path inside the project",
        longest=_LONGEST,
    ),
}
_VERSION = _text("The object version; the newest when absent.", longest=_LONGEST)
_PROJECT_FORM = "a project name: letters, digits, dot, dash, underscore, at most 64"
_LINE = r"^[^\x00-\x1f\x7f]*$", "one line of text", _LONGEST

_ARCHIVE = _object(
    {
        "key": _text(
            "Its key, under archives/ or inbox/, from where the run deletes it, or under "
            "releases/, where it stays.",
            r"^(archives|inbox|releases)/.*[^/]\.tar\.gz$",
            "archives/….tar.gz or inbox/<target>/….tar.gz",
            _LONGEST,
        ),
        "sha256": _sha256("Hex SHA-256 of the archive; computed by plan when absent."),
        "version_id": _VERSION,
        "unpacked_bytes": _integer_between(
            1,
            _MANY,
            "What its files may come to at most. When absent as much as its manifest lists; "
            f"without one {UNPACKED_BYTES >> 30} GiB, or {UNPACKED_RATIO} times the archive if "
            "that is more.",
        ),
        "unpacked_files": _integer_between(
            1,
            MOST_FILES,
            "How many files, links and directories may come out of it. When absent as many as "
            f"its manifest lists; without one {UNPACKED_FILES:,}.",
        ),
    },
    "The archive in the stage's artifact bucket.",
    required=("key",),
)
_ENVIRONMENT = _object(
    {
        "key": _text(
            "Its key, with the execution's name (or any under archives/, where an older ferry "
            "puts it and others may read it). The run deletes it.",
            r"^(environments|archives)/.*[^/]\.env\.json$",
            "environments/<execution>.env.json",
            _LONGEST,
        ),
        "version_id": _VERSION,
    },
    "The command's variables, a JSON object of strings in the stage's bucket. Not written here: "
    "a request is kept, and they may be secrets.",
    required=("key",),
)
SIGNATURE_SCHEMA = _object(
    {
        "value": _signature("Base64 of an RSA signature (PKCS #1 v1.5, SHA-256)."),
        "kept": _signature(
            "The same without run, command and expiry: for the release as it is kept for late "
            "joiners."
        ),
        "sequence": _integer_between(
            1,
            _MANY,
            "When it was signed, in milliseconds since 1970. An instance takes none that is "
            "below one it has had for target and project.",
        ),
        "expires_at": _integer_between(0, _MANY, "Seconds since 1970; never when absent."),
        "run_id": _text(
            "The only run that may bring it; any when absent.", RUN_ID_PATTERN, "a run id"
        ),
        "target": _text("The target it was signed for.", r"^[^\x00-\x1f]+$", "a target", _LONGEST),
        "environment": _sha256("Hex SHA-256 of the command's variables, as they lie in S3."),
    },
    "Of a stage whose instances ask for signed releases: made by ferry. Of an upload to the "
    "inbox it lies beside it, as <name>.sig.",
    required=("value", "sequence", "target"),
)
_STARTED_BY = _object(
    {
        "user": _text("The user's name on that machine.", *_LINE),
        "host": _text("That machine's name.", *_LINE),
        "root": _text("The project's directory there.", *_LINE),
    },
    "Who asked for the run, as that machine says: shown, and told apart by; what AWS knows of "
    "the caller is in CloudTrail.",
)
_ROLLOUT = _object(
    {
        "waves": {
            "description": "How many instances have the release after each wave, numbers or N%; "
            "what is left after the last follows it.",
            "type": "array",
            "minItems": 1,
            "maxItems": 20,
            "items": _share(),
        },
        "bake_seconds": _integer_between(
            0,
            LONGEST_BAKE_SECONDS,
            "How long each instance is left alone with the release before its wave counts as done.",
        ),
        "health": _words(
            "A command run in the release after that, for at most "
            f"{HEALTH_SECONDS} s. Any exit code but 0 returns the instance to its release "
            "before, and then its wave.",
            100,
        ),
    },
    "Carry the release out in waves, and back where it fails.",
    required=("waves",),
)
_OPTIONS: Schema = {
    "timeout_seconds": _integer_between(
        1,
        LONGEST_COMMAND_SECONDS,
        f"Of the command on each instance; when absent {SCRIPT_SECONDS} for a script and as long "
        "as Run Command allows (48 h) for a command. Without one of the work itself, "
        f"{APPLY_SECONDS} when absent.",
    ),
    "max_concurrency": _share(
        "Instances at a time over the whole fleet, a number or N%; all when absent."
    ),
    "max_errors": _share(
        "Failed instances a run may have and still go on and succeed, a number or N%. Absent: "
        "every instance is tried and the run succeeds only if all did.",
        r"^(0|[1-9][0-9]{0,5}|[1-9]?[0-9]%|100%)$",
    ),
    "keep_releases": _integer_between(
        1, 100, f"Releases kept on an instance; {DEFAULT_KEEP_RELEASES} when absent."
    ),
    "strict": _flag("An unmet expectation fails the instance instead of warning."),
    "install": _flag(
        "Install what requirements.txt, pyproject.toml or uv.lock names, before the command if "
        "there is one."
    ),
    "user": _text(
        "Owner of the tree, and who the command runs as; the first login user (uid 1000) when "
        "absent.",
        r"^[a-z_][a-z0-9_-]{0,31}$",
        "a user name",
    ),
    "persist": {
        "description": "Paths that live on from release to release; "
        f"{', '.join(DEFAULT_PERSIST)} when absent, each only when the archive has no such path.",
        **_PATHS,
    },
    "rollout": _ROLLOUT,
}

_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
SCHEMA: Schema = {
    **_DIALECT,
    "title": "Codeferry run request",
    **_object(
        {
            "archive": _ARCHIVE,
            "project": _text(
                "Names the directory on the instance; from the manifest or the key when absent.",
                PROJECT_PATTERN,
                _PROJECT_FORM,
            ),
            "target": _text(
                "i-… (up to 50 with commas between them), tag:Key=Value, asg:NAME, all, or a "
                "value of the tag codeferry:target.",
                longest=_LONGEST,
            ),
            "command": _words(
                "The program to run in the new release, then its arguments. Of a script run: the "
                "script's path in the archive, then its arguments.",
                MAX_ARGUMENTS,
            ),
            "environment": _ENVIRONMENT,
            "signature": SIGNATURE_SCHEMA,
            "started_by": _STARTED_BY,
            "expect": _object(
                {"files": _PATHS, "directories": _PATHS}, "What must exist in the release."
            ),
            "options": _object(_OPTIONS),
        },
        "The input of a Codeferry workflow; only archive.key and target are required.",
        required=("archive", "target"),
    ),
}
ROLLBACK_SCHEMA: Schema = {
    **_DIALECT,
    "title": "Codeferry rollback request",
    **_object(
        {
            "target": _text(
                "As of a run, or run:RUN for the instances that a run has given its release, or "
                "wave:RUN for those of them in its last wave; both name the project.",
                longest=_LONGEST,
            ),
            "project": _text("The project on the instances.", PROJECT_PATTERN, _PROJECT_FORM),
            "release": _text(
                "The release to go back to; the one before the current one when absent, on each "
                "instance its own.",
                RELEASE_PATTERN,
                "a release id, 20 hex digits",
            ),
            "started_by": _STARTED_BY,
            "options": _object(
                {
                    name: _OPTIONS[name]
                    for name in ("timeout_seconds", "max_concurrency", "max_errors")
                }
            ),
        },
        "The input of the rollback workflow; only target and project are required.",
        required=("target",),
    ),
}

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
        yield f"{where or 'the request'} must be {_article(kind)}, not {_quoted(value)}"
        return
    match kind:
        case "object":
            yield from _object_problems(value, schema, where)
        case "array":
            yield from _array_problems(value, schema, where)
        case "string":
            yield from _string_problems(value, schema, where)
        case "integer":
            yield from _integer_problems(value, schema, where)


def _object_problems(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
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


def _array_problems(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    most = schema.get("maxItems")
    if most is not None and len(value) > most:
        yield f"{where} has {len(value)} items, at most {most} are allowed"
        return
    least = schema.get("minItems", 0)
    if len(value) < least:
        yield f"{where} has {len(value)} items, at least {least} is needed"
    for index, item in enumerate(value):
        yield from problems(item, schema["items"], f"{where}[{index}]")


def _string_problems(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    most = schema.get("maxLength")
    if most is not None and len(value) > most:
        yield f"{where} is longer than {most} characters"
    elif "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value):
        wanted = schema.get("x-says", f"of the form {schema['pattern']}")
        yield f"{where} {_quoted(value)} is not {wanted}"


def _integer_problems(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if (least is not None and value < least) or (most is not None and value > most):
        yield f"{where} must be between {least} and {most}, not {value}"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
