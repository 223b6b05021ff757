"""uv, which installs everything else, is itself installed by its hashes."""

from __future__ import annotations

import re
import subprocess
import tomllib

from scripts.locked import LOCK, ROOT, requirement


def test_the_requirement_has_the_hash_of_every_file_of_the_lock():
    """Of the version that is locked, for every platform."""
    packages = tomllib.loads(LOCK.read_text())["package"]
    (uv,) = (package for package in packages if package["name"] == "uv")
    name, *hashes = requirement("uv").split()
    assert name == f"uv=={uv['version']}"
    assert len(hashes) == len(uv["wheels"]) + 1
    assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


def test_make_takes_uv_by_hash_only():
    """A file that an index has put in its place is refused by pip."""
    printed = subprocess.run(
        ["make", "--always-make", "--dry-run", ".tools/uv/bin/uv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (line,) = (line for line in printed.splitlines() if "pip install" in line)
    source, _, install = line.partition(" | ")
    assert source.endswith("scripts/locked.py uv")
    assert "--require-hashes --requirement /dev/stdin" in install
    assert "uv==" not in install
