"""``ferry local`` and ``ferry demo``, offered to the CLI as entry points."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from codeferry_local.demo import Demo, FirstSteps, FleetRollout
from codeferry_local.home import Home, State, read_state
from codeferry_local.instances import launch_more
from codeferry_local.process import StepPrinter, Supervisor, stop_running
from codeferry_local.ssm.agent.genuine import usable_agent

UP_HELP = """Start the embedded AWS and return when everything answers.

\b
Examples:
  ferry local up
  ferry local up --instances 5 --target gpu-workers
  ferry local up --signing
  ferry local up --agent /usr/bin/amazon-ssm-agent
  ferry push demo --stage local
"""
DOWN_HELP = """End the embedded AWS and remove its instances.

\b
Examples:
  ferry local down
"""
LAUNCH_HELP = """Launch further instances; they get what their target already has.

\b
Examples:
  ferry local launch
  ferry local launch --count 2 --target gpu-workers
"""
STATUS_HELP = """Show what runs: endpoints, bucket, state machines and instances.

\b
Examples:
  ferry local status
  ferry local status --json
"""
ENV_HELP = """Print export lines that lead the AWS CLI, boto3 and the CDK CLI here.

\b
Examples:
  eval "$(ferry local env)"
  aws s3 ls
"""
DEMO_HELP = """The whole of Codeferry on this machine, in half a minute.

Starts an embedded AWS, deploys, creates three instances, pushes a real project,
pushes it again after an edit, starts a run by a bare S3 upload, and cleans up.
With --fleet: six instances, a release in waves, one that fails its health command at
wave two and goes back, and an instance that joins later and gets what the others have.

\b
Examples:
  ferry demo
  ferry demo --fleet
  ferry demo --keep
"""

as_json = click.option("--json", "json_", is_flag=True, help="One JSON document on stdout.")


@click.group(help="The embedded AWS on this machine.\n\n\b\nExamples:\n  ferry local up\n")
def local() -> None:
    pass


@local.command(help=UP_HELP)
@click.option("--instances", default=3, show_default=True, type=click.IntRange(0, 100))
@click.option("--target", default="demo", show_default=True, help="Their codeferry:target tag.")
@click.option("--signing", is_flag=True, help="Instances take signed releases only.")
@click.option(
    "--paced/--unpaced",
    default=True,
    help="Take the time a genuine SSM agent takes for output and logs: 2 to 3 s a step.",
    show_default=True,
)
@click.option(
    "--agent",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A genuine amazon-ssm-agent that carries commands out; needs Linux and root.",
)
@as_json
def up(
    instances: int, target: str, signing: bool, paced: bool, agent: Path | None, json_: bool
) -> None:
    home = Home.default()
    if agent is not None:
        usable_agent(agent)
    printer = StepPrinter(Console(stderr=True))
    Supervisor.start(
        home,
        instances=instances,
        target=target,
        attached=False,
        signing=signing,
        paced=paced,
        agent=agent,
        progress=printer,
    )
    _show(read_state(home), json_)


@local.command(help=DOWN_HELP)
@as_json
def down(json_: bool) -> None:
    state = stop_running(Home.default())
    if json_:
        click.echo(json.dumps({"success": True, "stopped": state.pid}))
    else:
        click.echo("The embedded AWS is down.", err=True)


@local.command(help=LAUNCH_HELP)
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 100))
@click.option("--target", default="demo", show_default=True, help="Their codeferry:target tag.")
@as_json
def launch(count: int, target: str, json_: bool) -> None:
    home = Home.default()
    launch_more(home, count=count, target=target)
    _show(read_state(home), json_)


@local.command(help=STATUS_HELP)
@as_json
def status(json_: bool) -> None:
    _show(read_state(Home.default()), json_)


@local.command(help=ENV_HELP)
def env() -> None:
    for name, value in read_state(Home.default()).environment().items():
        click.echo(f"export {name}={value}")


@click.command(help=DEMO_HELP)
@click.option("--keep", is_flag=True, help="Leave the embedded AWS running afterwards.")
@click.option("--fleet", is_flag=True, help="Show roll-outs in waves on six instances.")
def demo(keep: bool, fleet: bool) -> None:
    show, instances = (FleetRollout, 6) if fleet else (FirstSteps, 3)
    Demo(Console(), show, instances).run(keep=keep)


def _show(state: State, json_: bool) -> None:
    if json_:
        click.echo(json.dumps({"success": True, **state.to_json()}, indent=2))
        return
    # Off a terminal there is no width to keep to, and a cut path is none.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    for name, value in _facts(state).items():
        console.print(f"[bold]{name:<14}[/bold] {value}", soft_wrap=True, highlight=False)
    table = Table("instance", "name", "target", "root", box=None, pad_edge=False)
    for record in state.instances:
        target = record.tags.get("codeferry:target", "")
        table.add_row(record.instance_id, record.name, target, record.root)
    console.print(table)


def _facts(state: State) -> dict[str, Any]:
    return {
        "AWS endpoint": state.endpoints["aws"],
        "SSM endpoint": state.endpoints["ssm"],
        "bucket": state.bucket,
        **{f"{name} workflow": arn for name, arn in state.state_machines.items()},
    }
