"""A command's parameters: checked against the document, then put into its texts.

Substitution is plain text, as SSM's is: a value lands in the script as written.
What keeps that safe is the document's ``allowedPattern``, which is why it is
enforced here exactly (whole value, ASCII classes)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codeferry_local.ssm.documents.content import (
    DEFAULT_TIMEOUT,
    LONGEST_TIMEOUT,
    SHORTEST_TIMEOUT,
    Content,
    Parameter,
    Step,
    compiled,
)
from codeferry_local.ssm.errors import InvalidParameters

# What Go's encoder writes otherwise than Python's.
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_GO_KINDS: dict[type, str] = {
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
    list: "array",
}
# The names whose reference alone becomes the typed value (paramNameRegex).
_SINGLE = re.compile(r"[a-zA-Z0-9]+")
_REFERENCE = re.compile(r"\{\{\s*([A-Za-z0-9_.\-]+)\s*\}\}")


class InvalidProperties(ValueError):
    """A step's inputs are not what its plugin takes; the text is the agent's."""


def bind(
    definitions: Mapping[str, Parameter], given: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Each parameter's typed value: the one given (always a list of strings) or the default.

    Raises InvalidParameters naming the parameter, never its value.
    """
    unknown = sorted(set(given) - set(definitions))
    if unknown:
        raise InvalidParameters(f"Parameters not defined in the document: {', '.join(unknown)}.")
    return {name: _bound(spec, given.get(name)) for name, spec in definitions.items()}


def _bound(spec: Parameter, given: Sequence[str] | None) -> Any:
    if given is None:
        if spec.default is None:
            raise InvalidParameters(f"Parameter {spec.name} is required.")
        return spec.default
    value = _typed(spec, given)
    problem = next(_limit_problems(spec, value, given), None)
    if problem:
        raise InvalidParameters(f"Parameter {spec.name} {problem}.")
    return value


def _typed(spec: Parameter, given: Sequence[str]) -> Any:
    if spec.type == "StringList":
        return list(given)
    if len(given) != 1:
        raise InvalidParameters(f"Parameter {spec.name} of type {spec.type} takes one value.")
    if spec.type == "String":
        return given[0]
    return _from_json(spec, given[0])


def _from_json(spec: Parameter, text: str) -> Any:
    expected = {"Integer": int, "Boolean": bool, "StringMap": dict, "MapList": list}[spec.type]
    try:
        value = json.loads(text.lower() if spec.type == "Boolean" else text)
    except ValueError:
        value = None
    if type(value) is not expected:
        raise InvalidParameters(f"Parameter {spec.name} is not of type {spec.type}.")
    return value


def _limit_problems(spec: Parameter, value: Any, given: Sequence[str]) -> Iterator[str]:
    allowed = [str(choice) for choice in spec.allowed_values]
    if allowed and not all(item in allowed for item in given):
        yield f"must be one of: {', '.join(allowed)}"
    if spec.allowed_pattern is not None and not all(
        compiled(spec.allowed_pattern).fullmatch(item) for item in given
    ):
        yield f"does not match the allowed pattern {spec.allowed_pattern}"
    if spec.min_chars is not None and any(len(item) < spec.min_chars for item in given):
        yield f"is shorter than {spec.min_chars} characters"
    if spec.max_chars is not None and any(len(item) > spec.max_chars for item in given):
        yield f"is longer than {spec.max_chars} characters"
    if isinstance(value, list):
        yield from _count_problems(spec, len(value))


def _count_problems(spec: Parameter, count: int) -> Iterator[str]:
    if spec.min_items is not None and count < spec.min_items:
        yield f"has fewer than {spec.min_items} items"
    if spec.max_items is not None and count > spec.max_items:
        yield f"has more than {spec.max_items} items"


def substitute(value: Any, bound: Mapping[str, Any]) -> Any:
    """``value`` with each ``{{ name }}`` of a bound parameter replaced, all at once.

    A text that is nothing but a reference becomes the typed value, so that a list within a
    list stays one; a reference to something unknown stays as written: the agent's rules
    (ReplaceParameters). All at once, so that a value is never itself searched.
    """
    if isinstance(value, list):
        return [substitute(item, bound) for item in value]
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole and whole[1] in bound and _SINGLE.fullmatch(whole[1]):
        return bound[whole[1]]
    return _REFERENCE.sub(lambda found: _within(found, bound), value)


def _within(found: re.Match[str], bound: Mapping[str, Any]) -> str:
    if found[1] not in bound:
        return found[0]
    # "$$" stands for "$" in what is put into a text (ReplaceParameter of the agent).
    return _as_text(bound[found[1]]).replace("$$", "$")


def _as_text(value: Any) -> str:
    """A value as the agent writes it: JSON by Go's encoder, which escapes what HTML knows."""
    if isinstance(value, str):
        return value
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return text.translate(_ESCAPED)


def literal(content: Content, bound: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are put into texts: all but those of interpolationType ENV_VAR."""
    return {name: bound[name] for name in bound if not content.parameters[name].as_variable}


def variables(content: Content, bound: Mapping[str, Any]) -> dict[str, str]:
    """The environment of ENV_VAR parameters: ``SSM_<name>``, lists and maps as JSON."""
    return {
        f"SSM_{name}": _as_text(value)
        for name, value in bound.items()
        if content.parameters[name].as_variable
    }


def step_timeout(step: Step, bound: Mapping[str, Any]) -> int:
    """The step's execution timeout in seconds; what is no fit number is the default."""
    try:
        seconds = int(str(substitute(step.timeout_seconds, bound)))
    except ValueError:
        return DEFAULT_TIMEOUT
    return seconds if SHORTEST_TIMEOUT <= seconds <= LONGEST_TIMEOUT else DEFAULT_TIMEOUT


def execution_seconds(content: Content, bound: Mapping[str, Any]) -> int:
    """How long the whole document may run: the sum of its steps' timeouts."""
    texts = literal(content, bound)
    return sum(step_timeout(step, texts) for step in content.steps)


def script_text(step: Step, bound: Mapping[str, Any]) -> str:
    """The step's script: its runCommand lines with the parameters put in.

    Raises InvalidProperties for what is no list of strings then, as the agent's decoder does
    (runCommandsRawInput of runscript.go).
    """
    lines = substitute(step.run_command, bound)
    wrong = lines if not isinstance(lines, list) else _first_other(lines)
    if wrong is not None:
        kind = _GO_KINDS.get(type(wrong), "object")
        wanted = "string" if isinstance(lines, list) else "[]string"
        raise InvalidProperties(
            f"Invalid format in plugin properties map[runCommand:{_as_text(lines)}];\n"
            f"error json: cannot unmarshal {kind} into Go struct field "
            f"RunScriptPluginInput.runCommand of type {wanted}"
        )
    return "\n".join(lines) + "\n"


def _first_other(lines: list[Any]) -> Any:
    return next((line for line in lines if not isinstance(line, str)), None)


def breaks_its_pattern(content: Content, bound: Mapping[str, Any]) -> bool:
    """Whether a value, a default too, does not hold what ``allowedPattern`` asks for.

    SendCommand has checked the values it was given, as a whole; the agent looks at all of them,
    for a place where the pattern matches, and knows no pattern of numbers and booleans
    (allowedregexparamvalidator.go).
    """
    return any(
        not _holds(spec.allowed_pattern, bound[name])
        for name, spec in content.parameters.items()
        if spec.allowed_pattern
    )


def _holds(pattern: str, value: Any) -> bool:
    if not isinstance(value, str | list | dict):
        return False
    items = value if isinstance(value, list) else [value]
    return all(compiled(pattern).search(_as_text(item)) for item in items)
