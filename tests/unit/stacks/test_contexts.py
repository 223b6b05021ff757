"""The app with all that is optional: as clean and as deterministic as without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.stacks.conftest import EVERYTHING
from tests.unit.stacks.permissions.test_cloudformation import kinds

CONTEXTS = {
    "subnets of yours, spot": {
        "fleet_vpc": "vpc-0123456789abcdef0",
        "fleet_subnets": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
        "fleet_spot": "true",
        "fleet_models": "",
    },
    "names instead of numbers, the account's provider": {
        "github_ids": "",
        "github_provider": "false",
    },
    "a named permanent bucket, nothing emptied": {
        "permanent_bucket": "codeferry-prod-models-1-eu-west-1",
        "empty_on_destroy": "false",
    },
    "an account whose roles have a boundary": {
        "permissions_boundary": "cdk-hnb659fds-codeferry-boundary-eu-west-1",
    },
}


def test_every_stack_is_there(everything):
    """The seven of a stage with a fleet and GitOps."""
    stacks = {p.name.split("-")[2].split(".")[0] for p in everything.glob("*.template.json")}
    always = {"Storage", "Documents", "Workflow", "FleetStorage", "Monitoring"}
    assert stacks == always | {"Fleet", "GitOps"}


def findings(assembly):
    return json.loads((assembly / "validation-report.json").read_text())["pluginReports"]


def test_the_same_sources_give_the_same_assembly_with_everything(everything, synthesise, tmp_path):
    """Its digest is what a reviewer approves, so nothing of chance may be in it."""
    agent = str(everything.parent / "codeferry-agent.pyz")
    again = synthesise(tmp_path, **EVERYTHING, agent_pyz=agent)
    for path in sorted(p for p in everything.rglob("*") if p.is_file()):
        assert (again / path.relative_to(everything)).read_bytes() == path.read_bytes(), path.name


@pytest.fixture(scope="module")
def contexts(everything, synthesise, tmp_path_factory):
    """The assembly of each context, by its name."""
    agent = str(everything.parent / "codeferry-agent.pyz")
    made = {"everything": everything}
    for name, context in CONTEXTS.items():
        directory = tmp_path_factory.mktemp("context")
        made[name] = synthesise(directory, **EVERYTHING | context, agent_pyz=agent)
    return made


def test_cdk_nag_finds_nothing_with_everything(everything):
    """Every rule of the pack is met or its exception has a reason."""
    assert findings(everything) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTEXTS)
def test_cdk_nag_finds_nothing_in_any_context(contexts, everything, name):
    """Nor is there a type of resource in one that is not in everything, of which more is said."""
    assert findings(contexts[name]) == []
    assert kinds(contexts[name]) <= kinds(everything)
    assert len(list(contexts[name].glob("*.template.json"))) == 7


@pytest.mark.slow
def test_cfn_lint_accepts_every_context(contexts, assembly):
    """CloudFormation's own linter finds nothing, not even a warning; the same template is read
    once, whichever contexts it is of."""
    found = [
        path for made in (assembly, *contexts.values()) for path in made.glob("*.template.json")
    ]
    templates = list({path.read_bytes(): str(path) for path in found}.values())
    assert len(templates) > len(CONTEXTS)
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [linter, "--regions", "eu-west-1", "us-east-1", "--", *templates],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_nothing_of_the_fleet_opens_a_port_to_the_world(everything):
    """No rule of any security group takes the whole Internet as its source."""
    template = json.loads((everything / "Codeferry-prod-Fleet.template.json").read_text())
    rules = [
        rule
        for resource in template["Resources"].values()
        for rule in resource.get("Properties", {}).get("SecurityGroupIngress", [])
    ]
    assert [rule["FromPort"] for rule in rules] == [443]
    assert "0.0.0.0/0" not in json.dumps(rules)
