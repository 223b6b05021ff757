"""The Lambda asset: our two packages and the pure-Python libraries they need.

Copied from the installed environment, which the lock pins, so that synth is offline
and gives the same asset everywhere. boto3 comes with the Lambda runtime.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from codeferry_contracts.errors import CodeferryError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    ROOT / "lambdas" / "src" / "codeferry_lambdas",
    ROOT / "contracts" / "src" / "codeferry_contracts",
)
REQUIRED_BY = "codeferry-lambdas"
FROM_RUNTIME = frozenset({"boto3", "botocore", "s3transfer", "urllib3", "python-dateutil", "six"})
# Compiled for speed only: without that part they work from Python (markupsafe/_native.py).
WORKS_UNCOMPILED = frozenset({"markupsafe"})
OURS = frozenset({"codeferry-contracts", "codeferry-lambdas"})


class NotPurePython(CodeferryError):
    """A library with compiled parts cannot be copied to another architecture."""

    code = "not_pure_python"


def lambda_asset() -> Path:
    """A fresh directory with everything the functions import; it is gone when synth ends.

    The CDK copies it into the cloud assembly as soon as a function uses it.
    """
    directory = Path(tempfile.mkdtemp(prefix="codeferry-lambdas-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)
    for package in PACKAGES:
        shutil.copytree(package, directory / package.name, ignore=_ignored)
    for library in sorted(closure(REQUIRED_BY) - OURS):
        _copy(distribution(library), directory)
    _open(directory)
    return directory


def _open(directory: Path) -> None:
    """Whatever the umask here: a function runs as another user than the zip's, and has to read it
    ("AWS Lambda troubleshoot: Deployment", on permissions)."""
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def closure(name: str) -> set[str]:
    """The names of every distribution ``name`` needs at run time, without the runtime's own."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(_needs(distribution(current)))
    return found


def _needs(library: Distribution) -> Iterator[str]:
    for requirement in library.requires or ():
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()
        optional = "extra ==" in requirement
        if not optional and name not in FROM_RUNTIME:
            yield name


def _copy(library: Distribution, directory: Path) -> None:
    pure = "Root-Is-Purelib: true" in (library.read_text("WHEEL") or "")
    if not pure and library.name.lower() not in WORKS_UNCOMPILED:
        raise NotPurePython(
            f"{library.name} has compiled parts.",
            hint="The Lambdas may depend on pure-Python libraries only.",
        )
    for file in library.files or ():
        if file.suffix == ".py" and ".." not in file.parts:
            destination = directory / file
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), destination)


def _ignored(_directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]
