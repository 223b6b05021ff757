"""`ferry status`."""

from __future__ import annotations

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.options import groups
from codeferry_cli.runs.execution import NOTHING_YET, Timeline, phase_label, read_history
from codeferry_cli.runs.find import Run, as_run, choose_run, person
from codeferry_cli.runs.record import RunRecord, failure_of_execution, open_page
from codeferry_cli.terminal.output import Output, contacting_aws
from codeferry_cli.views import report_view
from codeferry_contracts import formatting
from codeferry_contracts.report import Outcome


@click.command(cls=FerryCommand, short_help="Show how a run went or is going.")
@groups.run_argument
@click.option("--open", "show_page", is_flag=True, help="Open the report's page in the browser.")
@groups.project_of_run_option
@click.option("--all", "everybody", is_flag=True, help="Every instance, however many.")
@groups.access_options
@groups.config_option
@groups.table_options
def status(
    run: str, show_page: bool, project: str | None, everybody: bool, access: Access, output: Output
) -> None:
    """Show how a run went or is going.

    RUN is a run's id, or its beginning when only one run begins so; without it, or as `latest`,
    your newest of this project. The exit
    code says whether the run could be shown; how it went is in the answer.

    \b
    Examples:
      ferry status latest
      ferry status 20261120-1604
      ferry status latest --open
      ferry status latest --all
      ferry status latest --json
    """
    stage = find_stage(Aws(access), contacting_aws)
    execution = choose_run(stage, run, project, output.note)
    if show_page:
        path = open_page(stage, execution)
        output.line(str(path))
        output.document({"run_id": execution.run_id, "page": str(path)})
        return
    timeline = read_history(stage, execution.workflow, execution.run_id, NOTHING_YET)
    found = as_run(execution)
    _show_heading(found, timeline, output)
    if execution.running:
        _show_running(stage, found, timeline, output, everybody=everybody)
    else:
        _show_ended(stage, found, timeline, output, everybody=everybody)


def _show_heading(run: Run, timeline: Timeline, output: Output) -> None:
    execution = run.execution
    project = f", project {run.project}" if run.project else ""
    output.line(f"Run {execution.run_id}: {run.status}, target {run.target or 'unknown'}{project}")
    by = f" by {person(run.by)}" if person(run.by) else ""
    took = f", took {formatting.seconds(run.seconds)}" if run.seconds is not None else ""
    output.line(f"Started {formatting.when(execution.started)}{by}{took}")
    spans = [
        f"{phase_label(phase, command=run.command)} {formatting.seconds(timeline.seconds(phase))}"
        for phase in timeline.begun()
    ]
    if spans:
        output.line(f"Phases: {', '.join(spans)}")


def _show_running(
    stage: DeployedStage, run: Run, timeline: Timeline, output: Output, *, everybody: bool
) -> None:
    record = RunRecord(stage, run.execution.run_id)
    outcomes: list[Outcome] = record.outcomes(list(record.finished_instances()))
    finished = {outcome["instance_id"] for outcome in outcomes}
    reached = [i for _, command in record.commands() for i in command["instances"]]
    at_work = [instance_id for instance_id in reached if instance_id not in finished]
    output.line(f"Now: {_now(run, timeline)}")
    report_view.show_outcomes(outcomes, run.execution.run_id, output, everybody, stage.option())
    most = len(at_work) if everybody else report_view.MOST_ROWS
    for instance_id in at_work[:most]:
        output.line(f"… {instance_id} at work")
    if len(at_work) > most:
        output.line(f"… and {len(at_work) - most:,} more at work")
    output.document(
        run.to_json()
        | {"phase": timeline.current, "phases": timeline.to_json()}
        | {"instances": outcomes, "at_work": at_work, "report": None}
    )


def _now(run: Run, timeline: Timeline) -> str:
    if timeline.current is None:
        return "starting"
    since = formatting.when(timeline.spans[timeline.current].started)
    return f"{phase_label(timeline.current, command=run.command)}, since {since}"


def _show_ended(
    stage: DeployedStage, run: Run, timeline: Timeline, output: Output, *, everybody: bool
) -> None:
    report = RunRecord(stage, run.execution.run_id).report()
    error = report["error"] if report else failure_of_execution(run.execution)
    if report:
        report_view.show_report(report, output, everybody=everybody, option=stage.option())
    if error:
        word = "Cancelled" if error["code"] == "cancelled" else "Failed"
        output.line(f"{word}: {error['message']}")
        if error["hint"]:
            output.line(f"  {error['hint']}")
    output.document(
        run.to_json()
        | {"phase": None, "phases": timeline.to_json()}
        | {"instances": report["instances"] if report else [], "report": report, "failure": error}
    )
