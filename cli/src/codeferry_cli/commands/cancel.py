"""`ferry cancel`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli import report_view
from codeferry_cli.aws import Aws
from codeferry_cli.commands.ferry_command import FerryCommand
from codeferry_cli.ending import await_report
from codeferry_cli.execution import Execution, describe
from codeferry_cli.options import (
    Access,
    access_options,
    config_option,
    dry_run_option,
    table_options,
)
from codeferry_cli.output import Output
from codeferry_cli.params import RUN
from codeferry_cli.runs import find_run, status_word
from codeferry_cli.stage import DeployedStage, find_stage
from codeferry_contracts.report import Report


@click.command(cls=FerryCommand, short_help="Stop a run.")
@click.argument("run", type=RUN)
@click.option("--wait/--no-wait", default=True, help="Wait for what the stopped run reports.")
@dry_run_option
@access_options
@config_option
@table_options
def cancel(
    run: str, wait: bool, dry_run: bool, access: Access, config_file: Path | None, output: Output
) -> None:
    """Stop a run: what it does on instances is cancelled and its archive removed.

    RUN is a run's id, its beginning when only one run begins so, or `latest`. Instances
    that have the new release already keep it.

    \b
    Examples:
      ferry cancel latest
      ferry cancel 20261120-1604 --stage prod
      ferry cancel latest --dry-run
    """
    stage = find_stage(Aws(access))
    execution = find_run(stage, run)
    if not execution.running:
        _answer(output, execution, "had already ended: {status}", cancelled=False)
    elif dry_run:
        _answer(output, execution, "would be cancelled; it is {status}", cancelled=False)
    else:
        _stop(stage, execution)
        _tell_end(stage, execution, wait, output)


def _stop(stage: DeployedStage, execution: Execution) -> None:
    stage.workflow.stop_execution(
        executionArn=stage.execution_arn(execution.workflow, execution.run_id),
        error="Cancelled",
        cause="Cancelled with ferry cancel.",
    )


def _tell_end(stage: DeployedStage, stopped: Execution, wait: bool, output: Output) -> None:
    """What became of the run; it may have ended by itself just before the stop arrived."""
    execution = describe(stage, stopped.workflow, stopped.run_id)
    report = await_report(stage, execution) if wait else None
    if report:
        report_view.show(report, output, option=stage.option())
    said = "is cancelled" if execution.status == "ABORTED" else "had already ended: {status}"
    _answer(output, execution, said, cancelled=execution.status == "ABORTED", report=report)


def _answer(
    output: Output,
    execution: Execution,
    said: str,
    *,
    cancelled: bool,
    report: Report | None = None,
) -> None:
    status = status_word(execution.status)
    output.line(f"The run {execution.run_id} {said.format(status=status)}.")
    output.document(
        {
            "run_id": execution.run_id,
            "status": status,
            "cancelled": cancelled,
            "report": report,
        }
    )
