"""`--dry-run` of what packs and uploads: all of it but the upload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from codeferry_cli import packing_view
from codeferry_cli.archive import Prepared, measure
from codeferry_cli.packing.errors import show
from codeferry_cli.terminal.output import Output
from codeferry_contracts import formatting
from codeferry_contracts.cost import estimate_run, nat_usd
from codeferry_contracts.target import parse_target


def rehearse(
    prepared: Prepared,
    output: Output,
    plan: Mapping[str, Any],
    target: str,
    reached: Mapping[str, Any] | None = None,
) -> None:
    """Pack to nowhere, and say what would go out; ``plan`` is what would be done with it, and
    ``reached`` whom the stage's check function reaches (None where it was not asked).

    Packing is done in full: only that finds the secrets, and the release it would be.
    """
    packed = measure(prepared)
    packing_view.show_warnings(prepared, packed, output)
    summary = packed.summary
    files = formatting.counted(summary.files, "file")
    output.line(f"Would pack {files}, {formatting.size(summary.bytes)}, of {summary.project}")
    output.line(f"Archive {formatting.size(packed.size)}, release {summary.release_id}")
    output.line("Largest:")
    for file in prepared.selection.largest(5):
        output.line(f"  {formatting.size(file.size):>9}  {show(file.path)}")
    for name, value in plan.items():
        output.line(f"{name.capitalize()}: {_text(value)}")
    known = reached["reachable"] if reached else parse_target(target).instances
    priced = price(len(known) if reached else len(known) or None, packed.size)
    output.line(_price_line(priced))
    output.document(
        {"dry_run": True}
        | packing_view.to_json(prepared, packed)
        | {"largest": packing_view.largest_json(prepared)}
        | dict(plan)
        | {"instances": reached, "price": priced}
    )


def price(instances: int | None, archive_bytes: int) -> dict[str, Any]:
    """What the run costs at list price, without the free tier, and what NAT would add, in dollars.
    Where the instances are not known, for one."""
    known = 1 if instances is None else instances
    return {
        "instances": instances,
        "usd": estimate_run(known, archive_bytes)["usd"],
        "nat_usd": nat_usd(known, archive_bytes),
    }


def _price_line(priced: Mapping[str, Any]) -> str:
    known = priced["instances"]
    of = "one instance" if known is None else formatting.counted(known, "instance")
    nat = f"; through a NAT gateway ${priced['nat_usd']:.2f} more" if priced["nat_usd"] else ""
    return f"Price: about ${priced['usd']:.4f} for {of} at list price{nat}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2)
