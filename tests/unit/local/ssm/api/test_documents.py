from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from tests.unit.local.ssm.conftest import Bench, document, sha256


def test_describe_has_hash_versions_and_parameters(bench: Bench) -> None:
    """DescribeDocument gives the SHA-256 of the content, its versions and parameters."""
    text = json.dumps(document("true", parameters={"names": {"type": "StringList"}}))
    bench.create(text)
    described = bench.ssm.describe_document(Name="demo-doc")["Document"]
    assert (described["Hash"], described["HashType"]) == (sha256(text), "Sha256")
    assert (described["LatestVersion"], described["DefaultVersion"]) == ("1", "1")
    assert [p["Name"] for p in described["Parameters"]] == ["executionTimeout", "names"]
    assert described["PlatformTypes"] == ["Linux"]


def test_get_gives_the_content_verbatim(bench: Bench) -> None:
    """GetDocument returns the text byte for byte as it was created."""
    text = json.dumps(document("true"), indent=3) + "\n"
    bench.create(text)
    assert bench.ssm.get_document(Name="demo-doc")["Content"] == text


def test_yaml_is_a_format(bench: Bench) -> None:
    """A YAML document runs, and GetDocument can give it as JSON."""
    bench.create(yaml.safe_dump(document("echo from yaml")), DocumentFormat="YAML")
    assert bench.ran()["StandardOutputContent"] == "from yaml\n"
    as_json = bench.ssm.get_document(Name="demo-doc", DocumentFormat="JSON")["Content"]
    assert json.loads(as_json)["schemaVersion"] == "2.2"


def test_name_is_taken_once(bench: Bench) -> None:
    """Creating a document twice is DocumentAlreadyExists."""
    bench.document("true")
    with pytest.raises(bench.ssm.exceptions.DocumentAlreadyExists):
        bench.document("false")


def test_update_adds_a_version_and_keeps_the_default(bench: Bench) -> None:
    """A new version is run only when it is asked for, or made the default."""
    bench.document("echo one")
    bench.ssm.update_document(
        Name="demo-doc", Content=json.dumps(document("echo two")), DocumentVersion="$LATEST"
    )
    assert bench.ran()["StandardOutputContent"] == "one\n"
    assert bench.ran(DocumentVersion="$LATEST")["StandardOutputContent"] == "two\n"
    bench.ssm.update_document_default_version(Name="demo-doc", DocumentVersion="2")
    assert bench.ran()["StandardOutputContent"] == "two\n"


def test_update_with_the_same_content_is_refused(bench: Bench) -> None:
    """UpdateDocument with a content some version has is DuplicateDocumentContent."""
    bench.document("true")
    with pytest.raises(bench.ssm.exceptions.DuplicateDocumentContent):
        bench.ssm.update_document(Name="demo-doc", Content=json.dumps(document("true")))


def test_version_that_is_not_there(bench: Bench) -> None:
    """A version number the document has not is InvalidDocumentVersion."""
    bench.document("true")
    with pytest.raises(bench.ssm.exceptions.InvalidDocumentVersion):
        bench.ssm.get_document(Name="demo-doc", DocumentVersion="7")


def test_deleted_document_is_gone(bench: Bench) -> None:
    """After DeleteDocument every use is InvalidDocument."""
    bench.document("true")
    bench.ssm.delete_document(Name="demo-doc")
    with pytest.raises(bench.ssm.exceptions.InvalidDocument):
        bench.send()
    with pytest.raises(bench.ssm.exceptions.InvalidDocument):
        bench.ssm.describe_document(Name="demo-doc")


def test_list_filters_and_pages(bench: Bench) -> None:
    """ListDocuments filters by name prefix and pages without gap or repetition."""
    for name in ("one-a", "one-b", "one-c", "two-a"):
        bench.document("true", name=name)
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        answer = bench.ssm.list_documents(
            Filters=[{"Key": "Name", "Values": ["one"]}], MaxResults=2, **token
        )
        found += [entry["Name"] for entry in answer["DocumentIdentifiers"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert found == ["one-a", "one-b", "one-c"]


def test_size_limit(bench: Bench) -> None:
    """A document above 64 KB is MaxDocumentSizeExceeded."""
    with pytest.raises(bench.ssm.exceptions.MaxDocumentSizeExceeded):
        bench.document("# " + "x" * 65_536)


def test_reserved_prefix(bench: Bench) -> None:
    """A name that starts as AWS's own documents do is refused."""
    with pytest.raises(ClientError, match="ValidationException"):
        bench.document("true", name="AWS-RunShellScript")


def step(**changes: Any) -> dict[str, Any]:
    """A document whose one step is changed; None removes a member."""
    made = document("true")
    made["mainSteps"][0] |= changes
    return made


@pytest.mark.parametrize(
    "content",
    [
        "{not json",
        "[]",
        {**document("true"), "mainSteps": []},
        {**document("true"), "mainSteps": document("true")["mainSteps"] * 2},
        step(action="aws:makeCoffee"),
        step(name="with space"),
        step(name=None),
        step(inputs={}),
        step(inputs={"runCommand": [1]}),
        step(precondition={"StringEquals": ["a", "b"]}),
        document("true", parameters={"p": {"type": "Float"}}),
        document("true", parameters={"p": {"type": "String", "allowedPattern": "("}}),
        document("true", parameters={"p": {"type": "StringList", "default": "x"}}),
    ],
)
def test_content_that_cannot_run_is_refused(bench: Bench, content: Any) -> None:
    """Broken JSON, steps or parameters are InvalidDocumentContent at CreateDocument."""
    with pytest.raises(bench.ssm.exceptions.InvalidDocumentContent):
        bench.create(content)


def test_only_schema_2_2(bench: Bench) -> None:
    """Another schema version is InvalidDocumentSchemaVersion."""
    with pytest.raises(bench.ssm.exceptions.InvalidDocumentSchemaVersion):
        bench.create({**document("true"), "schemaVersion": "1.2"})


def test_tags_of_documents_and_instances(bench: Bench) -> None:
    """Tags of both kinds of resource can be read and added, and select instances."""
    bench.document("true")
    tag = [{"Key": "stage", "Value": "local"}]
    for kind, resource in (("Document", "demo-doc"), ("ManagedInstance", "i-0000000000000001a")):
        bench.ssm.add_tags_to_resource(ResourceType=kind, ResourceId=resource, Tags=tag)
        answer = bench.ssm.list_tags_for_resource(ResourceType=kind, ResourceId=resource)
        assert tag[0] in answer["TagList"]
    command = bench.ended(bench.send(Targets=[{"Key": "tag:stage", "Values": ["local"]}]))
    assert command["TargetCount"] == 1
    with pytest.raises(bench.ssm.exceptions.InvalidResourceId):
        bench.ssm.list_tags_for_resource(ResourceType="Document", ResourceId="absent-doc")
