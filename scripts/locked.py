"""One package as uv.lock has it, a requirement with its hashes: how uv itself is installed."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "uv.lock"


def requirement(name: str, lock: Path = LOCK) -> str:
    """``NAME==VERSION`` and ``--hash`` of every file, for pip's --require-hashes."""
    packages = tomllib.loads(lock.read_text())["package"]
    (package,) = (each for each in packages if each["name"] == name)
    files = [*package.get("wheels", ()), package["sdist"]]
    hashes = (f"--hash={file['hash']}" for file in files)
    return " ".join((f"{name}=={package['version']}", *hashes))


if __name__ == "__main__":
    print(requirement(sys.argv[1]))
