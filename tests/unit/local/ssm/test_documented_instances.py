"""docs/local.md says what registers instances: the example is accepted, the keys are all there."""

from __future__ import annotations

import json
import re
import urllib.error
from pathlib import Path

import pytest

from tests.unit.local.ssm.conftest import Bench, control

PAGE = Path(__file__).resolve().parents[4] / "docs" / "local.md"
SECTION = PAGE.read_text().partition("## Instances without a process\n")[2].partition("\n## ")[0]
EXAMPLE = json.loads(SECTION.partition("```json\n")[2].partition("```")[0])
KEYS = re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE)


def test_the_documented_example_is_accepted(bench: Bench) -> None:
    """It registers what it says, and a command of its tag's target succeeds there."""
    (entry,) = EXAMPLE["instances"]
    answer = control(bench.server.url, "POST", "instances", EXAMPLE)
    assert entry in answer["instances"]
    assert sorted(entry) == sorted(KEYS)
    bench.document("exit 1")
    targets = [{"Key": "tag:codeferry:target", "Values": [entry["tags"]["codeferry:target"]]}]
    command_id = bench.send(Targets=targets)
    assert bench.ended(command_id)["Status"] == "Success"
    invocation = bench.invocations(command_id)[entry["instance_id"]]
    assert invocation["InstanceName"] == entry["name"]


def test_every_key_is_documented(bench: Bench) -> None:
    """The refusal of an unknown key lists those there are: the table has the same."""
    body = {**EXAMPLE["instances"][0], "colour": "red"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(bench.server.url, "POST", "instances", body)
    message = json.load(refused.value)["message"]
    listed = re.fullmatch(r"An instance has (.+) \(.+\), not colour\.", message)
    assert listed
    assert listed[1].split(", ") == sorted(KEYS)


def test_only_the_keys_called_required_are(bench: Bench) -> None:
    """With what the table calls required an instance is registered, without either it is not."""
    required = re.findall(r"^\| `(\w+)` \| required", SECTION, re.MULTILINE)
    least = {key: EXAMPLE["instances"][0][key] for key in required}
    registered = control(bench.server.url, "POST", "instances", least)["instances"][-1]
    assert registered == {**least, "executor": "shell", "name": "", "tags": {}}
    for key in required:
        with pytest.raises(urllib.error.HTTPError):
            control(bench.server.url, "POST", "instances", {k: least[k] for k in least if k != key})
