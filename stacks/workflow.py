"""The workflow: state machine, its Lambdas, and the rules that feed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from codeferry_contracts import layout, names
from codeferry_contracts.names import Stage
from stacks.acknowledgements import acknowledge, acknowledge_wildcard
from stacks.functions import SHAPES, WorkflowFunction
from stacks.permissions import Arns, permissions
from stacks.retention import retention
from stacks.settings import Settings
from stacks.storage import StorageStack
from stacks.vendoring import lambda_asset

DEFINITION = Path(__file__).resolve().parent / "definitions" / "run.asl.json"


class WorkflowStack(Stack):
    """Composes the workflow; its outputs are how the CLI finds the stage."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Settings,
        storage: StorageStack,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, description="Codeferry: the sync workflow", **kwargs)
        # W6001: whoever looks for a stage reads this stack's outputs, so the bucket's name is
        # among them although another stack has it. W3005: the CDK writes a DependsOn beside
        # the reference that implies it.
        ignored = {"ignore_checks": ["W3005", "W6001"]}
        self.template_options.metadata = {"cfn-lint": {"config": ignored}}
        self._stage = settings.stage
        self._arns = self._name_arns(storage)
        command_log = self._command_log(settings)
        functions = self._functions(settings, storage, command_log)
        machine = RunStateMachine(
            self, "Sync", workflow="sync", settings=settings, functions=functions
        ).machine
        Triggers(
            self,
            "Triggers",
            stage=self._stage,
            storage=storage,
            functions=functions,
            machine=machine,
        )
        self._outputs(storage, functions, machine)

    def _name_arns(self, storage: StorageStack) -> Arns:
        """ARNs by name where a reference would close a circle (functions and machine)."""
        machine = self._stage.state_machine("sync")
        return Arns(
            bucket=storage.bucket_arn,
            table=storage.table_arn,
            document=self._arn("ssm", "document", self._stage.document("sync")),
            instances=self._arn("ec2", "instance", "*"),
            state_machine=self._arn("states", "stateMachine", machine, separator=":"),
            event_bus=self._arn("events", "event-bus", "default"),
        )

    def _arn(self, service: str, resource: str, name: str, *, separator: str = "/") -> str:
        owner = f"{self.partition}:{service}:{self.region}:{self.account}"
        return f"arn:{owner}:{resource}{separator}{name}"

    def _command_log(self, settings: Settings) -> logs.LogGroup:
        """Where Run Command streams output, and the policy that lets instances do so."""
        group = logs.LogGroup(
            self,
            "CommandLog",
            log_group_name=f"/codeferry/{self._stage.name}/commands",
            retention=retention(settings.log_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        policy = iam.ManagedPolicy(
            self,
            "InstancePolicy",
            managed_policy_name=f"codeferry-{self._stage.name}-instance",
            description="For instance roles: stream command output. Receiving code needs only "
            "AmazonSSMManagedInstanceCore.",
            statements=[
                iam.PolicyStatement(
                    actions=[
                        "logs:CreateLogStream",
                        "logs:PutLogEvents",
                        "logs:DescribeLogStreams",
                    ],
                    resources=[f"{group.log_group_arn}"],
                ),
                # The SSM agent looks the group up by listing; that call has no narrower resource.
                iam.PolicyStatement(actions=["logs:DescribeLogGroups"], resources=["*"]),
            ],
        )
        acknowledge_wildcard(policy, "*", "DescribeLogGroups lists; it has no narrower resource.")
        CfnOutput(self, "InstancePolicyArn", value=policy.managed_policy_arn)
        return group

    def _functions(
        self, settings: Settings, storage: StorageStack, command_log: logs.LogGroup
    ) -> dict[str, lambda_.Function]:
        granted = permissions(self._arns)
        code = lambda_.Code.from_asset(str(lambda_asset()))
        environment = {
            "STAGE": self._stage.name,
            "ARTIFACT_BUCKET": storage.bucket.bucket_name,
            "RUN_TABLE": storage.ledger.table_name,
            "LOG_GROUP": command_log.log_group_name,
            "MAX_ARCHIVE_BYTES": str(settings.max_archive_bytes),
            "STATE_MACHINE_ARN_SYNC": self._arns.state_machine,
            "POWERTOOLS_SERVICE_NAME": "codeferry",
            "POWERTOOLS_METRICS_NAMESPACE": "Codeferry",
        }
        return {
            name: WorkflowFunction(
                self,
                name,
                stage=self._stage,
                code=code,
                environment=environment,
                permissions=granted[name],
                log_retention=retention(settings.log_days),
            ).function
            for name in SHAPES
        }

    def _outputs(
        self,
        storage: StorageStack,
        functions: dict[str, lambda_.Function],
        machine: sfn.StateMachine,
    ) -> None:
        CfnOutput(self, names.OUTPUT_BUCKET, value=storage.bucket.bucket_name)
        CfnOutput(self, names.output_state_machine("sync"), value=machine.state_machine_arn)
        CfnOutput(self, names.OUTPUT_CHECK_FUNCTION, value=functions["check"].function_name)


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
    ) -> None:
        super().__init__(scope, id_)
        stage = settings.stage
        states = ("plan", "dispatch", "await", "collect", "verify", "cleanup", "report")
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            role=self._role([functions[name] for name in states]),
            state_machine_name=stage.state_machine(workflow),
            definition_body=sfn.DefinitionBody.from_file(str(DEFINITION)),
            definition_substitutions={
                "Partition": Stack.of(self).partition,
                "Workflow": workflow,
                "DocumentName": stage.document(workflow),
                **{f"{n.capitalize()}Function": functions[n].function_arn for n in states},
            },
            tracing_enabled=True,
            logs=sfn.LogOptions(
                destination=logs.LogGroup(
                    self,
                    "Log",
                    # Step Functions needs this prefix, or a resource policy grows by each group.
                    log_group_name=f"/aws/vendedlogs/states/{stage.state_machine(workflow)}",
                    retention=retention(settings.log_days),
                    removal_policy=RemovalPolicy.DESTROY,
                ),
                level=sfn.LogLevel.ALL,
                include_execution_data=False,
            ),
        )

    def _role(self, functions: Sequence[lambda_.Function]) -> iam.Role:
        """May invoke exactly these functions; the construct adds log delivery and X-Ray."""
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["lambda:InvokeFunction"],
                resources=[function.function_arn for function in functions],
            )
        )
        acknowledge_wildcard(role, "*", "Log delivery and X-Ray have no narrower resources.")
        return role


class Triggers(Construct):
    """The EventBridge rules: an upload starts, a finished command resumes, a stop cleans up."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        stage: Stage,
        storage: StorageStack,
        functions: dict[str, lambda_.Function],
        machine: sfn.StateMachine,
    ) -> None:
        super().__init__(scope, id_)
        self._undelivered = _dead_letters(self)
        self._rule(
            "Upload",
            functions["start"],
            source="aws.s3",
            detail_type="Object Created",
            detail={
                "bucket": {"name": [storage.bucket.bucket_name]},
                "object": {"key": [{"prefix": layout.INBOX_PREFIX}]},
            },
        )
        self._rule(
            "CommandEnded",
            functions["resume"],
            source="aws.ssm",
            detail_type="EC2 Command Status-change Notification",
            detail={"document-name": [{"prefix": f"codeferry-{stage.name}-"}]},
        )
        self._rule(
            "RunStopped",
            functions["abort"],
            source="aws.states",
            detail_type="Step Functions Execution Status Change",
            detail={
                "status": ["ABORTED", "TIMED_OUT"],
                "stateMachineArn": [machine.state_machine_arn],
            },
        )

    def _rule(
        self,
        id_: str,
        function: lambda_.Function,
        *,
        source: str,
        detail_type: str,
        detail: dict[str, Any],
    ) -> None:
        events.Rule(
            self,
            id_,
            event_pattern=events.EventPattern(
                source=[source], detail_type=[detail_type], detail=detail
            ),
            targets=[
                targets.LambdaFunction(
                    function,
                    dead_letter_queue=self._undelivered,
                    retry_attempts=8,
                    max_event_age=Duration.hours(2),
                )
            ],
        )
        # A delivered event whose handler keeps failing must not vanish either.
        function.configure_async_invoke(
            retry_attempts=2, on_failure=destinations.SqsDestination(self._undelivered)
        )


def _dead_letters(scope: Construct) -> sqs.Queue:
    """Events that no function could take, with an alarm on the first of them."""
    queue = sqs.Queue(scope, "Undelivered", enforce_ssl=True, retention_period=Duration.days(14))
    acknowledge(queue, {"AwsSolutions-SQS3": "This is the dead-letter queue."})
    cloudwatch.Alarm(
        scope,
        "UndeliveredAlarm",
        alarm_description="Codeferry: an event was given up; an upload or a stop had no effect.",
        metric=queue.metric_approximate_number_of_messages_visible(),
        threshold=1,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
    return queue
