"""Pages of a sorted listing, by a token that says where the last page ended.

A key and not an offset is what the token carries, so what is added or removed
between two pages neither repeats nor skips anything else.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from codeferry_local.ssm.errors import InvalidNextToken

Key = str | int
Item = TypeVar("Item")


def page(
    items: Iterable[Item], key: Callable[[Item], Key], size: int, token: str | None
) -> tuple[list[Item], str | None]:
    """At most ``size`` items whose key follows the token's, and the next token."""
    after = None if token is None else _opened(token)
    ordered = sorted(items, key=key)
    rest = [item for item in ordered if after is None or key(item) > after]
    taken = rest[:size]
    return taken, _sealed(key(taken[-1])) if len(rest) > size else None


def _sealed(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": key}).encode()).decode()


def _opened(token: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(token))["after"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise InvalidNextToken("The specified token isn't valid.") from error
