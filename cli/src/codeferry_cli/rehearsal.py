"""`--dry-run` of what packs and uploads: all of it but the upload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from codeferry_cli import amounts, packing_view
from codeferry_cli.archive import Prepared, measure
from codeferry_cli.output import Output
from codeferry_contracts.escaping import one_line


def rehearse(
    prepared: Prepared,
    output: Output,
    plan: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Pack to nowhere, and say what would go out; ``plan`` is what would be done with it, and
    ``more`` what only the ``--json`` answer says as well.

    Packing is done in full: only that finds the secrets, and the release it would be.
    """
    packed = measure(prepared)
    packing_view.show_warnings(prepared, packed, output)
    summary = packed.summary
    files = amounts.counted(summary.files, "file")
    output.line(f"Would pack {files}, {amounts.size(summary.bytes)}, of {summary.project}")
    output.line(f"Archive {amounts.size(packed.size)}, release {summary.release_id}")
    output.line("Largest:")
    for file in prepared.selection.largest(5):
        output.line(f"  {amounts.size(file.size):>9}  {one_line(packing_view.spelled(file.path))}")
    for name, value in plan.items():
        output.line(f"{name.capitalize()}: {_text(value)}")
    output.document(
        {"dry_run": True}
        | packing_view.to_json(prepared, packed)
        | {"largest": packing_view.largest_json(prepared)}
        | dict(plan)
        | dict(more or {})
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2)
