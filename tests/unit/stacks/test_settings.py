"""Context values: what each becomes, and the error of a wrong one."""

from __future__ import annotations

import pytest

# jsii serves one process at a time, and takes its time to start.


def read(**context):
    from aws_cdk import App

    from stacks.settings import Settings

    return Settings.from_context(App(context=context))


@pytest.fixture
def agent(tmp_path):
    path = tmp_path / "agent.pyz"
    path.write_bytes(b"agent")
    return str(path)


def test_without_context_there_is_neither_fleet_nor_gitops():
    """Both are asked for by name."""
    settings = read()
    assert settings.fleet is None
    assert settings.gitops is None


def test_a_fleet_needs_its_target_only(agent):
    """Everything else has a default."""
    fleet = read(fleet="gpu-workers", agent_pyz=agent).fleet
    assert fleet.target == "gpu-workers"
    assert fleet.architecture == "arm64"
    assert fleet.image_parameter.endswith("al2023-ami-kernel-default-arm64")


@pytest.mark.parametrize(
    ("context", "word"),
    [
        ({"fleet": "i-0123456789abcdef0"}, "bare name"),
        ({"fleet": "all"}, "bare name"),
        ({"fleet_min": "4", "fleet_max": "2"}, "fleet_min"),
        ({"fleet_max": "none"}, "fleet_max"),
        ({"fleet_types": "t4g.small,t3.small"}, "mixes"),
        ({"fleet_types": "small"}, "instance type"),
        ({"fleet_vpc": "vpc-1"}, "go together"),
        ({"fleet_subnets": "subnet-1"}, "go together"),
        ({"fleet_zones": "eu-west-1"}, "fleet_zones"),
        ({"fleet_zones": "eu-west-1a,eu-west-1a"}, "twice"),
        ({"fleet_zones": "eu-west-1a,us-east-1a"}, "several regions"),
        ({"fleet_zones": "eu-west-1a", "region": "us-east-1"}, "several regions"),
        (
            {"fleet_zones": "eu-west-1a", "fleet_vpc": "vpc-1", "fleet_subnets": "subnet-1"},
            "fleet_zones",
        ),
        ({"region": "Europe"}, "region"),
        ({"fleet_spot": "maybe"}, "fleet_spot"),
        ({"fleet_models": "../x"}, "fleet_models"),
        ({"agent_pyz": "no/such/agent.pyz"}, "no agent"),
        ({"github": "acme"}, "github"),
        ({"github": "acme/app:ref"}, "github"),
        ({"github": "acme/*"}, "github"),
        ({"github": "acme/app", "github_ids": "12"}, "github_ids"),
        ({"github": "acme/app", "github_environment": "*"}, "github_environment"),
        ({"permanent_bucket": "With_Underscore"}, "permanent_bucket"),
        ({"output_days": "0"}, "output_days"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(agent, context, word):
    """The error says which -c value is wrong."""
    from stacks.settings import SettingInvalid

    with pytest.raises(SettingInvalid, match=word):
        read(**({"fleet": "workers", "agent_pyz": agent} | context))


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("t4g.small", "arm64"),
        ("m7gd.16xlarge", "arm64"),
        ("c7gn.medium", "arm64"),
        ("hpc7g.4xlarge", "arm64"),
        ("im4gn.large", "arm64"),
        ("a1.metal", "arm64"),
        ("g5g.xlarge", "arm64"),
        ("g5.xlarge", "x86_64"),
        ("g6e.48xlarge", "x86_64"),
        ("gr6.4xlarge", "x86_64"),
        ("p4d.24xlarge", "x86_64"),
        ("m7i-flex.large", "x86_64"),
        ("u-6tb1.metal", "x86_64"),
        ("trn1n.32xlarge", "x86_64"),
    ],
)
def test_the_architecture_is_in_the_types_name(type_, expected):
    """A "g" behind the generation says Graviton; a "g" before it is a family with GPUs."""
    from stacks.settings import architecture

    assert architecture(type_) == expected
