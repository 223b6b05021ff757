"""`ferry doctor`."""

from __future__ import annotations

import click

from codeferry_cli.aws.deep_checks import Check
from codeferry_cli.aws.doctor import examine
from codeferry_cli.aws.session import Access
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.errors import CONFIGURATION, FAILED, ChecksFailed
from codeferry_cli.options import groups
from codeferry_cli.options.types import TARGET
from codeferry_cli.terminal.output import Output, contacting_aws

_MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}


@click.command(cls=FerryCommand, short_help="Find what is missing, and how to fix it.")
@click.argument("target", type=TARGET, required=False, envvar=groups.TARGET_VARIABLE)
@click.option(
    "--deep",
    is_flag=True,
    help="Ask AWS too: policies by IAM's simulator, quotas, VPC endpoints, the clock.",
)
@groups.access_options
@groups.examined_config_option
@groups.output_options
@click.pass_context
def doctor(
    ctx: click.Context, target: str | None, deep: bool, access: Access, output: Output
) -> None:
    """Check everything a push needs, and say how to fix what is missing.

    With TARGET also which of its instances can be reached. Ends with 3 when something
    is missing, with 1 when only the target has no instance that can be reached.

    \b
    Examples:
      ferry doctor
      ferry doctor gpu-workers
      ferry doctor gpu-workers --deep
      ferry doctor all --stage prod --json
    """
    checks = []
    configured = ctx.meta.get(groups.CONFIG_PROBLEM), ctx.meta.get(groups.CONFIG_FILES, ())
    for check in examine(access, target, *configured, deep=deep, waiting=contacting_aws):
        checks.append(check)
        _show(check, output)
    _conclude(checks, output)


def _show(check: Check, output: Output) -> None:
    output.line(f"{_MARKS[check.status]} {check.name}: {check.said}")
    for line in check.fix.splitlines():
        output.line(f"    {line}")


def _conclude(checks: list[Check], output: Output) -> None:
    answer = {"checks": [check.to_json() for check in checks]}
    failed = [check for check in checks if check.status == "fail"]
    if not failed:
        output.document(answer)
        return
    only_target = all(check.of_target for check in failed)
    raise ChecksFailed(
        f"Not in order: {', '.join(check.name for check in failed)}.",
        hint=failed[0].fix,
        code="no_instances" if only_target else None,
        exit_code=FAILED if only_target else CONFIGURATION,
        details=answer,
    )
