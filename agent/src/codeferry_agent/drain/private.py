"""The agent's own directory in a root, and files in it that are replaced as a whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from codeferry_agent.drain.scan import OWN_PREFIX

NAME = f"{OWN_PREFIX}drain"


def directory_of(root: str) -> Path:
    return Path(root) / NAME


def replace_text(path: Path, text: str) -> None:
    """Give the file this content; readers see the old or the new one. Raises OSError."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        new.write_text(text)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
