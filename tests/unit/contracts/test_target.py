"""Targets as people type them."""

from __future__ import annotations

import pytest

from codeferry_contracts.errors import TargetInvalid
from codeferry_contracts.target import parse_target


@pytest.mark.parametrize(
    ("text", "kind", "key", "value"),
    [
        ("i-0123456789abcdef0", "instance", "", "i-0123456789abcdef0"),
        ("i-0a1b2c3d", "instance", "", "i-0a1b2c3d"),
        ("tag:Role=gpu", "tag", "Role", "gpu"),
        ("tag:team/role=a=b", "tag", "team/role", "a=b"),
        ("asg:workers-ASG-1X", "asg", "", "workers-ASG-1X"),
        ("all", "all", "", ""),
        ("gpu-workers", "name", "codeferry:target", "gpu-workers"),
        ("i-like-it", "name", "codeferry:target", "i-like-it"),
    ],
)
def test_each_form_is_read(text, kind, key, value):
    """Every form of the design gives its tag or id."""
    target = parse_target(text)
    assert (target.kind, target.key, target.value) == (kind, key, value)


@pytest.mark.parametrize(
    "text",
    [
        "i-123",
        "i-",
        "vol-1",
        "vol-0123456789abcdef0",
        "ami-12345678",
        "tag:",
        "tag:=x",
        "tag:Key",
        "tag:Key=",
        "asg:",
        "",
        " demo",
        "de mo",
        "a;id",
        "$(id)",
        "-rf",
        "demo\n",
        "tag:K=a\nb",
        "ALL:x",
        "x" * 200,
    ],
)
def test_anything_else_says_what_a_target_looks_like(text):
    """A typo of an id never becomes the name of a target."""
    with pytest.raises(TargetInvalid) as caught:
        parse_target(text)
    assert "tag:Key=Value" in caught.value.hint
