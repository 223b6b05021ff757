"""The agent's own directory in a root, and files in it that are replaced as a whole."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from codeferry_agent.drain.scan import OWN_PREFIX

NAME = f"{OWN_PREFIX}drain"


def directory_of(root: str) -> Path:
    return Path(root) / NAME


def replace_text(path: Path, text: str) -> None:
    """Give the file this content; readers see the old or the new one. Raises OSError.

    Programs write to the root too: neither the directory nor a name in it is followed if it
    is a link.
    """
    path.parent.mkdir(mode=0o755, exist_ok=True)
    here = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    new = f".{path.name}.{secrets.token_hex(8)}"
    try:
        made = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=here)
        try:
            with os.fdopen(made, "w") as file:
                file.write(text)
            os.rename(new, path.name, src_dir_fd=here, dst_dir_fd=here)
        except OSError:
            os.unlink(new, dir_fd=here)
            raise
    finally:
        os.close(here)
