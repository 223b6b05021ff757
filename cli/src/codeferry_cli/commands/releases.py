"""`ferry releases`."""

from __future__ import annotations

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import find_stage
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.options import groups
from codeferry_cli.options.types import PROJECT
from codeferry_cli.runs import reach
from codeferry_cli.runs.find import person, workplace
from codeferry_cli.runs.releases import Release, list_releases
from codeferry_cli.terminal.output import Output, contacting_aws
from codeferry_cli.terminal.table import Cell, Column, Row
from codeferry_cli.views.report_view import SHORT_RELEASE
from codeferry_contracts import formatting

_COLUMNS = (
    Column("release", short=SHORT_RELEASE),
    Column("current on"),
    Column("had by", drops=2),
    Column("given by run", drops=1),
    Column("who", drops=4, shrinks=True),
    Column("started", drops=3),
)


@click.command(cls=FerryCommand, short_help="List a project's releases on a target.")
@groups.target_argument
@groups.option("--project", type=PROJECT, help="The project, instead of this directory's.")
@groups.access_options
@groups.config_option
@groups.table_options
def releases(target: str, project: str | None, access: Access, output: Output) -> None:
    """List the releases of a project that runs have given to the instances of TARGET.

    As the runs' reports say, the newest first. What is older than an instance keeps
    (--keep-releases) is no longer there to go back to.

    \b
    Examples:
      ferry releases gpu-workers
      ferry releases gpu-workers --project train --json
      ferry rollback gpu-workers --to 41967ebe10bd
    """
    stage = find_stage(Aws(access), contacting_aws)
    asked = reach.ask_instances(stage, target)
    ids = {*asked.reachable, *(o["instance_id"] for o in asked.unreachable)}
    error = asked.error()
    if not ids and error:
        raise error
    name = workplace(project).project
    found = list_releases(stage, name, ids)
    if found:
        output.table(_COLUMNS, (_row(release, len(ids)) for release in found))
    else:
        output.note(f"No run has given a release of {name} to {target}.")
    output.document({"project": name, "releases": [release.to_json() for release in found]})


def _row(release: Release, total: int) -> Row:
    execution = release.given.execution
    return (
        release.release_id,
        f"{len(release.current):,}/{total:,}" if release.current else "",
        f"{len(release.instances):,}/{total:,}",
        execution.run_id,
        person(release.given.by),
        Cell(formatting.when(execution.started), execution.started.isoformat()),
    )
