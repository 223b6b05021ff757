"""What tests of every folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codeferry_local.emulator import Emulator, free_port


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a MiniStack of this worker's own: AWS without SSM, nothing deployed."""
    directory = tmp_path_factory.mktemp("ministack")
    emulator = Emulator.start(free_port(), directory, directory / "log", {})
    yield emulator.url
    emulator.stop()
