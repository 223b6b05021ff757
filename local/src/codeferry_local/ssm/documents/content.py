"""The content of a Command document (schema 2.2), parsed and checked as CreateDocument does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from codeferry_local.ssm.errors import InvalidDocumentContent, InvalidDocumentSchemaVersion

# Python has no \p{…}; these are the nearest classes (``_`` comes with the letters).
_CLASSES = {"L": r"\w", "N": r"\d", "Z": r"\s", "Alpha": "a-zA-Z", "Alnum": "a-zA-Z0-9"}
_PROPERTY = re.compile(r"\\p\{(\w+)\}")

SHELL_ACTION = "aws:runShellScript"
_ACTIONS = {SHELL_ACTION: "Linux", "aws:runPowerShellScript": "Windows"}
_TYPES = ("String", "StringList", "Integer", "Boolean", "StringMap", "MapList")
_STEP_NAME = re.compile(r"[a-zA-Z0-9_\-.]{1,128}")
_PLATFORM_VARIABLE = "platformType"
# The agent's own bounds and default for a step's timeout; outside them it takes the default.
SHORTEST_TIMEOUT, LONGEST_TIMEOUT, DEFAULT_TIMEOUT = 5, 172_800, 3_600


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    r"""The pattern, to be used with ``fullmatch`` as Java's ``matches``; raises re.error.

    ``\w``, ``\d`` and ``\s`` are ASCII as in Java, unless the pattern speaks of
    Unicode properties itself.
    """
    translated = _PROPERTY.sub(lambda found: _CLASSES.get(found[1], found[0]), pattern)
    return re.compile(translated, 0 if translated != pattern else re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter as the document defines it; limits that are not given are None."""

    name: str
    type: str
    description: str = ""
    default: Any = None
    allowed_values: tuple[Any, ...] = ()
    allowed_pattern: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    as_variable: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """One entry of mainSteps; texts still carry their ``{{ parameter }}``."""

    name: str
    action: str
    run_command: Any
    timeout_seconds: Any = DEFAULT_TIMEOUT
    working_directory: str = ""
    platform: str | None = None
    on_failure: str = ""
    on_success: str = ""
    final: bool = False


@dataclass(frozen=True, kw_only=True)
class Content:
    """A Command document that the agent can run."""

    schema_version: str
    description: str
    parameters: Mapping[str, Parameter]
    steps: tuple[Step, ...]

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms with at least one step, sorted."""
        return tuple(sorted({step.platform or _ACTIONS[step.action] for step in self.steps}))


def parse(text: str, document_format: str = "JSON") -> Content:
    """The document written in ``text`` (JSON or YAML).

    Raises InvalidDocumentContent, which names the place, or InvalidDocumentSchemaVersion.
    """
    document = _mapping(load(text, document_format), "the document")
    version = document.get("schemaVersion")
    if version != "2.2":
        raise InvalidDocumentSchemaVersion(f"Schema version {version!r} is not run here; use 2.2.")
    definitions = _mapping(document.get("parameters", {}), "parameters")
    return Content(
        schema_version=version,
        description=str(document.get("description", "")),
        parameters={name: _parameter(name, given) for name, given in definitions.items()},
        steps=_steps(document.get("mainSteps")),
    )


def load(text: str, document_format: str) -> Any:
    """The plain value of a document's text; raises InvalidDocumentContent."""
    try:
        return yaml.safe_load(text) if document_format == "YAML" else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidDocumentContent(f"{document_format} not well-formed: {error}") from error


def _steps(given: Any) -> tuple[Step, ...]:
    if not isinstance(given, list) or not given:
        raise InvalidDocumentContent("mainSteps must be a list with at least one step.")
    steps = tuple(_step(_mapping(entry, f"mainSteps[{i}]"), i) for i, entry in enumerate(given))
    names = [step.name for step in steps]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidDocumentContent(f"Step names must be unique; used twice: {', '.join(twice)}.")
    if any(step.final for step in steps[:-1]):
        raise InvalidDocumentContent("Only the last step can be a finallyStep.")
    return steps


def _step(entry: Mapping[str, Any], index: int) -> Step:
    name, action = entry.get("name"), entry.get("action")
    if not isinstance(name, str) or not _STEP_NAME.fullmatch(name):
        raise InvalidDocumentContent(f"mainSteps[{index}] needs a name of letters, digits, _-. .")
    if action not in _ACTIONS:
        raise InvalidDocumentContent(f"Step {name}: action {action!r} is not supported.")
    inputs = _mapping(entry.get("inputs", {}), f"inputs of step {name}")
    return Step(
        name=name,
        action=action,
        run_command=_run_command(inputs.get("runCommand"), name),
        timeout_seconds=inputs.get("timeoutSeconds", DEFAULT_TIMEOUT),
        working_directory=str(inputs.get("workingDirectory", "")),
        platform=_required_platform(entry.get("precondition"), name),
        on_failure=_modifier(inputs, "onFailure"),
        on_success=_modifier(inputs, "onSuccess"),
        final=_modifier(inputs, "finallyStep") == "true",
    )


def _run_command(given: Any, step: str) -> Any:
    lines = [given] if isinstance(given, str) else given
    if not isinstance(lines, list) or not lines or not all(isinstance(x, str) for x in lines):
        raise InvalidDocumentContent(f"Step {step}: runCommand must be a list of strings.")
    return given


def _required_platform(precondition: Any, step: str) -> str | None:
    """Linux or Windows from ``{"StringEquals": ["platformType", "Linux"]}``."""
    if precondition is None:
        return None
    operands = _mapping(precondition, f"precondition of step {step}").get("StringEquals")
    if not isinstance(operands, list) or len(operands) != 2 or _PLATFORM_VARIABLE not in operands:
        raise InvalidDocumentContent(f"Step {step}: precondition must compare platformType.")
    first, second = operands
    return str(second if first == _PLATFORM_VARIABLE else first)


def _parameter(name: str, given: Any) -> Parameter:
    entry = _mapping(given, f"parameter {name}")
    if entry.get("type") not in _TYPES:
        raise InvalidDocumentContent(f"Parameter {name}: type must be one of {', '.join(_TYPES)}.")
    parameter = Parameter(
        name=name,
        type=entry["type"],
        description=str(entry.get("description", "")),
        default=entry.get("default"),
        allowed_values=tuple(entry.get("allowedValues", ())),
        allowed_pattern=entry.get("allowedPattern"),
        min_chars=entry.get("minChars"),
        max_chars=entry.get("maxChars"),
        min_items=entry.get("minItems"),
        max_items=entry.get("maxItems"),
        as_variable=entry.get("interpolationType") == "ENV_VAR",
    )
    _check_definition(parameter)
    return parameter


def _check_definition(parameter: Parameter) -> None:
    if parameter.allowed_pattern is not None:
        try:
            compiled(parameter.allowed_pattern)
        except (re.error, TypeError) as error:
            raise InvalidDocumentContent(
                f"Parameter {parameter.name}: allowedPattern is no regular expression: {error}"
            ) from error
    expected = {"StringList": list, "StringMap": dict, "MapList": list}.get(parameter.type)
    if expected and parameter.default is not None and not isinstance(parameter.default, expected):
        raise InvalidDocumentContent(
            f"Parameter {parameter.name}: a default of type {parameter.type} is a "
            f"{expected.__name__}."
        )


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidDocumentContent(f"{what} must be an object.")
    return value


def _modifier(inputs: Mapping[str, Any], name: str) -> str:
    """An input that steers the document, as text.

    Beside ``inputs`` the agent does not look (getStringPropByName of runpluginutil.go).
    """
    value = inputs.get(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ""
