"""Libraries of the locked environment, to be copied into what runs elsewhere: functions, the agent.

Copied from what is installed, so that no network is needed and the same lock gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def required_libraries(name: str, needs: Callable[[Requirement], bool]) -> set[str]:
    """The names of every distribution that ``name`` needs at run time, itself included.

    A requirement that ``needs`` declines is left out, with what only it requires.
    """
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            stated = map(Requirement, distribution(current).requires or ())
            waiting += [canonicalize_name(each.name) for each in stated if needs(each)]
    return found


def make_readable(directory: Path) -> None:
    """Set the modes of all below, which a checkout has from its umask.

    A function runs as another user than the zip's, and has to read it ("AWS Lambda troubleshoot:
    Deployment", on permissions).
    """
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
