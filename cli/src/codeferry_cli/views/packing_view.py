"""Packing as people and programs read it: what was or would be packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codeferry_cli.packing import ignored
from codeferry_cli.packing.errors import path_text, show
from codeferry_cli.terminal.output import Output
from codeferry_contracts import formatting
from codeferry_contracts.escaping import one_line

if TYPE_CHECKING:
    from codeferry_cli.packing.project import Packed, Prepared
    from codeferry_contracts.archive import Entry

_MOST_SHOWN = 10


def start_line(prepared: Prepared) -> str:
    files = formatting.counted(len(prepared.selection.files), "file")
    return f"Packing {files} ({formatting.size(prepared.selection.bytes)})…"


def end_line(packed: Packed) -> str:
    return f"Archive {formatting.size(packed.size)}, release {packed.summary.release_id}"


def show_selection(prepared: Prepared, output: Output, *, of_project: bool = True) -> None:
    """Where it is packed from, and what to know before it travels.

    With -v also the largest files, and what was left out and why; what is ignored only of a
    project.
    """
    selection = prepared.selection
    output.note(f"Root {one_line(str(selection.root))}")
    for warning in selection.warnings:
        output.note(f"Warning: {warning}")
    if output.verbose:
        _show_largest(prepared, output)
        ignored_paths = ignored(selection.root) if of_project else []
        left_out = [f"{show(path)} {why}" for path, why in selection.left_out]
        left_out += [f"{show(path)} is ignored" for path in ignored_paths]
        _show_some("Left out:", left_out, output)


def _show_largest(prepared: Prepared, output: Output) -> None:
    output.note("Largest:")
    for file in prepared.selection.largest(_MOST_SHOWN):
        output.note(f"  {formatting.size(file.size):>9}  {show(file.path)}")


def show_warnings(prepared: Prepared, packed: Packed, output: Output) -> None:
    """What came up while it was read."""
    for warning in packed.warnings:
        if warning not in prepared.selection.warnings:
            output.note(f"Warning: {warning}")


def packed_json(prepared: Prepared, packed: Packed) -> dict[str, Any]:
    """The numbers every ``--json`` answer about an archive has."""
    summary = packed.summary
    return {
        "project": summary.project,
        "root": str(prepared.selection.root),
        "release_id": summary.release_id,
        "digest": summary.digest,
        "file_count": summary.files,
        "bytes": summary.bytes,
        "archive_bytes": packed.size,
        "archive_sha256": packed.sha256,
        "warnings": list(packed.warnings),
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry with all its columns; ``mode`` is octal, as in the manifest."""
    document = {
        "path": entry.path,
        "size": entry.size,
        "mode": f"{entry.mode:o}",
        "sha256": entry.sha256,
    }
    return document if entry.link is None else document | {"link": entry.link}


def largest_json(prepared: Prepared) -> list[dict[str, Any]]:
    largest = prepared.selection.largest(_MOST_SHOWN)
    return [{"path": path_text(file.path), "size": file.size} for file in largest]


def _show_some(head: str, lines: list[str], output: Output) -> None:
    if lines:
        output.note(head)
    for line in lines if output.verbose > 1 else lines[:_MOST_SHOWN]:
        output.note(f"  {line}")
    rest = len(lines) - _MOST_SHOWN
    if rest > 0 and output.verbose == 1:
        output.note(f"  … and {rest:,} more (-vv lists them)")
