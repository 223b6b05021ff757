from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.local.ssm.conftest import INSTANCE, OTHERS, Bench, document


def test_answer_is_pending_and_has_the_command(bench: Bench) -> None:
    """SendCommand answers with the command as Pending, its expiry and its target count."""
    bench.document("true")
    command = bench.ssm.send_command(
        DocumentName="demo-doc", InstanceIds=[INSTANCE], Comment="run-1", TimeoutSeconds=60
    )["Command"]
    assert (command["Status"], command["StatusDetails"]) == ("Pending", "Pending")
    assert (command["TargetCount"], command["Comment"]) == (1, "run-1")
    # Delivery timeout plus the step's execution timeout.
    assert command["ExpiresAfter"] - command["RequestedDateTime"] == timedelta(seconds=3660)
    assert abs(command["RequestedDateTime"] - datetime.now(UTC)) < timedelta(minutes=1)


def test_one_unknown_instance_refuses_all(bench: Bench) -> None:
    """An unknown instance id is InvalidInstanceId and nothing runs anywhere."""
    bench.document("true")
    with pytest.raises(bench.ssm.exceptions.InvalidInstanceId, match="not in a valid state"):
        bench.send(INSTANCE, OTHERS[0])
    assert bench.ssm.list_commands()["Commands"] == []


def test_unknown_document(bench: Bench) -> None:
    """A document that does not exist is InvalidDocument."""
    with pytest.raises(bench.ssm.exceptions.InvalidDocument):
        bench.send()


def test_document_by_arn(bench: Bench) -> None:
    """The document can be named by its ARN."""
    bench.document("echo by arn")
    arn = "arn:aws:ssm:us-east-1:000000000000:document/demo-doc"
    assert bench.ran(DocumentName=arn)["StandardOutputContent"] == "by arn\n"


def test_pinned_hash_must_match(bench: Bench) -> None:
    """A pinned DocumentHash runs the document it belongs to and refuses any other."""
    described = bench.document("true")
    pinned = {"DocumentHashType": "Sha256", "DocumentHash": described["Hash"]}
    assert bench.ran(**pinned)["Status"] == "Success"
    with pytest.raises(bench.ssm.exceptions.InvalidDocument):
        bench.send(**{**pinned, "DocumentHash": "0" * 64})


def test_instance_named_twice(bench: Bench) -> None:
    """An instance id given twice is DuplicateInstanceId."""
    bench.document("true")
    with pytest.raises(bench.ssm.exceptions.DuplicateInstanceId):
        bench.send(INSTANCE, INSTANCE)


def test_ids_and_targets_exclude_each_other(bench: Bench) -> None:
    """InstanceIds together with Targets is refused."""
    bench.document("true")
    with pytest.raises(ClientError, match="ValidationException"):
        bench.ssm.send_command(
            DocumentName="demo-doc",
            InstanceIds=[INSTANCE],
            Targets=[{"Key": "tag:a", "Values": ["b"]}],
        )


def test_neither_ids_nor_targets(bench: Bench) -> None:
    """A command for nobody is refused."""
    bench.document("true")
    with pytest.raises(bench.ssm.exceptions.InvalidInstanceId):
        bench.ssm.send_command(DocumentName="demo-doc")


def test_targets_select_by_tag_and_by_id(bench: Bench) -> None:
    """Targets by tag and by id are combined, and the command runs on what both select."""
    bench.document("true")
    bench.instance(OTHERS[0], tags={"codeferry:target": "demo"})
    bench.instance(OTHERS[1], tags={"codeferry:target": "other"})
    by_tag = {"Key": "tag:codeferry:target", "Values": ["demo"]}
    command_id = bench.send(Targets=[by_tag])
    bench.ended(command_id)
    assert set(bench.invocations(command_id)) == {INSTANCE, OTHERS[0]}
    command_id = bench.send(Targets=[by_tag, {"Key": "InstanceIds", "Values": [OTHERS[0]]}])
    bench.ended(command_id)
    assert set(bench.invocations(command_id)) == {OTHERS[0]}


def test_tag_that_selects_nothing(bench: Bench) -> None:
    """A tag without instances ends at once as NoInstancesInTag with no target."""
    bench.document("true")
    command = bench.ended(bench.send(Targets=[{"Key": "tag:nobody", "Values": ["x"]}]))
    assert (command["StatusDetails"], command["TargetCount"]) == ("NoInstancesInTag", 0)


DEFINED = {
    "free": {"type": "String", "default": "x", "maxChars": 8},
    "name": {"type": "String", "default": "a", "allowedPattern": "[a-z]+|[0-9]+"},
    "colour": {"type": "String", "default": "red", "allowedValues": ["red", "green"]},
    "count": {"type": "Integer", "default": 1},
    "flag": {"type": "Boolean", "default": False},
    "many": {"type": "StringList", "default": [], "allowedPattern": "[a-z]*", "maxItems": 2},
}


@pytest.mark.parametrize(
    "given",
    [
        {"unknown": ["x"]},
        {"free": ["x" * 9]},
        {"free": ["a", "b"]},
        {"free": []},
        {"name": ["A"]},
        {"name": ["a\n"]},
        {"name": ["a1"]},
        {"name": ["é"]},
        {"colour": ["blue"]},
        {"count": ["one"]},
        {"count": ["1.5"]},
        {"flag": ["maybe"]},
        {"many": ["ok", "NOT"]},
        {"many": ["a", "b", "c"]},
    ],
)
def test_parameters_outside_their_definition(bench: Bench, given: dict[str, Any]) -> None:
    """Unknown, ill-typed and not allowed parameters are InvalidParameters; patterns are whole."""
    bench.document("true", parameters=DEFINED)
    with pytest.raises(bench.ssm.exceptions.InvalidParameters):
        bench.send(Parameters=given)


def test_parameter_without_default_is_required(bench: Bench) -> None:
    """A missing parameter without default is InvalidParameters and named."""
    bench.document("true", parameters={"needed": {"type": "String"}})
    with pytest.raises(bench.ssm.exceptions.InvalidParameters, match="needed"):
        bench.send()


def test_document_and_parameters_share_the_size_limit(bench: Bench) -> None:
    """Document plus parameters above 64 KB is MaxDocumentSizeExceeded."""
    bench.document("# " + "x" * 60_000, parameters={"free": {"type": "String", "default": ""}})
    bench.send(Parameters={"free": ["y" * 1_000]})
    with pytest.raises(bench.ssm.exceptions.MaxDocumentSizeExceeded):
        bench.send(Parameters={"free": ["y" * 6_000]})


def windows_only() -> dict[str, Any]:
    """A document that no Linux instance runs."""
    return document("true", precondition={"StringEquals": ["platformType", "Windows"]})


def test_named_instances_of_another_platform_are_refused(bench: Bench) -> None:
    """A document for Windows sent to a named Linux instance is UnsupportedPlatformType."""
    bench.create(windows_only())
    with pytest.raises(bench.ssm.exceptions.UnsupportedPlatformType):
        bench.send()


def test_targeted_instances_of_another_platform_end_as_invalid_platform(bench: Bench) -> None:
    """A targeted Linux instance ends InvalidPlatform, and all of them fail the command."""
    bench.create(windows_only())
    command_id = bench.send(Targets=[{"Key": "tag:codeferry:target", "Values": ["demo"]}])
    assert bench.ended(command_id)["Status"] == "Failed"
    assert bench.invocations(command_id)[INSTANCE]["StatusDetails"] == "InvalidPlatform"
