"""The Lambdas: one function, one role and one log group each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from codeferry_contracts.names import Stage
from stacks.acknowledgements import acknowledge, acknowledge_wildcard
from stacks.permissions import Permission
from stacks.statements import grant


@dataclass(frozen=True)
class FunctionShape:
    """A function's module and size; ``seconds`` is its timeout."""

    module: str
    seconds: int = 60
    memory_mib: int = 256


# Each below the timeout of its state in the definition, so that the function's own error is
# what the workflow sees. Plan may have to hash a whole archive; report and verify read a
# fleet's outcomes.
SHAPES: Mapping[str, FunctionShape] = {
    "start": FunctionShape("start", seconds=30),
    "welcome": FunctionShape("late_joiners"),
    "plan": FunctionShape("plan", seconds=890, memory_mib=1024),
    "check": FunctionShape("check"),
    "dispatch": FunctionShape("dispatch", seconds=120),
    "await": FunctionShape("await_command", seconds=14),
    "resume": FunctionShape("resume", seconds=30),
    "collect": FunctionShape("collect", seconds=300, memory_mib=512),
    "verify": FunctionShape("verify", seconds=300, memory_mib=1024),
    "cleanup": FunctionShape("cleanup", seconds=300),
    "report": FunctionShape("report", seconds=300, memory_mib=1024),
    "abort": FunctionShape("abort", seconds=300, memory_mib=1024),
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
        shape = SHAPES[name]
        log_group = logs.LogGroup(
            self, "Log", retention=log_retention, removal_policy=RemovalPolicy.DESTROY
        )
        role = _role(self, log_group, permissions)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=stage.function(name),
            description=f"Codeferry {stage.name}: {name}",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"codeferry_lambdas.handlers.{shape.module}.handler",
            code=code,
            role=role,
            log_group=log_group,
            timeout=Duration.seconds(shape.seconds),
            memory_size=shape.memory_mib,
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


def _role(
    scope: Construct, log_group: logs.LogGroup, permissions: Sequence[Permission]
) -> iam.Role:
    role = iam.Role(scope, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    log_group.grant_write(role)
    acknowledge_wildcard(role, "*", "Traces are no resources that a statement could name.")
    grant(role, permissions)
    return role
