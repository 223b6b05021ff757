"""Find credentials by a file's name and by its content. Their values go nowhere.

The rules are data, ``secret_rules.toml``. All their hints together are one automaton that reads a
file once, and only where it stops do the exact rules run.
"""

from __future__ import annotations

import pkgutil
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

import re2


@dataclass(frozen=True, slots=True)
class Rule:
    """``pattern`` finds the credential; each of its groups must look random, not like a word."""

    what: str
    hint: str
    pattern: re.Pattern[bytes]


@dataclass(frozen=True, slots=True)
class NameRule:
    """A file whose name matches is a credential, if ``content`` is found in it."""

    what: str
    name: re.Pattern[bytes]
    content: re.Pattern[bytes]


def _load() -> tuple[tuple[Rule, ...], tuple[NameRule, ...]]:
    """The rules of ``secret_rules.toml``, which explains its keys."""
    text = pkgutil.get_data(__name__, "secret_rules.toml")
    assert text is not None, "it is part of the package"
    data = tomllib.loads(text.decode())
    fragments: dict[str, str] = {}

    def compiled(pattern: str, flags: re.RegexFlag = re.DOTALL) -> re.Pattern[bytes]:
        return re.compile(_filled_in(pattern, fragments).encode(), flags)

    for name, fragment in data["fragments"].items():
        fragments[name] = _filled_in(fragment, fragments)
    return (
        tuple(
            Rule(rule["what"], rule.get("hint", rule["pattern"]), compiled(rule["pattern"]))
            for rule in data["content"]
        ),
        tuple(
            NameRule(
                rule["what"],
                compiled(f"(?:^|/)(?:{rule['name']})$", re.NOFLAG),
                compiled(rule.get("content", ".")),
            )
            for rule in data["file"]
        ),
    )


def _filled_in(pattern: str, fragments: Mapping[str, str]) -> str:
    for name, fragment in fragments.items():
        pattern = pattern.replace(f"<{name}>", fragment)
    return pattern


RULES, NAME_RULES = _load()

# One of these is in the base name of every path NAME_RULES can match.
TELLING_ENDS = (
    *(b".p12", b".pfx", b".jks", b".keystore", b".kdb", b".kdbx", b".ppk", b".tfstate"),
    *(b".backup", b"_sk", b"id_rsa", b"id_dsa", b"id_ecdsa", b"id_ed25519", b"credentials"),
    *(b"credentials.json", b"netrc", b".npmrc", b".pypirc", b".dockercfg", b"config"),
    *(b"config.json", b"accessTokens.json", b"msal_token_cache.json", b".bin"),
)

PLACEHOLDER = re.compile(
    rb"example|sample|placeholder|changeme|redacted|your|dummy|xxxx|\*\*\*\*|\.\.\."
    rb"|0{8}|a{8}|12345678|abcdefgh",
    re.IGNORECASE,
)


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
