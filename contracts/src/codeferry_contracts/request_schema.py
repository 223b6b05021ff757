"""The subset of JSON Schema the contracts use: check a value, name every problem.

A schema is the one description of a document: validation reads it and the docs are
generated from it. The subset is type, properties, required, additionalProperties
(false), items, maxItems, minItems, pattern, maxLength, minimum and maximum."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

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
