"""The run request: what the CLI, the inbox and a person at the console all hand in."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from codeferry_contracts import layout
from codeferry_contracts.archive import MOST_FILES, UNPACKED_BYTES, UNPACKED_FILES, UNPACKED_RATIO
from codeferry_contracts.errors import CodeferryError, RequestInvalid, TargetInvalid
from codeferry_contracts.names import PROJECT_PATTERN, ROLLBACK, RUN_ID_PATTERN, SYNC
from codeferry_contracts.parameters import (
    APPLY_SECONDS,
    HEALTH_SECONDS,
    LONGEST_BAKE_SECONDS,
    LONGEST_COMMAND_SECONDS,
    SCRIPT_SECONDS,
)
from codeferry_contracts.request_schema import problems
from codeferry_contracts.target import FORMS, parse_target

DEFAULT_KEEP_RELEASES = 5
MAX_ARGUMENTS = 2000
_RUN_TARGETS = ("run:", "wave:")
DEFAULT_PERSIST = ("output", "checkpoints", "data")

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


@dataclass(frozen=True)
class Archive:
    key: str
    sha256: str | None = None
    version_id: str | None = None
    unpacked_bytes: int | None = None
    unpacked_files: int | None = None


@dataclass(frozen=True)
class Environment:
    key: str
    version_id: str | None = None


@dataclass(frozen=True)
class Signature:
    """``value`` and ``kept`` are base64, ``sequence`` is in milliseconds, ``expires_at`` in
    seconds, both since 1970; ``environment`` is a hex SHA-256. What is signed: ``signing``."""

    value: str
    sequence: int
    target: str
    expires_at: int = 0
    run_id: str = ""
    environment: str = ""
    kept: str = ""

    def delivered(self) -> dict[str, Any]:
        """What an instance is told of it."""
        return {name: content for name, content in asdict(self).items() if name != "kept"}

    def to_json(self) -> dict[str, Any]:
        """As a request states it."""
        return _stated(self, Signature("", 0, ""))


@dataclass(frozen=True)
class Expect:
    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollout:
    """``waves`` are cumulative: how many instances, a number or N%, each wave ends with."""

    waves: tuple[str, ...]
    bake_seconds: int = 0
    health: tuple[str, ...] = ()


@dataclass(frozen=True)
class StartedBy:
    """Who asked for a run: a user's name, a machine's, and the project's directory there."""

    user: str = ""
    host: str = ""
    root: str = ""


@dataclass(frozen=True)
class Options:
    timeout_seconds: int | None = None
    max_concurrency: str = "100%"
    max_errors: str | None = None
    keep_releases: int = DEFAULT_KEEP_RELEASES
    strict: bool = False
    install: bool = False
    user: str | None = None
    persist: tuple[str, ...] = DEFAULT_PERSIST
    rollout: Rollout | None = None


@dataclass(frozen=True)
class RunRequest:
    """A checked request; every default filled in.

    Without ``archive`` it asks for a rollback, to ``release`` if that is stated.
    """

    archive: Archive | None
    target: str
    project: str | None = None
    release: str | None = None
    command: tuple[str, ...] = ()
    environment: Environment | None = None
    signature: Signature | None = None
    started_by: StartedBy | None = None
    expect: Expect = field(default_factory=Expect)
    options: Options = field(default_factory=Options)

    def to_json(self) -> dict[str, Any]:
        """The request as the workflow takes it: what equals its default is left out."""
        document = {
            "archive": _stated(self.archive, None) if self.archive else None,
            "project": self.project,
            "target": self.target,
            "release": self.release,
            "command": list(self.command),
            "environment": _stated(self.environment, None) if self.environment else None,
            "signature": self.signature.to_json() if self.signature else None,
            "started_by": _stated(self.started_by, StartedBy()) if self.started_by else None,
            "expect": _stated(self.expect, Expect()),
            "options": _stated(self.options, Options()),
        }
        return {key: value for key, value in document.items() if value}


def parse_request(document: Any, workflow: str = SYNC) -> RunRequest:
    """A RunRequest from the JSON a person or program handed in.

    Raises RequestInvalid that lists every problem, or TargetInvalid.
    """
    found = list(problems(document, ROLLBACK_SCHEMA if workflow == ROLLBACK else SCHEMA))
    found = found or list(_contradictions(document, workflow))
    if found:
        raise RequestInvalid(
            f"The run request is not usable: {'; '.join(found)}.",
            hint="Its shape is described in docs/run-request.md.",
        )
    _require_target(document["target"], workflow)
    return RunRequest(
        archive=Archive(**document["archive"]) if "archive" in document else None,
        target=document["target"],
        project=document.get("project"),
        release=document.get("release"),
        command=tuple(document.get("command", ())),
        environment=Environment(**document["environment"]) if "environment" in document else None,
        signature=Signature(**document["signature"]) if "signature" in document else None,
        started_by=StartedBy(**document["started_by"]) if "started_by" in document else None,
        expect=Expect(**_tuples(document.get("expect", {}))),
        options=_options(document.get("options", {})),
    )


def parse_signature(document: Any) -> Signature:
    """A Signature from JSON, such as lies beside an upload. Raises RequestInvalid."""
    found = list(problems(document, SCHEMA["properties"]["signature"], "signature"))
    if found:
        raise RequestInvalid(f"The signature is not usable: {'; '.join(found)}.")
    return Signature(**document)


def _contradictions(document: Any, workflow: str) -> Iterator[str]:
    """What a schema of one key at a time does not see."""
    if workflow == ROLLBACK:
        if "project" not in document and not document["target"].startswith(_RUN_TARGETS):
            yield "project is missing"
    elif not layout.is_source_key(document["archive"]["key"]):
        yield "archive.key must lie under archives/, inbox/ or releases/"


def _require_target(text: str, workflow: str) -> None:
    """TargetInvalid for what no target is, or not one of this workflow."""
    target = parse_target(text)
    if target.kind in ("run", "wave") and workflow != ROLLBACK:
        raise TargetInvalid(
            f"The target {text!r} is what a run has changed: it can only be rolled back.",
            hint=f"A target is {FORMS}.",
        )


def _options(document: Mapping[str, Any]) -> Options:
    stated = _tuples(document)
    if "rollout" in stated:
        stated["rollout"] = Rollout(**_tuples(stated["rollout"]))
    return Options(**stated)


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
            stated[name] = _plain(content)
    return stated


def _plain(content: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(content, Rollout):
        return _stated(content, Rollout(()))
    return list(content) if isinstance(content, tuple) else content


# Interpreters, with the letters of their options after which comes code or a module's name.
_INTERPRETERS = {
    r"python[\d.]*": "cm",
    r"(ba)?sh": "c",
    r"node": "ep",
    r"ruby": "e",
    r"perl": "eE",
    r"Rscript": "e",
}
_LONGEST_PATH = 1024  # of a request
_FILE = re.compile(r"[^\x00-\x20=:]*[^/\x00-\x20=:](\.[A-Za-z]\w*|/[^/\x00-\x20=:]+)")


def expected_of(command: Sequence[str]) -> Expect:
    """What must exist for ``command`` to begin: its script, and the directory that is in."""
    script = entry_script(command)
    if script is None:
        return Expect()
    directory = posixpath.dirname(script)
    return Expect((script,), (directory,) if directory else ())


def entry_script(command: Sequence[str]) -> str | None:
    """The path inside the project of the file the command begins with; None if not clear.

    That is the program itself when it has a path, or else the first word behind an
    interpreter that looks like a file.
    """
    program, *words = command
    if tuple(command[:2]) == ("uv", "run"):
        return _behind_uv_run(words[1:])
    code = _code_options(program)
    if code is not None:
        return _first_file(words, code)
    return _inside(program) if "/" in program else None


def _behind_uv_run(words: Sequence[str]) -> str | None:
    for number, word in enumerate(words):
        if _code_options(word) is not None:
            return entry_script(words[number:])
        if _is_code(word, "m"):
            return None
        if _FILE.fullmatch(word):
            return _inside(word)
    return None


def _code_options(program: str) -> str | None:
    name = posixpath.basename(program)
    matches = (code for known, code in _INTERPRETERS.items() if re.fullmatch(known, name))
    return next(matches, None)


def _first_file(words: Sequence[str], code: str) -> str | None:
    for word in words:
        if _is_code(word, code):
            return None
        if not word.startswith("-") and _FILE.fullmatch(word):
            return _inside(word)
    return None


def _is_code(word: str, code: str) -> bool:
    return re.fullmatch(rf"-\w*[{code}]", word) is not None


def _inside(path: str) -> str | None:
    """The path as a release has it; None for one that is not in it."""
    normal = posixpath.normpath(path)
    outside = normal.startswith(("/", "../")) or normal in ("..", ".")
    writable = normal.isprintable() and len(normal) <= _LONGEST_PATH
    return normal if writable and not outside else None
