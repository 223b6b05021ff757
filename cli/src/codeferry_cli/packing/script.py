"""What goes along with a script: itself, and its supporting files under one name."""

# Paths are bytes here, as the file system has them; pathlib cannot hold those.
# ruff: noqa: PTH116, PTH118

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from codeferry_cli.packing.selection import (
    File,
    Selection,
    keep_private,
    landing_mode,
    require_possible,
    select_all,
)

FILES = "files"  # where supporting files are in the archive, whatever their directory is called


def select_script(
    script: Path, files: Path | None = None, allow_secrets: Sequence[str] = ()
) -> Selection:
    """The script at the archive's root, and everything in ``files`` below ``files/``.

    Both may be links themselves; ``allow_secrets`` are paths as the archive has them.
    Raises LinksLeaveTree, FilesUnreadable or PathsImpossible.
    """
    supporting = select_all(files.resolve()) if files else None
    allowed = frozenset(os.fsencode(os.path.normpath(path)) for path in allow_secrets)
    chosen = [_script_file(script), *(_moved(supporting) if supporting else ())]
    require_possible(chosen)
    return Selection(
        root=script.parent.resolve(),
        files=keep_private(sorted(chosen), allowed),
        warnings=supporting.warnings if supporting else (),
        left_out=supporting.left_out if supporting else (),
        allowed=allowed,
    )


def _script_file(script: Path) -> File:
    source = os.fsencode(script.resolve())
    found = os.stat(source)
    name = os.fsencode(script.name)
    return File(name, landing_mode(found.st_mode), found.st_size, found.st_mtime_ns, source=source)


def _moved(supporting: Selection) -> list[File]:
    prefix, below = os.fsencode(supporting.root), os.fsencode(FILES) + b"/"
    return [
        file._replace(path=below + file.path, source=os.path.join(prefix, file.path))
        for file in supporting.files
    ]
