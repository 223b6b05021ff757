"""Credentials, found by a file's name and by its content. Their values go nowhere."""

from __future__ import annotations

import re

import re2

from codeferry_cli.packing.secret_rules import NAME_RULES, PLACEHOLDER, RULES, TELLING_ENDS

SCANNED_BYTES = (1 << 20) + 4096  # of each file: credentials stand in small ones or at the top

_TEXT_PROBE = 8192
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HINTS = re2.compile("|".join(rule.hint for rule in RULES).encode())


def find_secret(path: bytes, content: bytes) -> str | None:
    """What credential the file at ``path`` is or holds; None if none.

    ``content`` is the file or its first ``SCANNED_BYTES``; what follows those is not read.
    """
    return (_by_name(path, content) if _telling(path) else None) or _in_content(content)


def _telling(path: bytes) -> bool:
    name = path[path.rfind(b"/") + 1 :]
    return (
        name.endswith(TELLING_ENDS)
        or name.startswith(b".env")
        or b"kubeconfig" in name
        or b"/cache/" in path
    )


def _by_name(path: bytes, content: bytes) -> str | None:
    matching = (rule for rule in NAME_RULES if rule.name.search(path))
    return next((rule.what for rule in matching if rule.content.search(content)), None)


def _in_content(content: bytes) -> str | None:
    text = _text(content[:SCANNED_BYTES])
    if _HINTS.search(text) is None:
        return None
    for rule in RULES:
        if any(_looks_real(match) for match in rule.pattern.finditer(text)):
            return rule.what
    return None


def _text(content: bytes) -> bytes:
    """The content as ASCII-compatible text; empty when it does not look like text."""
    if content.startswith(_BYTE_ORDER_MARKS):
        return content.decode("utf-16", "ignore").encode()
    return b"" if b"\0" in content[:_TEXT_PROBE] else content


def _looks_real(match: re.Match[bytes]) -> bool:
    """Not a word for "put yours here", and not a few characters repeated."""
    return all(
        not PLACEHOLDER.search(value) and len(set(value)) >= min(8, len(value) // 2)
        for value in match.groups()
    )
