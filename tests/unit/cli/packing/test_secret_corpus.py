"""200 credentials among 2,000 clean files: how many are found, and how many imagined."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeferry_cli.packing import SecretsFound, pack, select
from codeferry_cli.packing.secrets import find_secret
from tests.unit.cli.packing.secret_corpus import CLEAN, SECRETS, Planted, planted

SECRET = planted(SECRETS, 200, seed=20, top="planted")
HARMLESS = planted(CLEAN, 2000, seed=21, top="clean")


def found(files: list[Planted]) -> list[str]:
    """The files taken for credentials."""
    return [f.path for f in files if find_secret(f.path.encode(), f.content.encode())]


def write(root: Path, files: list[Planted]) -> None:
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)


def test_nearly_every_planted_credential_is_found() -> None:
    """Of 200 planted credentials at most one in twenty is missed."""
    missed = {file.path for file in SECRET} - set(found(SECRET))
    assert len(missed) <= len(SECRET) * 0.05, sorted(missed)


def test_hardly_any_clean_file_is_suspected() -> None:
    """Of 2,000 clean files at most one in a hundred is refused."""
    suspected = found(HARMLESS)
    assert len(suspected) <= len(HARMLESS) * 0.01, suspected


@pytest.mark.parametrize("pattern", [None, "planted", "planted/**", "*"])
def test_no_value_is_shown_and_no_pattern_brings_one_in(
    tmp_path: Path, pattern: str | None
) -> None:
    """Ignored and brought back by a pattern, or not ignored at all: refused without a value."""
    write(tmp_path, [*SECRET, *HARMLESS[:200]])
    if pattern:
        (tmp_path / ".gitignore").write_text("planted/\n")
    given: list[bytes] = []
    with pytest.raises(SecretsFound) as caught:
        given.extend(pack(select(tmp_path, [pattern] if pattern else []), "demo"))
    said = str(caught.value) + caught.value.message + caught.value.hint
    assert f"{len(found(SECRET))} files hold credentials" in said
    shown = [value for file in SECRET for value in file.values if value in said]
    assert shown == []
