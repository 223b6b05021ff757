"""Steps of a bootstrap: each does what is not done yet, and says so in a line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap.aws import (
    Aws,
    NotThere,
    StepFailed,
    ToolMissing,
)
from bootstrap.permissions import Permissions, settle_permissions
from codeferry_contracts.names import OUTPUT_PERMANENT, Stage

ROOT = Path(__file__).resolve().parent.parent
CDK = ROOT / "scripts" / "cdk.py"
CDK_CLI = ROOT / "node_modules" / "aws-cdk" / "bin" / "cdk"
FERRY = Path(sys.executable).with_name("ferry")
MODELS = "models"
COMPLETE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")


@dataclass(frozen=True)
class Plan:
    """What was asked for. ``agent`` is where the built agent is to be found."""

    stage: Stage
    region: str
    models: Path | None = None
    fleet: str = ""
    probe: str = ""
    context: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    narrow: bool = False
    agent: Path = ROOT / "build" / "codeferry-agent.pyz"

    def permanent_bucket(self, account: str) -> str:
        """A name of its own, so that a later deployment finds the bucket again."""
        return f"{self.stage.named('models')}-{account}-{self.region}"

    def settings(self, account: str) -> list[str]:
        """The CDK context of this deployment, which the workflows at GitHub need as well."""
        bucket = f"permanent_bucket={self.permanent_bucket(account)}"
        words = [f"region={self.region}", bucket, *self.context]
        if self.fleet:
            words.append(f"fleet={self.fleet}")
            if self.models:
                words.append(f"fleet_models={MODELS}")
        return words

    def stacks(self) -> list[str]:
        stage = self.stage
        wanted = [
            stage.storage_stack,
            stage.documents_stack,
            stage.workflow_stack,
            stage.fleet_storage_stack,
            stage.monitoring_stack,
        ]
        if self.fleet:
            wanted.append(stage.fleet_stack)
        if any(word.startswith("github=") for word in self.context):
            wanted.append(stage.gitops_stack)
        return [name for name in wanted if name.rpartition("-")[2] not in self.leave_out]


def bootstrap(plan: Plan) -> Iterator[str]:
    """Each step, and a line when it is done. Raises BootstrapFailed at the first that is not."""
    check_tools(plan)
    yield "✓ tools"
    aws = Aws(plan.region)
    account = aws.account()
    yield f"✓ signed in to account {account}, region {plan.region}"
    build_agent(plan)
    yield f"✓ agent built: {plan.agent.name}"
    permissions = settle_permissions(aws, plan.region, account, narrow=plan.narrow)
    plan = replace(plan, context=(*plan.context, *permissions.context))
    # An assembly of our own, made once: another may be at work in this checkout.
    with tempfile.TemporaryDirectory(prefix="codeferry-bootstrap-") as assembly:
        synthesise(plan, account, assembly)
        yield "✓ synthesised"
        yield from make_stage(plan, aws, account, assembly, permissions)


def make_stage(
    plan: Plan, aws: Aws, account: str, assembly: str, permissions: Permissions
) -> Iterator[str]:
    """From the CDK's own stack to the stage's stacks and what they need."""
    app = ("--app", assembly)
    cdk(plan, "bootstrap", *app, f"aws://{account}/{plan.region}", *permissions.options)
    yield "✓ the CDK's own stack"
    yield permissions.message
    # The fleet comes last: its instances fetch what the upload brings.
    fleet = [name for name in plan.stacks() if name == plan.stage.fleet_stack]
    rest = [name for name in plan.stacks() if name not in fleet]
    deploy(plan, assembly, rest)
    yield f"✓ deployed: {', '.join(rest)}"
    uploaded = upload(plan, aws)
    yield f"✓ uploaded: {', '.join(uploaded)}"
    if fleet:
        deploy(plan, assembly, fleet)
        yield f"✓ deployed: {', '.join(fleet)}"
    yield from verify(plan, aws, uploaded)
    yield from next_steps(plan, account)


def check_tools(plan: Plan) -> None:
    needed: dict[str, tuple[bool, str]] = {
        "Python 3.11": (sys.version_info >= (3, 11), "Install it, remove .venv, run make setup."),
        "the CDK CLI": (CDK_CLI.exists(), "Run make setup."),
        "ferry": (FERRY.exists(), "Run make setup."),
        "git": (shutil.which("git") is not None, "Install git."),
    }
    for name, (there, remedy) in needed.items():
        if not there:
            raise ToolMissing(f"{name} is missing.", hint=remedy)
    if plan.models and not plan.models.exists():
        raise NotThere(f"There is nothing at {plan.models}.", hint="Correct --model-path.")


def build_agent(plan: Plan) -> None:
    command = [sys.executable, "-m", "bootstrap.agent", str(plan.agent)]
    run(command, "The agent could not be built.", "See above.")


def synthesise(plan: Plan, account: str, assembly: str) -> None:
    """The whole app as it was asked for, into the directory ``assembly``."""
    context = []
    for word in (f"stage={plan.stage.name}", f"agent_pyz={plan.agent}", *plan.settings(account)):
        context += ["-c", word]
    cdk(plan, "synth", "--quiet", "--all", "--output", assembly, *context)


def deploy(plan: Plan, assembly: str, stacks: list[str]) -> None:
    """These stacks; a permanent bucket that an earlier deployment left is taken over."""
    options = ["--require-approval=never", "--import-existing-resources"]
    cdk(plan, "deploy", "--app", assembly, *options, "--exclusively", *stacks)


def cdk(plan: Plan, verb: str, *arguments: str) -> None:
    """The CDK CLI, its end told with where to read more."""
    remedy = (
        "CloudFormation's events say why: aws cloudformation describe-stack-events --stack-name "
        f"{plan.stage.workflow_stack} --region {plan.region}; then run this again."
    )
    run([sys.executable, str(CDK), verb, *arguments], f"cdk {verb} failed.", remedy, plan.region)


def upload(plan: Plan, aws: Aws) -> dict[str, Path]:
    """Agent and weights into the permanent bucket: URL to the local file or directory."""
    bucket = aws.output(plan.stage.fleet_storage_stack, OUTPUT_PERMANENT)
    wanted = {f"s3://{bucket}/agent/{plan.agent.name}": plan.agent}
    if plan.models:
        tail = "/" if plan.models.is_dir() else f"/{plan.models.name}"
        wanted[f"s3://{bucket}/{MODELS}{tail}"] = plan.models
    for url, path in wanted.items():
        options = ["--recursive"] if path.is_dir() else []
        command = [str(FERRY), "s3", "upload", str(path), url, *options, "--region", plan.region]
        remedy = "Run this again: what is up already is not sent twice."
        run(command, f"{path} could not be uploaded.", remedy, plan.region)
    return wanted


def verify(plan: Plan, aws: Aws, uploaded: dict[str, Path]) -> Iterator[str]:
    """Look at what the steps before say they did."""
    for stack in plan.stacks():
        status = aws.status(stack)
        if status not in COMPLETE:
            raise NotThere(f"{stack} is {status or 'missing'}.", hint="Run this again.")
    yield f"✓ {len(plan.stacks())} stacks are complete"
    count = sum(_present(aws, url, path) for url, path in uploaded.items())
    yield f"✓ {count} objects are there"
    remedy = f"Run ferry doctor --stage {plan.stage.name} and follow it."
    doctor = [str(FERRY), "doctor", "--stage", plan.stage.name, "--region", plan.region]
    run(doctor, "The stage does not answer.", remedy, plan.region)
    yield "✓ the stage answers"
    if plan.probe:
        push_probe(plan)
        yield f"✓ a test project arrived at {plan.probe}"


def _present(aws: Aws, url: str, path: Path) -> int:
    """How many objects there are for ``path``; NotThere for one that is missing or short."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    files = [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]
    for file in files:
        name = key if path.is_file() else f"{key}{file.relative_to(path)}"
        if aws.size(bucket, name) != file.stat().st_size:
            raise NotThere(f"s3://{bucket}/{name} is not the whole of {file}.", hint="Run again.")
    return len(files)


def push_probe(plan: Plan) -> None:
    with tempfile.TemporaryDirectory(prefix="codeferry-probe-") as directory:
        (Path(directory) / "README").write_text("Codeferry's bootstrap was here.\n")
        command = [str(FERRY), "push", plan.probe, directory, "--stage", plan.stage.name]
        remedy = f"Run ferry doctor {plan.probe} --stage {plan.stage.name}."
        run([*command, "--region", plan.region], "The probe got nothing.", remedy, plan.region)


def next_steps(plan: Plan, account: str) -> Iterator[str]:
    context = " ".join(plan.settings(account))
    yield "\nNext:"
    yield f"  ferry push TARGET DIR --stage {plan.stage.name}"
    yield "    to instances with the tag codeferry:target=TARGET and AmazonSSMManagedInstanceCore"
    if not plan.fleet:
        yield "  --fleet NAME deploys instances as well: docs/fleet.md"
    yield "  git push as the only deployment: docs/gitops.md, with"
    yield f'    CODEFERRY_STAGE={plan.stage.name} CODEFERRY_CONTEXT="{context}"'


def run(command: list[str], problem: str, remedy: str, region: str = "") -> None:
    """Run a program, its words to stderr as they come; StepFailed with its last ones."""
    environment = dict(os.environ)
    if region:
        environment |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    last: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            last = [*last[-7:], line.rstrip()]
    if process.returncode != 0:
        said = "\n  ".join(line for line in last if line)
        raise StepFailed(f"{problem}\n  {said}", hint=remedy)
