"""Which paths can be carried over: keys as files, and files as keys."""

from __future__ import annotations

from collections.abc import Callable

from codeferry_transfer.tree import STAGING_PREFIX

LONGEST_KEY = 1024  # bytes of UTF-8
_LONGEST_NAME = 255  # bytes, on every usual filesystem


def unfit_as_file() -> Callable[[str], str]:
    """Says of one path after the other, in sorted order, why it cannot be a file here."""
    files: list[str] = []  # those whose names begin the present path

    def reason(path: str) -> str:
        while files and not path.startswith(files[-1]):
            files.pop()
        for file in files:
            if path.startswith(f"{file}/"):
                return f"{file!r} is an object as well as a directory"
        files.append(path)
        return _unsafe(path)

    return reason


def _unsafe(path: str) -> str:
    if "\0" in path:
        return "it holds a NUL character"
    parts = path.split("/")
    if parts[0] == "":
        return "it is absolute"
    if ".." in parts or "." in parts:
        return "it has '.' or '..' in it"
    if "" in parts:
        return "it has an empty name in it"
    if parts[0].startswith(STAGING_PREFIX):
        return "the name is reserved for unfinished downloads"
    if any(len(part.encode(errors="surrogateescape")) > _LONGEST_NAME for part in parts):
        return "a name in it is longer than 255 bytes"
    return ""


def unfit_as_key(prefix: str) -> Callable[[str], str]:
    """Says why a file's path, behind ``prefix``, cannot be a key."""

    def reason(path: str) -> str:
        try:
            length = len((prefix + path).encode())
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        return "its key would be longer than 1,024 bytes" if length > LONGEST_KEY else ""

    return reason
