"""`ferry cancel`."""

from __future__ import annotations

import sys

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.errors import NotConfirmed
from codeferry_cli.options import groups
from codeferry_cli.runs.execution import Execution, describe, stop_execution
from codeferry_cli.runs.find import (
    Run,
    Workplace,
    as_run,
    choose_run,
    person,
    status_word,
    workplace,
)
from codeferry_cli.runs.record import await_report
from codeferry_cli.terminal.output import Output, contacting_aws
from codeferry_cli.views import report_view
from codeferry_contracts.report import Report


@click.command(cls=FerryCommand, short_help="Stop a run.")
@groups.run_argument
@click.option("--wait/--no-wait", default=True, help="Wait for what the stopped run reports.")
@click.option("--yes", is_flag=True, help="Do not ask before another person's run is stopped.")
@groups.dry_run_option
@groups.project_of_run_option
@groups.access_options
@groups.config_option
@groups.table_options
def cancel(
    run: str,
    wait: bool,
    yes: bool,
    dry_run: bool,
    project: str | None,
    access: Access,
    output: Output,
) -> None:
    """Stop a run: what it does on instances is cancelled and its archive removed.

    RUN is a run's id, or its beginning when only one run begins so; without it, or as `latest`,
    your newest of this project that still runs. Instances
    that have the new release already keep it.

    \b
    Examples:
      ferry cancel
      ferry cancel 20261120-1604 --stage prod
      ferry cancel --dry-run
    """
    stage = find_stage(Aws(access), contacting_aws)
    execution = choose_run(stage, run, project, output.note, running=True)
    if not execution.running:
        _answer(output, execution, "had already ended: {status}", cancelled=False)
    elif dry_run:
        _answer(output, execution, "would be cancelled; it is {status}", cancelled=False)
    else:
        if not yes and run != execution.run_id:
            _confirm(as_run(execution), workplace(project), output)
        stop_execution(stage, execution.workflow, execution.run_id, "Cancelled with ferry cancel.")
        _show_outcome(stage, execution, wait, output)


def _confirm(run: Run, mine: Workplace, output: Output) -> None:
    """Ask before a run that was not named in full is stopped, unless it is one's own."""
    if mine.is_mine(run.by):
        return
    run_id, owner = run.execution.run_id, person(run.by) or "somebody whom it does not name"
    of = f" of {run.project}" if run.project else ""
    question = f"The run {run_id}{of} was started by {owner}."
    if sys.stdin.isatty() and not output.json:
        if click.confirm(f"{question} Cancel it?", err=True):
            return
        raise click.Abort
    raise NotConfirmed(question, hint=f"Name it in full: ferry cancel {run_id}\nor add --yes.")


def _show_outcome(stage: DeployedStage, stopped: Execution, wait: bool, output: Output) -> None:
    """Show how the run ended, which it may have by itself just before the stop arrived."""
    execution = describe(stage, stopped.workflow, stopped.run_id)
    report = await_report(stage, execution) if wait else None
    if report:
        report_view.show_report(report, output, option=stage.option())
    message = "is cancelled" if execution.status == "ABORTED" else "had already ended: {status}"
    _answer(output, execution, message, cancelled=execution.status == "ABORTED", report=report)


def _answer(
    output: Output,
    execution: Execution,
    message: str,
    *,
    cancelled: bool,
    report: Report | None = None,
) -> None:
    status = status_word(execution.status)
    output.line(f"The run {execution.run_id} {message.format(status=status)}.")
    output.document(
        {"run_id": execution.run_id, "status": status, "cancelled": cancelled, "report": report}
    )
