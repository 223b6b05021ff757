"""From nothing to a deployed stage, once, from a laptop; `scripts/bootstrap.sh --help`.

Does what is not done yet and can be run again at any time. It ends with "BOOTSTRAP SUCCESSFUL",
or with what is missing, how to mend it, and "BOOTSTRAP INCOMPLETE" (exit 1).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bootstrap.steps import Plan, bootstrap
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.names import Stage


def main(arguments: list[str] | None = None) -> int:
    try:
        for line in bootstrap(parse(arguments)):
            print(line, flush=True)
    except CodeferryError as error:
        print(f"✗ {error.message}\n  {error.hint}\n\nBOOTSTRAP INCOMPLETE", flush=True)
        return 1
    print("\nBOOTSTRAP SUCCESSFUL", flush=True)
    return 0


def parse(arguments: list[str] | None) -> Plan:
    """The command line as a Plan; a name that cannot be a stage is an error like the others."""
    parser = argparse.ArgumentParser(
        prog="scripts/bootstrap.sh", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--project", required=True, metavar="NAME", help="the stage to deploy: dev, prod, …")
    add("--region", required=True, help="the AWS region")
    add("--model-path", type=Path, metavar="P", help="model weights to upload: a file or directory")
    add("--fleet", default="", metavar="TARGET", help="also deploy a fleet of that target")
    add("--probe", default="", metavar="TARGET", help="push a test project there at the end")
    add("--context", action="append", default=[], metavar="K=V", help="a setting of the CDK app")
    add(
        "--leave-out", action="append", default=[], metavar="STACK", help="Documents, Monitoring, …"
    )
    add("--agent", type=Path, metavar="FILE", help="where to build the agent", default=Plan.agent)
    add("--narrow", action="store_true", help="leave CloudFormation only what Codeferry needs")
    chosen = parser.parse_args(arguments)
    return Plan(
        stage=Stage(chosen.project),
        region=chosen.region,
        models=chosen.model_path,
        fleet=chosen.fleet,
        probe=chosen.probe,
        context=tuple(chosen.context),
        leave_out=tuple(chosen.leave_out),
        narrow=chosen.narrow,
        agent=chosen.agent.absolute(),
    )


if __name__ == "__main__":
    sys.exit(main())
