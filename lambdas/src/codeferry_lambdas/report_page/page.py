"""The report of a run as one self-contained HTML page: its values as words, grouped and cut.

The template escapes whatever it shows, and a policy in the page itself lets nothing run or
load but its own style and script: what an instance says stays text twice over."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from codeferry_contracts import formatting
from codeferry_contracts.formatting import counted, seconds, size
from codeferry_contracts.report import Cost, Counts, ErrorRecord, Report
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.observability import logger
from codeferry_lambdas.report_page.fleet import (
    COMMAND_CHARACTERS,
    MOST_REASONS,
    SENTENCE_CHARACTERS,
    Values,
    failed_first,
    fleet,
    instance,
    named,
    reason,
    reasons,
    tails,
)
from codeferry_lambdas.report_page.text import NAME_CHARACTERS, one_line, when
from codeferry_lambdas.report_page.timeline import timeline
from codeferry_lambdas.runs.outcomes import number
from codeferry_lambdas.runs.record import Run
from codeferry_lambdas.runs.report import duration

PATH_CHARACTERS = 200
MOST_WARNINGS = 50
MOST_FILES = 200

Facts = tuple[tuple[str, str], ...]


def content(report: Report) -> Values:
    """Everything the template shows. ``fleet`` is in the plan's order, ``table`` has the failed
    first and says in which wave each was where there were ``waves``."""
    outcomes = report["instances"]
    found = reasons(outcomes)
    return {
        "status": report["status"].lower(),
        "project": one_line(report["project"], PATH_CHARACTERS),
        "target": one_line(report["target"], PATH_CHARACTERS),
        "workflow": report["workflow"],
        "stage": report["stage"],
        "run_id": one_line(report["run_id"], PATH_CHARACTERS),
        "command": one_line(shlex.join(report["command"]), COMMAND_CHARACTERS),
        "headline": _headline(report["counts"]),
        "started": when(datetime.fromisoformat(report["started_at"])),
        "duration": seconds(max(0.0, duration(report))),
        "facts": tuple(_facts(report)),
        "error": reason(report["error"]) if report["error"] else None,
        "error_code": _code(report["error"]) if report["error"] else "",
        "fleet": fleet(report),
        "waves": bool(report.get("rollout")),
        "reasons": tuple(found[:MOST_REASONS]),
        "reasons_omitted": max(0, len(found) - MOST_REASONS),
        "timeline": timeline(outcomes),
        "table": tuple(map(instance, failed_first(outcomes))),
        "tails": tails(outcomes),
        "warnings": _some(formatting.warnings(report), MOST_WARNINGS, SENTENCE_CHARACTERS),
        "verified": _verified(report),
        "cost": _cost(report["cost"]) if report["cost"] else (),
    }


def _headline(counts: Counts) -> str:
    if not counts["total"]:
        return "The run ended before it reached an instance."
    return f"{counts['succeeded']:,} of {counted(counts['total'], 'instance')} succeeded."


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    verification, archive, cost = report["verification"], report["archive"], report["cost"]
    if verification and verification["release_id"]:
        yield "Release", one_line(verification["release_id"], NAME_CHARACTERS)
    if archive:
        yield "Archive", size(archive["size"])
    if cost:
        yield "Cost", f"${cost['usd']:.5f} at list price"


def _code(error: ErrorRecord) -> str:
    """``no_instances in plan``: what to search for, and the phase."""
    phase = f" in {error['phase']}" if "phase" in error else ""
    return one_line(f"{error['code']}{phase}", 2 * NAME_CHARACTERS)


def _some(texts: Sequence[str], most: int, characters: int) -> Values:
    """The first of the texts, and how many more there are."""
    shown = tuple(one_line(text, characters) for text in texts[:most])
    return {"shown": shown, "omitted": len(texts) - len(shown)}


def _verified(report: Report) -> Values | None:
    """None also where what was compared says nothing of what instances have."""
    found, count = report["verification"], formatting.verified(report)
    if found is None or not (count or found["mismatched"]):
        return None
    agreed = "the archive's manifest" if found["source"] == "manifest" else "one another"
    files = _some(found["python_files"], MOST_FILES, PATH_CHARACTERS)
    files_found = int(number(found["files"]))
    facts = (
        ("Instances", f"{count:,} of {len(report['instances']):,} agree with {agreed}"),
        ("Tree", f"{counted(files_found, 'file')}, {size(int(number(found['bytes'])))}"),
        ("Digest", one_line(found["digest"], 64)),
    )
    return {
        "facts": facts,
        "mismatched": named(found["mismatched"]),
        "files": files,
        "file_count": found["python_file_count"],
    }


def _cost(cost: Cost) -> Facts:
    """The calls, in the order of the bill."""
    return (
        ("State transitions", f"{cost['state_transitions']:,}"),
        ("Function calls", f"{cost['function_calls']:,}"),
        ("S3 writes", f"{cost['s3_writes']:,}"),
        ("S3 reads", f"{cost['s3_reads']:,}"),
        ("Ledger writes", f"{cost['ledger_writes']:,}"),
        ("Ledger reads", f"{cost['ledger_reads']:,}"),
        ("Together", f"${cost['usd']:.6f} at list price"),
    )


def render(report: Report) -> str:
    """``runs/<run_id>/report.html``: HTML that encodes as UTF-8 whatever the report holds.

    2 MB at most for 1,000 instances and 12 MB for 10,000: long texts and long lists are cut,
    and the page says where.
    """
    return _template().render(
        page=content(report),
        style=Markup(_source("report.css")),  # noqa: S704 - our own file
        script=Markup(_source("report.js")),  # noqa: S704 - our own file
        policy=_policy(),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_source("report.html"))


@cache
def _source(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


@cache
def _policy() -> str:
    """The Content-Security-Policy. ``data:`` is the icon, which is in the page as well."""
    return (
        f"default-src 'none'; style-src {_digest('report.css')}; "
        f"script-src {_digest('report.js')}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(name: str) -> str:
    digest = hashlib.sha256(_source(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def write_page(bucket: str, run: Run, report: Report) -> None:
    """The report as a page. A page that cannot be made costs a warning in the log: the run's
    outcome is in report.json, and may not depend on how it looks."""
    try:
        body = render(report).encode()
    except Exception:  # noqa: BLE001 - logged with its traceback
        logger.exception("The report's page could not be made.")
        return
    kind = "text/html; charset=utf-8"
    clients.s3().put_object(Bucket=bucket, Key=run.keys.page, Body=body, ContentType=kind)
