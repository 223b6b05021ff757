"""The place of a job: a fresh checkout, always at the same path, as on a runner of GitHub's."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

# Ours, of make, of pytest, of whoever runs this: a job begins without them.
_OTHERS = (
    *("AWS_", "CODEFERRY_", "FERRY_", "GH_", "GITHUB_", "GIT_", "JSII_"),
    *("MAKE", "MFLAGS", "PYTEST", "PYTHON", "VIRTUAL_ENV"),
)
SET_UP = (".tools", ".venv", "node_modules")
LOCKS = ("uv.lock", "package-lock.json", "pyproject.toml", "*/pyproject.toml")


def clean_environment(commands, home):
    """What this process has, less what a fresh machine has not. ``commands`` come first on the
    PATH; whoever is signed in to AWS here is nobody there. Caches of packages stay."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}
    python = Path(sys._base_executable).resolve().parent
    nobody = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), "/dev/null")
    return (
        kept
        | nobody
        | {
            "AWS_EC2_METADATA_DISABLED": "true",
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH": f"{commands}:{python}:{os.environ['PATH']}",
        }
    )


class Workplace:
    """The checkout of one job after the other.

    `make setup` takes ten seconds and more. It is run in every job, but finds what an earlier one
    has made from the same locks, at the same path, as with a cache between runs.
    """

    def __init__(self, directory):
        self.checkout = directory / "work"
        self._cache = directory / "cache"

    def clear(self):
        shutil.rmtree(self.checkout, ignore_errors=True)

    def fetch_set_up(self):
        kept = self._cache / self._locks()
        if not kept.exists():
            return
        for name in SET_UP:
            (kept / name).rename(self.checkout / name)
        kept.rmdir()
        # For make they are older than the checkout.
        for ready in (".venv/.ready", "node_modules/.ready"):
            (self.checkout / ready).touch()

    def keep_set_up(self):
        kept = self._cache / self._locks()
        if all((self.checkout / name / ".ready").exists() for name in SET_UP[1:]):
            kept.mkdir(parents=True)
            for name in SET_UP:
                (self.checkout / name).rename(kept / name)

    def _locks(self):
        files = sorted(path for lock in LOCKS for path in self.checkout.glob(lock))
        digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files))
        return digest.hexdigest()
