"""The file a command begins with, told from its words."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from codeferry_contracts.request import Expect

# Interpreters, with the letters of their options after which comes code or a module's name.
_INTERPRETERS = {
    r"python[\d.]*": "cm",
    r"(ba)?sh": "c",
    r"node": "ep",
    r"ruby": "e",
    r"perl": "eE",
    r"Rscript": "e",
}
_LONGEST_PATH = 1024  # of a request
_FILE = re.compile(r"[^\x00-\x20=:]*[^/\x00-\x20=:](\.[A-Za-z]\w*|/[^/\x00-\x20=:]+)")


def expected_of(command: Sequence[str]) -> Expect:
    """What must exist for ``command`` to begin: its script, and the directory that is in."""
    script = entry_script(command)
    if script is None:
        return Expect()
    directory = posixpath.dirname(script)
    return Expect((script,), (directory,) if directory else ())


def entry_script(command: Sequence[str]) -> str | None:
    """The path inside the project of the file the command begins with; None if not clear.

    That is the program itself when it has a path, or else the first word behind an
    interpreter that looks like a file.
    """
    program, *words = command
    if tuple(command[:2]) == ("uv", "run"):
        return _behind_uv_run(words[1:])
    code = _code_options(program)
    if code is not None:
        return _first_file(words, code)
    return _inside(program) if "/" in program else None


def _behind_uv_run(words: Sequence[str]) -> str | None:
    for number, word in enumerate(words):
        if _code_options(word) is not None:
            return entry_script(words[number:])
        if _is_code(word, "m"):
            return None
        if _FILE.fullmatch(word):
            return _inside(word)
    return None


def _code_options(program: str) -> str | None:
    name = posixpath.basename(program)
    matches = (code for known, code in _INTERPRETERS.items() if re.fullmatch(known, name))
    return next(matches, None)


def _first_file(words: Sequence[str], code: str) -> str | None:
    for word in words:
        if _is_code(word, code):
            return None
        if not word.startswith("-") and _FILE.fullmatch(word):
            return _inside(word)
    return None


def _is_code(word: str, code: str) -> bool:
    return re.fullmatch(rf"-\w*[{code}]", word) is not None


def _inside(path: str) -> str | None:
    """The path as a release has it; None for one that is not in it."""
    normal = posixpath.normpath(path)
    outside = normal.startswith(("/", "../")) or normal in ("..", ".")
    writable = normal.isprintable() and len(normal) <= _LONGEST_PATH
    return normal if writable and not outside else None
