"""GitHub's expressions, as far as the workflows use them; anything else is an error.

After "Evaluate expressions in workflows and actions" (GitHub Docs): ``==`` ignores the case of
strings, ``&&`` and ``||`` give back an operand, and a property that is not there is empty.
"""

from __future__ import annotations

import re

_EMBEDDED = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(r"\s*('[^']*'|[\w-]+(?:\.[\w-]+)*|==|!=|&&|\|\||[()])")


class NotUnderstood(AssertionError):
    """An expression that has to be written here first."""


def fill(text, context):
    """``text`` with each ``${{ … }}`` replaced by its value."""
    return _EMBEDDED.sub(lambda found: str(evaluate(found[1], context)), text)


def evaluate(expression, context):
    """The value of an expression without its braces."""
    tokens = _tokens(expression.strip())
    value = _either(tokens, context)
    if tokens:
        raise NotUnderstood(f"{expression!r}, from {tokens[0]!r} on")
    return value


def _tokens(expression):
    found, position = [], 0
    while position < len(expression):
        token = _TOKEN.match(expression, position)
        if not token:
            raise NotUnderstood(f"{expression!r}, from {expression[position:]!r} on")
        found.append(token[1])
        position = token.end()
    return found


def _either(tokens, context):
    value = _both(tokens, context)
    while tokens[:1] == ["||"]:
        del tokens[0]
        other = _both(tokens, context)
        value = value or other
    return value


def _both(tokens, context):
    value = _compared(tokens, context)
    while tokens[:1] == ["&&"]:
        del tokens[0]
        other = _compared(tokens, context)
        value = value and other
    return value


def _compared(tokens, context):
    value = _operand(tokens, context)
    if tokens[:1] in (["=="], ["!="]):
        wanted = tokens.pop(0) == "=="
        other = _operand(tokens, context)
        return (str(value).casefold() == str(other).casefold()) is wanted
    return value


def _operand(tokens, context):
    if not tokens:
        raise NotUnderstood("an expression that ends too early")
    token = tokens.pop(0)
    if token == "(":
        value = _either(tokens, context)
        if tokens[:1] != [")"]:
            raise NotUnderstood("a parenthesis that stays open")
        del tokens[0]
        return value
    if token.startswith("'"):
        return token[1:-1]
    return _property(token, context)


def _property(path, context):
    first, *rest = path.split(".")
    if first not in context:
        raise NotUnderstood(f"{path!r}: there is no {first}")
    value = context[first]
    for name in rest:
        value = value.get(name, "") if isinstance(value, dict) else ""
    return value
