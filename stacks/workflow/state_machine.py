"""One workflow made from the one definition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.policies import acknowledge_wildcard
from stacks.settings import Settings

DEFINITION = Path(__file__).resolve().parent / "run.asl.json"


class RunStateMachine(Construct):
    """One workflow made from the one definition."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        workflow: str,
        settings: Settings,
        functions: dict[str, lambda_.Function],
        rollback: str,
    ) -> None:
        super().__init__(scope, id_)
        stage = settings.stage
        states = ("plan", "dispatch", "await", "collect", "verify", "cleanup", "report")
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            role=self._role([functions[name] for name in states], rollback),
            state_machine_name=stage.state_machine(workflow),
            definition_body=sfn.DefinitionBody.from_file(str(DEFINITION)),
            definition_substitutions={
                "Partition": Stack.of(self).partition,
                "Workflow": workflow,
                "DocumentName": stage.document(workflow),
                "RollbackMachine": rollback,
                **{f"{n.capitalize()}Function": functions[n].function_arn for n in states},
            },
            tracing_enabled=True,
            logs=sfn.LogOptions(
                destination=logs.LogGroup(
                    self,
                    "Log",
                    # Step Functions needs this prefix, or a resource policy grows by each group.
                    log_group_name=f"/aws/vendedlogs/states/{stage.state_machine(workflow)}",
                    retention=settings.log_retention,
                    removal_policy=RemovalPolicy.DESTROY,
                ),
                level=sfn.LogLevel.ALL,
                include_execution_data=False,
            ),
        )

    def _role(self, functions: Sequence[lambda_.Function], rollback: str) -> iam.Role:
        """May invoke exactly these functions, and have a rollback run and see how it ends; the
        construct adds log delivery and X-Ray."""
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["lambda:InvokeFunction"],
                resources=[function.function_arn for function in functions],
            )
        )
        self._allow_nested(role, rollback)
        acknowledge_wildcard(role, "*", "Log delivery and X-Ray have no narrower resources.")
        return role

    def _allow_nested(self, role: iam.Role, machine: str) -> None:
        """What a state needs that starts an execution and waits for its end (Step Functions
        Developer Guide, "IAM policies for StartExecution")."""
        executions = machine.replace(":stateMachine:", ":execution:") + ":*"
        rule = Stack.of(self).format_arn(
            service="events",
            resource="rule",
            resource_name="StepFunctionsGetEventsForStepFunctionsExecutionRule",
        )
        for actions, resource in (
            (["states:StartExecution"], machine),
            (["states:DescribeExecution", "states:StopExecution"], executions),
            (["events:PutTargets", "events:PutRule", "events:DescribeRule"], rule),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
        acknowledge_wildcard(role, executions, "An execution has its run's name.")
