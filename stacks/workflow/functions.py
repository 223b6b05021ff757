"""The Lambdas: one function, one role and one log group each, and the asset they share.

The asset is our two packages and the pure-Python libraries they need, copied from the installed
environment, which the lock pins, so that synth is offline and gives the same asset everywhere.
boto3 comes with the Lambda runtime.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.names import Stage
from stacks.libraries import make_readable, required_libraries
from stacks.permissions.roles import Permission
from stacks.policies import acknowledge, acknowledge_wildcard, grant


@dataclass(frozen=True)
class FunctionConfig:
    """A function's module and size; ``seconds`` is its timeout."""

    module: str
    seconds: int = 60
    memory_mib: int = 256


# Each below the timeout of its state in the definition, so that the function's own error is
# what the workflow sees. Plan may have to hash a whole archive; report and verify read a
# fleet's outcomes.
FUNCTIONS: Mapping[str, FunctionConfig] = {
    "start": FunctionConfig("start", seconds=30),
    "welcome": FunctionConfig("late_joiners"),
    "plan": FunctionConfig("plan", seconds=890, memory_mib=1024),
    "check": FunctionConfig("check"),
    "dispatch": FunctionConfig("dispatch", seconds=120),
    "await": FunctionConfig("await_command", seconds=14),
    "resume": FunctionConfig("resume", seconds=30),
    "collect": FunctionConfig("collect", seconds=300, memory_mib=512),
    "verify": FunctionConfig("verify", seconds=300, memory_mib=1024),
    "cleanup": FunctionConfig("cleanup", seconds=300),
    "report": FunctionConfig("report", seconds=300, memory_mib=1024),
    "abort": FunctionConfig("abort", seconds=300, memory_mib=1024),
}


class WorkflowFunction(Construct):
    """One Lambda with a role that holds exactly the given permissions."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        code: lambda_.Code,
        environment: Mapping[str, str],
        permissions: Sequence[Permission],
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, name.capitalize())
        config = FUNCTIONS[name]
        log_group = logs.LogGroup(
            self, "Log", retention=log_retention, removal_policy=RemovalPolicy.DESTROY
        )
        role = _function_role(self, log_group, permissions)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=stage.function(name),
            description=f"Codeferry {stage.name}: {name}",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"codeferry_lambdas.handlers.{config.module}.handler",
            code=code,
            role=role,
            log_group=log_group,
            timeout=Duration.seconds(config.seconds),
            memory_size=config.memory_mib,
            environment=dict(environment),
            # Adds what permissions.TRACING lists to the role.
            tracing=lambda_.Tracing.ACTIVE,
        )
        acknowledge(
            self.function,
            {
                "AwsSolutions-L1": "3.13 is chosen for the whole stage at once; the suite runs "
                "the functions under 3.11 as well.",
            },
        )


def _function_role(
    scope: Construct, log_group: logs.LogGroup, permissions: Sequence[Permission]
) -> iam.Role:
    role = iam.Role(scope, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    log_group.grant_write(role)
    acknowledge_wildcard(role, "*", "Traces are no resources that a statement could name.")
    grant(role, permissions)
    return role


ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    ROOT / "lambdas" / "src" / "codeferry_lambdas",
    ROOT / "contracts" / "src" / "codeferry_contracts",
)
REQUIRED_BY = "codeferry-lambdas"
FROM_RUNTIME = frozenset({"boto3", "botocore", "s3transfer", "urllib3", "python-dateutil", "six"})
# Compiled for speed only: without that part they work from Python (markupsafe/_native.py).
WORKS_UNCOMPILED = frozenset({"markupsafe"})
OURS = frozenset({"codeferry-contracts", "codeferry-lambdas"})


class NotPurePython(CodeferryError):
    """A library with compiled parts cannot be copied to another architecture."""

    code = "not_pure_python"


def lambda_asset() -> Path:
    """A fresh directory with everything the functions import; it is gone when synth ends.

    The CDK copies it into the cloud assembly as soon as a function uses it.
    """
    directory = Path(tempfile.mkdtemp(prefix="codeferry-lambdas-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)
    for package in PACKAGES:
        shutil.copytree(package, directory / package.name, ignore=_ignored)
    for library in sorted(required_libraries(REQUIRED_BY, _is_ours_to_bring) - OURS):
        _copy(distribution(library), directory)
    make_readable(directory)
    return directory


def _is_ours_to_bring(requirement: Requirement) -> bool:
    """Whether the asset needs it: neither the runtime's nor an extra's. Other markers count as met,
    since they would be read of this Python and this machine, and the asset is for others."""
    extra = "extra ==" in str(requirement.marker or "")
    return not extra and canonicalize_name(requirement.name) not in FROM_RUNTIME


def _copy(library: Distribution, directory: Path) -> None:
    pure = "Root-Is-Purelib: true" in (library.read_text("WHEEL") or "")
    if not pure and library.name.lower() not in WORKS_UNCOMPILED:
        raise NotPurePython(
            f"{library.name} has compiled parts.",
            hint="The Lambdas may depend on pure-Python libraries only.",
        )
    for file in library.files or ():
        if file.suffix == ".py" and ".." not in file.parts:
            destination = directory / file
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), destination)


def _ignored(_directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]
