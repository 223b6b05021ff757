"""`ferry logs`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.errors import LogsMissing
from codeferry_cli.options import groups
from codeferry_cli.options.types import DURATION, INSTANCE
from codeferry_cli.runs.execution import Execution
from codeferry_cli.runs.find import choose_run
from codeferry_cli.runs.log_lines import Line
from codeferry_cli.runs.logs import CLOCK_MS, LogTail, follow_lines, read_lines
from codeferry_cli.runs.record import RunRecord
from codeferry_cli.terminal.output import Output, contacting_aws
from codeferry_cli.terminal.progress import Throttle
from codeferry_cli.views.live_output import Colours
from codeferry_contracts.escaping import coloured

_BAR_SECONDS = 1.0  # between two states of one progress bar, as they come


@click.command(cls=FerryCommand, short_help="Show what a run printed on its instances.")
@groups.run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option(
    "--instance", type=INSTANCE, metavar="ID|NAME", help="Only what this instance printed."
)
@click.option("--since", type=DURATION, help="Only what was logged in this time, such as 10m.")
@groups.project_of_run_option
@groups.access_options
@groups.config_option
@groups.output_options
def logs(
    run: str,
    follow: bool,
    instance: str | None,
    since: int | None,
    project: str | None,
    access: Access,
    output: Output,
) -> None:
    """Show what a run printed on its instances, as far as CloudWatch Logs keeps it.

    RUN is a run's id, or its beginning when only one run begins so; without it, or as `latest`,
    your newest of this project. Of a run that
    is over, one instance after the other; with -f as it comes, from all of them.

    \b
    Examples:
      ferry logs latest
      ferry logs latest -f
      ferry logs 20261120-1604 --instance i-0123456789abcdef0
      ferry logs latest --since 10m --json
    """
    if follow and output.json:
        raise click.UsageError("--json is one document, and -f has no end: leave one of them out.")
    stage = find_stage(Aws(access), contacting_aws)
    execution = choose_run(stage, run, project, output.note)
    instance = _resolve_instance(stage, execution, instance)
    _require_instance(stage, execution, instance)
    begin = int((time.time() - since) * 1000) if since else 0
    if follow:
        begin = max(begin, int(execution.started.timestamp() * 1000) - CLOCK_MS)
        tail = LogTail(stage, execution.run_id, begin, instance)
        pages = follow_lines(stage, execution, tail)
    else:
        pages = read_lines(stage, execution, instance, begin)
    if output.json:
        _print_json(execution, pages)
    else:
        _print_lines(execution, pages, output, prefixed=instance is None, follow=follow)


def _resolve_instance(stage: DeployedStage, execution: Execution, typed: str | None) -> str | None:
    """The instance that is called so in the run's tables. Raises LogsMissing where several are."""
    if typed is None or typed.startswith("i-"):
        return typed
    ids = RunRecord(stage, execution.run_id).named(typed)
    if len(ids) > 1:
        shown = ", ".join(ids[:10]) + (", …" if len(ids) > 10 else "")
        raise LogsMissing(f"{len(ids)} instances are called {typed!r}.", hint=f"Name one: {shown}.")
    return ids[0] if ids else typed


def _require_instance(stage: DeployedStage, execution: Execution, instance: str | None) -> None:
    """Raise LogsMissing where nothing can have been printed, now or later."""
    if execution.running:
        return
    reached = [i for _, c in RunRecord(stage, execution.run_id).commands() for i in c["instances"]]
    if not reached:
        raise LogsMissing(
            f"The run {execution.run_id} reached no instance, so nothing was printed.",
            hint=f"See why: ferry status {execution.run_id}{stage.option()}",
        )
    if instance is not None and instance not in reached:
        shown = ", ".join(sorted(reached)[:10]) + (", …" if len(reached) > 10 else "")
        raise LogsMissing(
            f"The run {execution.run_id} did not reach {instance}.", hint=f"It reached {shown}."
        )


def _print_lines(
    execution: Execution,
    pages: Iterable[list[Line]],
    output: Output,
    *,
    prefixed: bool,
    follow: bool,
) -> None:
    """Page by page: a call for each of half a million lines takes longer than to fetch them."""
    colours, count = Colours(), 0
    throttle = Throttle[Line](_BAR_SECONDS if follow else 0)
    for page in pages:
        lines = [shown for line in page for shown in throttle.of(line)]
        count += len(lines)
        if lines:
            click.echo("\n".join(_format_line(line, colours, prefixed) for line in lines))
    for line in throttle.rest():
        click.echo(_format_line(line, colours, prefixed))
    if not count:
        output.note(f"Nothing is kept of what the run {execution.run_id} printed, if it did.")


def _format_line(line: Line, colours: Colours, prefixed: bool) -> str:
    text = coloured(line.text)
    if not prefixed:
        return text
    return f"{click.style(f'{line.instance} |', fg=colours.of(line.instance))} {text}"


def _print_json(execution: Execution, pages: Iterable[list[Line]]) -> None:
    """One JSON document of any size: printed only when it is whole, and never all in memory."""
    with tempfile.TemporaryFile("w+", encoding="ascii") as file:
        head = {"success": True, "run_id": execution.run_id}
        file.write(json.dumps(head)[:-1] + ', "lines": [')
        file.writelines(_separated(json.dumps(line.to_json()) for page in pages for line in page))
        file.write("\n]}\n")
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout)


def _separated(documents: Iterable[str]) -> Iterator[str]:
    separator = "\n"
    for document in documents:
        yield separator + document
        separator = ",\n"
