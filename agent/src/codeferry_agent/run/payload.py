"""The payload as it comes from dispatch, checked field by field."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from codeferry_agent.run.errors import RunFailed

META = b".codeferry"  # the directory of Codeferry's own in an archive
MAX_ARGUMENTS, MAX_SECONDS, MOST = 2000, 172_800, 1 << 50


def text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def number(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def is_path(value: Any) -> bool:
    # No surrogates but those that stand for bytes.
    if not text(r"(?!/)[^\x00-\x1f\ud800-\udc7f\udd00-\udfff]{1,1024}")(value):
        return False
    parts = value.split("/")
    return parts[0] != META.decode() and not {".", ".."} & set(parts)


def paths(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 100 and all(map(is_path, value))


# No NUL, and no surrogates but those that stand for bytes: what a program can be given.
is_argument = text(r"[^\x00\ud800-\udc7f\udd00-\udfff]*")


def arguments(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ARGUMENTS and all(map(is_argument, value))


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def signature(value: Any) -> bool:
    """As ``contracts.request.Signature`` says; None of a run that is not signed."""
    return value is None or (
        isinstance(value, dict)
        and value.keys() == SIGNATURE.keys()
        and all(fits(value[name]) for name, fits in SIGNATURE.items())
    )


URL = r"https?://[A-Za-z0-9.:\[\]-]+/[!-~]*"
RUN_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
SIGNATURE: dict[str, Callable[[Any], bool]] = {
    "value": text(r"[A-Za-z0-9+/]{1,2048}={0,2}"),
    "sequence": number(1, MOST),
    "expires_at": number(0, MOST),
    "run_id": text(f"({RUN_ID})?"),
    "target": text(r"[^\x00-\x1f\ud800-\udfff]{1,1024}"),
    "environment": text(r"([0-9a-f]{64})?"),
}
FIELDS: dict[str, Callable[[Any], bool]] = {
    "run_id": text(RUN_ID),
    "project": text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    "url": text(URL),
    "sha256": text(r"[0-9a-f]{64}"),
    "size": number(1, MOST),
    "digest": text(r"([0-9a-f]{64})?"),
    "files": number(-1, MOST),
    "unpacked_bytes": number(0, MOST),
    "unpacked_files": number(1, MOST),
    "keep_releases": number(1, 100),
    "strict": is_bool,
    "user": text(r"([a-z_][a-z0-9_-]{0,31})?"),
    "persist": paths,
    "expect_files": paths,
    "expect_directories": paths,
    "command": arguments,
    "command_seconds": number(0, MAX_SECONDS),
    "environment": is_bool,
    "install": is_bool,
    "returning": is_bool,
    "bake_seconds": number(0, MAX_SECONDS),
    "health": arguments,
    "signature": signature,
}


def parse_payload(
    encoded: str, fields: Mapping[str, Callable[[Any], bool]] = FIELDS
) -> SimpleNamespace:
    """The checked fields of contracts' Payload, or of its RollbackPayload."""
    try:
        document = json.loads(base64.b64decode(encoded, validate=True))
        if "signature" in fields:  # only where releases are signed
            document.setdefault("signature", None)
        wrong = document.keys() ^ fields.keys()
        wrong = wrong or {name for name, fits in fields.items() if not fits(document[name])}
    except (ValueError, AttributeError, RecursionError):
        raise RunFailed("payload_invalid", "The payload is not base64 of a JSON object.") from None
    if wrong:
        raise RunFailed("payload_invalid", f"The payload's {', '.join(sorted(wrong))} cannot be.")
    return SimpleNamespace(**document)
