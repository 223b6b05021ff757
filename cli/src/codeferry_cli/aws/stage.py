"""A deployed stage, found through the outputs of its workflow stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from codeferry_cli.aws.errors import stage_missing
from codeferry_cli.aws.session import Aws
from codeferry_cli.errors import StageMissing
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.names import (
    OUTPUT_BUCKET,
    OUTPUT_CHECK_FUNCTION,
    OUTPUT_SIGNED_BY,
    OUTPUT_SIGNING,
    SYNC,
    WORKFLOWS,
    Stage,
    output_state_machine,
)


class DeployedStage:
    """A stage as commands use it: bucket, state machines, check function, clients."""

    def __init__(self, aws: Aws, outputs: dict[str, str]) -> None:
        self.aws = aws
        self.bucket = outputs[OUTPUT_BUCKET]
        self._machines = {
            name: outputs[output_state_machine(name)]
            for name in WORKFLOWS
            if name == SYNC or output_state_machine(name) in outputs
        }
        self.check_function = outputs[OUTPUT_CHECK_FUNCTION]
        self.signing = outputs.get(OUTPUT_SIGNING, "")  # a KMS key's ARN, "file", or nothing
        self.signed_by = outputs.get(OUTPUT_SIGNED_BY, "")

    @property
    def name(self) -> str:
        return self.aws.access.stage

    @property
    def s3(self) -> Any:
        return self.aws.client("s3")

    @property
    def workflow(self) -> Any:
        """The Step Functions client."""
        return self.aws.client("stepfunctions")

    @property
    def logs(self) -> Any:
        """The CloudWatch Logs client."""
        return self.aws.client("logs")

    @property
    def workflows(self) -> tuple[str, ...]:
        """The workflows there are: a stage deployed by an older version may lack some."""
        return tuple(self._machines)

    def state_machine_arn(self, workflow: str) -> str:
        """Raises StageMissing where the stage has no such workflow yet."""
        if workflow not in self._machines:
            raise StageMissing(
                f"Stage '{self.name}' was deployed before there was '{workflow}'.",
                hint=f"Deploy the stage again: npx cdk deploy --all -c stage={self.name}",
            )
        return self._machines[workflow]

    def execution_arn(self, workflow: str, run_id: str) -> str:
        """The ARN an execution of that name has or would have."""
        machine = self.state_machine_arn(workflow).replace(":stateMachine:", ":execution:", 1)
        return f"{machine}:{run_id}"

    def option(self) -> str:
        """The option that repeats this stage in a command suggested to the user."""
        access = self.aws.access
        stage = "" if self.name == "dev" else f" --stage {self.name}"
        return stage + access.flags()


def find_stage(
    aws: Aws, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> DeployedStage:
    """``waiting`` is entered while AWS is asked.

    Raises StageMissing when it is not deployed, or by a version without these outputs.
    """
    from botocore.exceptions import ClientError

    stack = Stage(aws.access.stage).workflow_stack
    try:
        with waiting():
            answer = aws.client("cloudformation").describe_stacks(StackName=stack)
    except ClientError as error:
        if "does not exist" in str(error):
            raise stage_missing(aws.access, aws.region) from error
        raise
    outputs = {
        output["OutputKey"]: output["OutputValue"]
        for output in answer["Stacks"][0].get("Outputs", ())
    }
    try:
        return DeployedStage(aws, outputs)
    except KeyError as missing:
        status = answer["Stacks"][0]["StackStatus"]
        raise StageMissing(
            f"The stack {stack} ({status}) has no output {missing}.",
            hint=f"Deploy the stage again: npx cdk deploy --all -c stage={aws.access.stage}",
        ) from missing


def ask_check_function(stage: DeployedStage, target: str) -> dict[str, Any]:
    """Ask the stage which instances it can reach, and why not the others."""
    answer = stage.aws.client("lambda").invoke(
        FunctionName=stage.check_function, Payload=json.dumps({"target": target}).encode()
    )
    document: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise CodeferryError(
            str(document.get("errorMessage", "The check function failed.")),
            hint="Its log is in CloudWatch Logs.",
            code="check_failed",
        )
    return document
