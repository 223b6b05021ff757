"""The variables of a command: read from ``--env``, lent to the run, never shown.

They may be secrets, so they are in no request, no report and no message: only in an object
of their own, which the run deletes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codeferry_cli.errors import VariableRefused
from codeferry_cli.options.types import is_text

MOST_BYTES = 256 * 1024  # what an instance takes, as JSON

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Variables:
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> list[str]:
        return sorted(self.values)

    def encode(self) -> bytes:
        """The object the instance fetches: a JSON object of strings."""
        return json.dumps(dict(self.values)).encode()


def parse_variables(texts: Sequence[str], own: Mapping[str, str]) -> Variables:
    """The variables of ``NAME=VALUE`` or ``NAME``, which is taken from ``own``; the last wins.

    Raises VariableRefused.
    """
    found = Variables(dict(_parse(n, text, own) for n, text in enumerate(texts, start=1)))
    if len(found.encode()) > MOST_BYTES:
        raise VariableRefused(
            f"The variables of --env are more than {MOST_BYTES // 1024} KiB together.",
            hint="Put what is large into a file of the project.",
        )
    return found


def _parse(number: int, text: str, own: Mapping[str, str]) -> tuple[str, str]:
    name, stated, value = text.partition("=")
    if not _NAME.fullmatch(name):
        # Not quoted: with a sign missing or one too many, this is a piece of a value.
        raise VariableRefused(
            f"--env number {number} does not begin with the name of a variable.",
            hint="Give NAME=VALUE, or NAME to pass on your own. A name has letters, digits and"
            " underscores, and no digit first.",
        )
    if not stated:
        if name not in own:
            raise VariableRefused(
                f"--env {name}: you have no variable of that name.",
                hint=f"Set it, or give its value: --env {name}=VALUE",
            )
        value = own[name]
    if not is_text(value):
        raise VariableRefused(
            f"The value of --env {name} is not UTF-8 text without NUL.",
            hint="Encode it, for example as base64, and decode it in the command.",
        )
    return name, value
