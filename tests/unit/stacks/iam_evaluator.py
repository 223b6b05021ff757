"""Decides allow or deny as IAM does, for the policies of a synthesised template.

Follows "Policy evaluation logic" and "IAM JSON policy elements: Condition operators" of the
IAM User Guide, for the operators in use; another one has to be written here first."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "111122223333",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:111122223333:stack/this/1",
}


@dataclass(frozen=True)
class Request:
    """``context`` holds the condition keys of the request; one that is missing is absent."""

    action: str
    resource: str = "*"
    context: dict = field(default_factory=dict)


def plain(value):
    """A template's value with its intrinsic functions replaced by readable text."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": name}:
            return PSEUDO.get(name, f"<{name}>")
        case {"Fn::Join": [glue, parts]}:
            return glue.join(map(str, plain(parts)))
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::ImportValue": name}:
            return f"<{plain(name)}>"
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([^}]+)\}", lambda found: PSEUDO[found[1]], text)
        case _:
            return {key: plain(part) for key, part in value.items()}


def decide(statements, request):
    """True when a statement allows it and none denies it."""
    applying = [s for s in statements if applies(s, request)]
    denied = any(s["Effect"] == "Deny" for s in applying)
    return bool(applying) and not denied


def bounded(statements, boundary, request):
    """True when both the role's policies and its permission boundary allow it."""
    return decide(statements, request) and decide(boundary, request)


def applies(statement, request):
    known = {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"}
    assert set(statement) <= known, f"not evaluated here: {set(statement) - known}"
    return (
        names_action(statement, request.action)
        and any(like(p, request.resource) for p in listed(statement.get("Resource", "*")))
        and all(
            holds(operator, key, listed(expected), request.context)
            for operator, terms in statement.get("Condition", {}).items()
            for key, expected in terms.items()
        )
    )


def names_action(statement, action):
    others = "NotAction" in statement
    patterns = listed(statement["NotAction" if others else "Action"])
    return any(like(pattern, action, case=False) for pattern in patterns) is not others


def holds(operator, key, expected, context):
    """A negated operator holds for a missing key, any other does not."""
    value = context.get(key)
    match operator:
        case "StringEquals":
            return value in expected and value is not None
        case "StringLike" | "ArnLike" | "ArnEquals":
            return value is not None and any(like(pattern, value) for pattern in expected)
        case "StringEqualsIfExists":
            return value is None or value in expected
        case "ArnNotEquals" | "StringNotLike":
            return value is None or not any(like(pattern, value) for pattern in expected)
        case "Bool":
            return value is not None and str(value).lower() in expected
    raise AssertionError(f"not evaluated here: {operator}")


def like(pattern, value, *, case=True):
    """IAM's wildcards: ``*`` is any characters, ``?`` is one."""
    parts = {"*": ".*", "?": "."}
    expression = "".join(parts.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(expression, value, re.S if case else re.S | re.I) is not None


def listed(value):
    return value if isinstance(value, list) else [value]
