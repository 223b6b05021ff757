"""`ferry status`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli import amounts, report_view
from codeferry_cli.aws import Aws
from codeferry_cli.commands.ferry_command import FerryCommand
from codeferry_cli.ending import cause_of_death
from codeferry_cli.follow import Execution, read_history
from codeferry_cli.options import Access, access_options, config_option, output_options
from codeferry_cli.output import Output
from codeferry_cli.params import RUN
from codeferry_cli.phases import NOTHING_YET, Timeline
from codeferry_cli.record import RunRecord
from codeferry_cli.runs import as_run, find_run
from codeferry_cli.stage import DeployedStage, find_stage
from codeferry_contracts.report import Outcome


@click.command(cls=FerryCommand, short_help="Show how a run went or is going.")
@click.argument("run", type=RUN)
@access_options
@config_option
@output_options
def status(run: str, access: Access, config_file: Path | None, output: Output) -> None:
    """Show how a run went or is going.

    RUN is a run's id, its beginning when only one run begins so, or `latest`. The exit
    code says whether the run could be shown; how it went is in the answer.

    \b
    Examples:
      ferry status latest
      ferry status 20261120-1604
      ferry status latest --json
    """
    stage = find_stage(Aws(access))
    execution = find_run(stage, run)
    timeline = read_history(stage, execution.run_id, NOTHING_YET)
    _show_heading(execution, timeline, output)
    if execution.running:
        _show_running(stage, execution, timeline, output)
    else:
        _show_ended(stage, execution, timeline, output)


def _show_heading(execution: Execution, timeline: Timeline, output: Output) -> None:
    run = as_run(execution)
    output.line(f"Run {execution.run_id}: {run.status}, target {run.target or 'unknown'}")
    took = f", took {amounts.seconds(run.seconds)}" if run.seconds is not None else ""
    output.line(f"Started {amounts.when(execution.started)}{took}")
    spans = [f"{p['phase']} {amounts.seconds(p['seconds'])}" for p in timeline.to_json()]
    if spans:
        output.line(f"Phases: {', '.join(spans)}")


def _show_running(
    stage: DeployedStage, execution: Execution, timeline: Timeline, output: Output
) -> None:
    record = RunRecord(stage, execution.run_id)
    outcomes: list[Outcome] = record.outcomes(list(record.finished_instances()))
    output.line(f"Now: {_now(timeline)}")
    for outcome in outcomes:
        output.line(f"  {report_view.outcome_line(outcome)}")
    output.document(
        as_run(execution).to_json()
        | {"phase": timeline.current, "phases": timeline.to_json()}
        | {"instances": outcomes, "report": None}
    )


def _now(timeline: Timeline) -> str:
    if timeline.current is None:
        return "starting"
    return f"{timeline.current}, since {amounts.when(timeline.spans[timeline.current].started)}"


def _show_ended(
    stage: DeployedStage, execution: Execution, timeline: Timeline, output: Output
) -> None:
    report = RunRecord(stage, execution.run_id).report()
    error = report["error"] if report else cause_of_death(execution)
    if report:
        report_view.show(report, output)
    if error:
        output.line(f"Failed: {error['message']}")
        output.line(f"  {error['hint']}")
    output.document(
        as_run(execution).to_json()
        | {"phase": None, "phases": timeline.to_json()}
        | {"instances": report["instances"] if report else [], "report": report, "failure": error}
    )
