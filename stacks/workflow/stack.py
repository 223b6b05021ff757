"""The workflow stack: state machines, their Lambdas, and the rules that feed them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aws_cdk import AssetHashType, AssetStaging, CfnOutput, FileAssetPackaging, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from codeferry_contracts import names
from codeferry_contracts.layout import AGENT_SUFFIX, agent_key
from codeferry_contracts.parameters import key_id
from stacks.permissions.roles import Arns, command_output_permissions, function_permissions
from stacks.policies import accept_implied_dependencies, acknowledge_wildcard, statement
from stacks.settings import KMS, Settings
from stacks.storage.artifacts import StorageStack
from stacks.workflow.agent_code import agent_code, agent_sha256
from stacks.workflow.functions import FUNCTIONS, WorkflowFunction, lambda_asset
from stacks.workflow.notifications import Notifications
from stacks.workflow.state_machine import RunStateMachine
from stacks.workflow.triggers import Triggers


class WorkflowStack(Stack):
    """Composes the workflow; its outputs are how the CLI finds the stage. ``undelivered`` is
    the queue of events that were given up."""

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
        # among them although another stack has it.
        accept_implied_dependencies(self, "W6001")
        self._stage = settings.stage
        self._agents = published_agent(self)
        self._arns = self._name_arns(settings, storage)
        command_log = self._command_log(settings)
        functions = self._functions(settings, storage, command_log)
        machines = {
            workflow: RunStateMachine(
                self,
                workflow.capitalize(),
                workflow=workflow,
                settings=settings,
                functions=functions,
                rollback=self._machine_arn(names.ROLLBACK),
            ).machine
            for workflow in names.WORKFLOWS
        }
        self.undelivered = Triggers(
            self,
            "Triggers",
            stage=self._stage,
            storage=storage,
            functions=functions,
            machines=tuple(machines.values()),
        ).undelivered
        if settings.notify:
            Notifications(self, "Notifications", stage=self._stage, email=settings.notify)
        self._outputs(storage, functions, machines)
        if settings.signing:
            self._signing(settings)

    def _name_arns(self, settings: Settings, storage: StorageStack) -> Arns:
        """ARNs by name where a reference would close a circle (functions and machine)."""
        return Arns(
            bucket=storage.bucket_arn,
            table=storage.table_arn,
            documents=tuple(
                self._arn("ssm", "document", self._stage.document(workflow))
                for workflow in names.WORKFLOWS
            ),
            instances=self._arn("ec2", "instance", "*"),
            state_machines={workflow: self._machine_arn(workflow) for workflow in names.WORKFLOWS},
            event_bus=self._arn("events", "event-bus", "default"),
            agents=f"arn:{self.partition}:s3:::{self._agents}/*{AGENT_SUFFIX}",
            stage=self._stage.name,
            record_document=self._arn("ssm", "document", self._stage.document(names.RECORD)),
            require_stage_tag=settings.require_stage_tag,
            signed=bool(settings.signing_key),
        )

    def _machine_arn(self, workflow: str) -> str:
        machine = self._stage.state_machine(workflow)
        return self._arn("states", "stateMachine", machine, separator=":")

    def _arn(self, service: str, resource: str, name: str, *, separator: str = "/") -> str:
        owner = f"{self.partition}:{service}:{self.region}:{self.account}"
        return f"arn:{owner}:{resource}{separator}{name}"

    def _command_log(self, settings: Settings) -> logs.LogGroup:
        """Where Run Command streams output, and the policy that lets instances do so."""
        group = logs.LogGroup(
            self,
            "CommandLog",
            log_group_name=f"/codeferry/{self._stage.name}/commands",
            retention=settings.log_retention,
            removal_policy=RemovalPolicy.DESTROY,
        )
        policy = iam.ManagedPolicy(
            self,
            "InstancePolicy",
            managed_policy_name=settings.named_in_iam(self, "instance"),
            description="For instance roles: stream command output. Receiving code needs only "
            "AmazonSSMManagedInstanceCore.",
            statements=[statement(p) for p in command_output_permissions(group.log_group_arn)],
        )
        acknowledge_wildcard(policy, "*", "DescribeLogGroups lists; it has no narrower resource.")
        CfnOutput(self, "InstancePolicyArn", value=policy.managed_policy_arn)
        return group

    def _functions(
        self, settings: Settings, storage: StorageStack, command_log: logs.LogGroup
    ) -> dict[str, lambda_.Function]:
        granted = function_permissions(self._arns)
        code = lambda_.Code.from_asset(str(lambda_asset()))
        environment = {
            "STAGE": self._stage.name,
            "ARTIFACT_BUCKET": storage.bucket.bucket_name,
            "RUN_TABLE": storage.ledger.table_name,
            "LOG_GROUP": command_log.log_group_name,
            "AGENT_BUCKET": self._agents,
            "MAX_ARCHIVE_BYTES": str(settings.max_archive_bytes),
            "REQUIRE_STAGE_TAG": str(settings.require_stage_tag).lower(),
            **({"SIGNING_KEY": settings.signing_modulus} if settings.signing_modulus else {}),
            "STATE_MACHINE_ARN_SYNC": self._arns.state_machines[names.SYNC],
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
                log_retention=settings.log_retention,
            ).function
            for name in FUNCTIONS
        }

    def _signing(self, settings: Settings) -> None:
        """How whoever runs ``ferry`` signs, and whether instances ask for it."""
        with_what = signing_key(self).key_arn if settings.signing == KMS else settings.signing
        CfnOutput(self, names.OUTPUT_SIGNING, value=with_what)
        if settings.signing_modulus:
            CfnOutput(self, names.OUTPUT_SIGNED_BY, value=key_id(settings.signing_modulus))

    def _outputs(
        self,
        storage: StorageStack,
        functions: dict[str, lambda_.Function],
        machines: Mapping[str, sfn.StateMachine],
    ) -> None:
        CfnOutput(self, names.OUTPUT_BUCKET, value=storage.bucket.bucket_name)
        for workflow, machine in machines.items():
            output = names.output_state_machine(workflow)
            CfnOutput(self, output, value=machine.state_machine_arn)
        CfnOutput(self, names.OUTPUT_CHECK_FUNCTION, value=functions["check"].function_name)


def published_agent(stack: Stack) -> str:
    """Have the CDK put it there before the stack changes; the bucket's name.

    Asked of the synthesizer itself: an ``s3_assets.Asset`` is called by a hash that only the CDK
    can make, and this one has to be found by the SHA-256 that a document names.
    """
    sha256 = agent_sha256()
    with tempfile.TemporaryDirectory(prefix="codeferry-agent-") as directory:
        path = Path(directory, agent_key(sha256))
        path.write_bytes(agent_code())
        staged = AssetStaging(
            stack,
            "Agent",
            source_path=str(path),
            asset_hash=sha256,
            asset_hash_type=AssetHashType.CUSTOM,
        )
    published = stack.synthesizer.add_file_asset(
        source_hash=sha256,
        file_name=staged.relative_staged_path(stack),
        packaging=FileAssetPackaging.FILE,
        display_name="The instances' agent",
    )
    return published.bucket_name


def signing_key(scope: Construct) -> kms.Key:
    """An RSA key for signatures; its policy leaves it to IAM who may use it.

    It goes with the stage, 30 days after: what it has signed is of use to this stage only.
    """
    return kms.Key(
        scope,
        "SigningKey",
        description="Signs Codeferry releases.",
        key_spec=kms.KeySpec.RSA_3072,
        key_usage=kms.KeyUsage.SIGN_VERIFY,
        removal_policy=RemovalPolicy.DESTROY,
    )
