"""Java's regular expressions, as the service model and ``allowedPattern`` use them, in Python."""

from __future__ import annotations

import re
from functools import lru_cache

# Python has no \p{…}; these are the nearest classes (``_`` comes with the letters).
_CLASSES = {"L": r"\w", "N": r"\d", "Z": r"\s", "Alpha": "a-zA-Z", "Alnum": "a-zA-Z0-9"}
_PROPERTY = re.compile(r"\\p\{(\w+)\}")


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    r"""The pattern, to be used with ``fullmatch`` as Java's ``matches``; raises re.error.

    ``\w``, ``\d`` and ``\s`` are ASCII as in Java, unless the pattern speaks of
    Unicode properties itself.
    """
    translated = _PROPERTY.sub(lambda found: _CLASSES.get(found[1], found[0]), pattern)
    return re.compile(translated, 0 if translated != pattern else re.ASCII)
