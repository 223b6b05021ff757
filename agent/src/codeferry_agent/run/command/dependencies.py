"""Install a project's dependencies into its virtual environment.

uv where the instance has it, else venv and pip. What is installed stays until the files that
name it change."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from codeferry_agent.run.command.processes import fork
from codeferry_agent.run.command.program import Account, become
from codeferry_agent.run.errors import RunFailed

NAMED_IN = ("uv.lock", "requirements.txt", "pyproject.toml")
LARGEST, READING_SECONDS = 64 << 20, 60


class Plan(NamedTuple):
    """Commands to run in the release, one after the other; the same fingerprint, the same venv."""

    steps: list[list[str]]
    fingerprint: str
    warnings: list[str]


def find_uv(path: str, home: str) -> str | None:
    """uv on the PATH, or where its installers put it."""
    places = f"{path}:{home}/.local/bin:{home}/.cargo/bin"
    return shutil.which("uv", path=places)


def require_venv(python: str) -> None:
    """Raises RunFailed where our Python cannot make environments: Debian and Ubuntu have the parts
    for it in a package of its own, which their images lack."""
    lacking = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if lacking:
        raise RunFailed(
            "venv_missing",
            f"The instance has no uv, and its {python} has no {lacking[0]}: no environment can be "
            "made to install into.",
        )


def plan(
    found: Mapping[str, bytes], release_id: str, venv: Path, *, uv: str | None, python: str
) -> Plan | None:
    """How to install what the files of a release name; None when they name nothing."""
    is_project = re.search(rb"^\[(project|build-system)\]", found["pyproject.toml"], re.MULTILINE)
    fresh = [["rm", "-rf", str(venv)]]
    warnings = []
    if found["uv.lock"] and is_project:
        if uv:
            # Not the project itself: it would be installed from a release that will go.
            lean = ["--frozen", "--no-dev", "--no-install-project"]
            return Plan([[uv, "sync", *lean]], _fingerprint(found, uv), [])
        warnings.append("uv.lock is not used: the instance has no uv.")
    if found["requirements.txt"]:
        return Plan(
            fresh + _install(venv, ["-r", "requirements.txt"], uv, python),
            _fingerprint(found, uv or python),
            warnings,
        )
    if is_project:  # its own code is installed too, and so with every release
        steps = fresh + _install(venv, ["."], uv, python)
        return Plan(steps, _fingerprint(found, uv or python, release_id), warnings)
    return None


def missing(plan: Plan, venv: Path, uid: int, noted: Any) -> list[list[str]]:
    """The steps that are left, by the note in ``noted``; none where all is installed.

    What another user may have installed, or touched, is begun anew. (Notes of the versions before
    are of no user: there the owner of the environment decides.)
    """
    by, fingerprint = noted if isinstance(noted, list) else (uid, noted)
    if by != uid or not all(belongs(path, uid) for path in (venv, venv / "bin")):
        return [["rm", "-rf", str(venv)], *plan.steps]
    return [] if fingerprint == plan.fingerprint else plan.steps


def belongs(path: Path, uid: int) -> bool:
    try:
        state = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == uid


def _install(venv: Path, what: list[str], uv: str | None, python: str) -> list[list[str]]:
    inside = str(venv / "bin/python")
    if uv:
        return [[uv, "venv", str(venv)], [uv, "pip", "install", "--python", inside, *what]]
    return [[python, "-m", "venv", str(venv)], [inside, "-m", "pip", "install", *what]]


def _fingerprint(found: Mapping[str, bytes], *also: str) -> str:
    digest = hashlib.sha256("\0".join(also).encode())
    for name in NAMED_IN:
        digest.update(hashlib.sha256(found[name]).digest())
    return digest.hexdigest()


def found_in(release: Path, account: Account) -> dict[str, bytes]:
    """The files that name dependencies, as the command's user may read them; empty without one.

    In a process that has become them: a link of theirs leads no further than they get.
    """
    ours, its = os.pipe()
    reader = fork()
    if not reader:
        read_as(account, release, its)
    os.close(its)
    with open(ours, "rb") as pipe:  # noqa: PTH123 - a descriptor
        sizes, content = pipe.readline().split(), pipe.read()
    os.waitpid(reader, 0)
    if len(sizes) != len(NAMED_IN) or sum(map(int, sizes)) != len(content):
        raise RunFailed("install_failed", "The files that name dependencies cannot be read.")
    ends = list(accumulate(map(int, sizes), initial=0))
    return {name: content[ends[i] : ends[i + 1]] for i, name in enumerate(NAMED_IN)}


def read_as(account: Account, release: Path, pipe: int) -> NoReturn:
    """Become ``account``, write sizes and content of the files, and end."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(READING_SECONDS)
        become(account)
        content = [read(release / name) for name in NAMED_IN]
        with open(pipe, "wb") as file:
            file.write(" ".join(str(len(each)) for each in content).encode() + b"\n")
            file.writelines(content)
    finally:
        os._exit(0)


def read(path: Path) -> bytes:
    """A file's bytes; nothing where there is none, or something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return file.read(LARGEST) if is_file else b""
    except OSError:
        return b""


def variables(venv: Path, path: str) -> dict[str, str]:
    """What makes the venv the one that programs use."""
    return {
        "VIRTUAL_ENV": str(venv),
        "UV_PROJECT_ENVIRONMENT": str(venv),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PATH": f"{venv}/bin:{path}",
    }
