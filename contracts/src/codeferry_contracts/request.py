"""The run request: what the CLI, the inbox and a person at the console all hand in."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from codeferry_contracts import layout
from codeferry_contracts.errors import RequestInvalid, TargetInvalid
from codeferry_contracts.names import ROLLBACK, SYNC
from codeferry_contracts.request_schema import (
    DEFAULT_KEEP_RELEASES,
    DEFAULT_PERSIST,
    ROLLBACK_SCHEMA,
    SCHEMA,
    SIGNATURE_SCHEMA,
    problems,
)
from codeferry_contracts.target import FORMS, parse_target

_RUN_TARGETS = ("run:", "wave:")


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
        """What an instance gets of it."""
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
    found = list(problems(document, SIGNATURE_SCHEMA, "signature"))
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
