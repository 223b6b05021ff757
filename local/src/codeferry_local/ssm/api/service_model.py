"""The SSM service model of botocore, used from the server's side.

Requests are checked against it and answers are written by it, so that what the
local SSM accepts and says cannot drift from what an SDK sends and reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

from codeferry_local.ssm.documents.content import compiled
from codeferry_local.ssm.errors import (
    SerializationException,
    UnknownOperationException,
    ValidationException,
)

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


@cache
def ssm_model() -> ServiceModel:
    """botocore's model of SSM (reading it takes some 0.1 s, once)."""
    return botocore.session.get_session().get_service_model("ssm")


def check_request(operation: str, request: object) -> dict[str, Any]:
    """The request, without its null members, when it satisfies the model.

    Raises UnknownOperationException, SerializationException (a type is wrong) or
    ValidationException (required, length, range, pattern, enum), worded as AWS does.
    """
    if operation not in ssm_model().operation_names:
        raise UnknownOperationException(f"SSM has no operation {operation!r}.")
    if not isinstance(request, dict):
        raise SerializationException("The body must be a JSON object.")
    shape = ssm_model().operation_model(operation).input_shape
    present = {name: value for name, value in request.items() if value is not None}
    problems = list(_problems(present, shape, "")) if shape else []
    if problems:
        plural = "s" if len(problems) > 1 else ""
        raise ValidationException(
            f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}"
        )
    return present


def serialize(operation: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as the JSON the model describes; a member it lacks is our own bug."""
    shape = ssm_model().operation_model(operation).output_shape
    written: dict[str, Any] = _written(answer, shape) if shape else {}
    return written


def _problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    _require_type(value, shape, path)
    yield from _constraint_problems(value, shape, path)
    if isinstance(shape, StructureShape):
        yield from _structure_problems(value, shape, path)
    elif isinstance(shape, ListShape):
        for number, item in enumerate(value, 1):
            yield from _problems(item, shape.member, f"{path}.{number}.member")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _problems(key, shape.key, f"{path}.key")
            yield from _problems(item, shape.value, f"{path}.{key}.member")


def _structure_problems(value: dict[str, Any], shape: StructureShape, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield (
                f"Value null at '{_joined(path, name)}' failed to satisfy constraint: "
                "Member must not be null"
            )
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _problems(value[name], member, _joined(path, name))


def _require_type(value: Any, shape: Shape, path: str) -> None:
    expected = _PYTHON_TYPES[shape.type_name]
    wrong_bool = isinstance(value, bool) and bool not in expected
    if wrong_bool or not isinstance(value, expected):
        raise SerializationException(
            f"'{path}' must be of type {shape.type_name}, not {type(value).__name__}."
        )


def _constraint_problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    limits = shape.metadata
    shown = "***" if limits.get("sensitive") else f"'{value}'"[:120]
    prefix = f"Value {shown} at '{path}' failed to satisfy constraint: Member must "
    sized = isinstance(value, str | list | dict)
    size = len(value) if sized else value
    noun = "have length" if sized else "have value"
    if not isinstance(size, int | float):
        return
    if "min" in limits and size < limits["min"]:
        yield f"{prefix}{noun} greater than or equal to {limits['min']}"
    if "max" in limits and size > limits["max"]:
        yield f"{prefix}{noun} less than or equal to {limits['max']}"
    if "enum" in limits and value not in limits["enum"]:
        yield f"{prefix}satisfy enum value set: [{', '.join(limits['enum'])}]"
    if "pattern" in limits and not compiled(limits["pattern"]).fullmatch(value):
        yield f"{prefix}satisfy regular expression pattern: {limits['pattern']}"


def _joined(path: str, name: str) -> str:
    member = name[:1].lower() + name[1:]
    return f"{path}.{member}" if path else member


def _written(value: Any, shape: Shape) -> Any:
    if isinstance(shape, StructureShape):
        return {
            name: _written(member, shape.members[name])
            for name, member in value.items()
            if member is not None
        }
    if isinstance(shape, ListShape):
        return [_written(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {key: _written(item, shape.value) for key, item in value.items()}
    return round(value.timestamp(), 3) if isinstance(value, datetime) else value
