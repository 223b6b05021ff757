"""What tests of every folder share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings

from codeferry_local.emulator.process import Emulator, free_port

pytest_plugins = ["tests.distribution"]

# What the tests write is made durable as the product makes it, which on a disk takes as long as all
# else together. In memory it costs nothing; some container engines give it 64 MB, too little.
MEMORY, ENOUGH = Path("/dev/shm"), 8 << 30
ROOM, OURS = "PYTEST_DEBUG_TEMPROOT", "codeferry-tests-"


def _make_room() -> None:
    """A directory of this run's own for all temporary files; those of runs that are gone go.

    Not pytest's own clean-up: it ends a run that finds a tree too deep for it, also another's.
    """
    memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
    place = MEMORY if memory else Path(tempfile.gettempdir())
    for left in place.glob(f"{OURS}*"):
        if not Path(f"/proc/{left.name.removeprefix(OURS).partition('-')[0]}").exists():
            _remove(left)
    os.environ[ROOM] = tempfile.mkdtemp(prefix=f"{OURS}{os.getpid()}-", dir=place)


def _remove(place: Path) -> None:
    subprocess.run(["rm", "-rf", place], check=True)


if ROOM not in os.environ:  # a worker has it from who started it
    _make_room()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing stays of a run in which all went well, nor, at the next one, of any other."""
    room = Path(os.environ[ROOM])
    if room.name.startswith(f"{OURS}{os.getpid()}-") and not session.testsfailed:
        _remove(room)


# Whoever starts the suite in the background of a script lets it, and all that it starts, ignore
# Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes, or its making, says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _read_once(read: Callable[..., Any]) -> Callable[..., Any]:
    """botocore reads a service's whole model for each new session, which is most of what a test
    with clients takes; the files stay the same."""
    found: dict[str, Any] = {}

    def load_file(loader: JSONFileLoader, path: str) -> Any:
        if path not in found:
            found[path] = read(loader, path)
        return found[path]

    return load_file


JSONFileLoader.load_file = _read_once(JSONFileLoader.load_file)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a MiniStack of this worker's own: AWS without SSM, nothing deployed."""
    directory = tmp_path_factory.mktemp("ministack")
    emulator = Emulator.start(free_port(), directory, directory / "log", {})
    yield emulator.url
    emulator.stop()
