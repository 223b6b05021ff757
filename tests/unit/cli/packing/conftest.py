"""Trees and repositories made by real tools."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=60, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

Plant = Callable[[Mapping[str | bytes, str | bytes]], Path]
Git = Callable[..., bytes]


@pytest.fixture(autouse=True)
def _own_git_configuration(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The developer's git configuration and ignore file decide nothing here."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        '[user]\nname = T\nemail = t@example.org\n[protocol "file"]\nallow = always\n'
        "[init]\ndefaultBranch = main\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty directory that is in no repository."""
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.fixture
def plant(root: Path) -> Plant:
    """Writes files, by relative name, below ``root``."""

    def write(files: Mapping[str | bytes, str | bytes]) -> Path:
        for name, content in files.items():
            path = root / os.fsdecode(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            path.chmod(0o644)  # whatever the umask here
        return root

    return write


@pytest.fixture
def git(root: Path) -> Git:
    """Runs git in ``root`` or the directory given."""

    def run(*arguments: str, cwd: Path = root) -> bytes:
        return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True).stdout

    return run
