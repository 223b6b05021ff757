"""Packing: from a directory to one stream of archive bytes.

``find_root`` says where the project begins, ``select`` which files belong to it, ``send``
packs them into a sink (an upload, a file) in one pass over the tree.
"""

from __future__ import annotations

from codeferry_cli.packing.archive import Pack, pack, send
from codeferry_cli.packing.errors import (
    FilesUnreadable,
    GitRefused,
    LinksLeaveTree,
    NoFiles,
    PackAgain,
    PackError,
    PathsImpossible,
    PatternsUnreadable,
    RootMissing,
    SecretsFound,
)
from codeferry_cli.packing.reader import refused
from codeferry_cli.packing.root import find_root
from codeferry_cli.packing.script import FILES, select_script
from codeferry_cli.packing.selection import File, Selection, ignored, select

__all__ = [
    "FILES",
    "File",
    "FilesUnreadable",
    "GitRefused",
    "LinksLeaveTree",
    "NoFiles",
    "Pack",
    "PackAgain",
    "PackError",
    "PathsImpossible",
    "PatternsUnreadable",
    "RootMissing",
    "SecretsFound",
    "Selection",
    "find_root",
    "ignored",
    "pack",
    "refused",
    "select",
    "select_script",
    "send",
]
