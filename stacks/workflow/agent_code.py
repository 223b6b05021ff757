"""The agent's code as one object: a zip of plain sources, named by its SHA-256.

Not compressed, so that what lies on an instance can be read and searched as it is.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "agent" / "src" / "codeferry_agent"
SOURCES = PACKAGE / "run"
CONTRACTS = PACKAGE.parents[2] / "contracts" / "src" / "codeferry_contracts"
# What instances share with the functions, which run it from where it is installed.
SHARED = (CONTRACTS / "__init__.py", CONTRACTS / "signing.py")


@cache
def agent_code() -> bytes:
    """The zip, from which Python imports ``codeferry_agent.run``: the same for the same sources."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for path in (PACKAGE / "__init__.py", *sorted(SOURCES.rglob("*.py")), *SHARED):
            package = CONTRACTS if path in SHARED else PACKAGE
            member = zipfile.ZipInfo(str(path.relative_to(package.parent)))
            member.create_system = 3  # Unix, wherever it is made
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes())
    return made.getvalue()


def agent_sha256() -> str:
    return hashlib.sha256(agent_code()).hexdigest()
