from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.unit.local.ssm.conftest import INSTANCE, Bench, client


def post(bench: Bench, body: bytes, target: str) -> tuple[int, dict[str, str], Any]:
    """One raw request, past the SDK's own checks."""
    connection = http.client.HTTPConnection(urlsplit(bench.server.url).netloc, timeout=10)
    connection.request("POST", "/", body, {"X-Amz-Target": target})
    answer = connection.getresponse()
    result = answer.status, dict(answer.getheaders()), json.loads(answer.read())
    connection.close()
    return result


def test_unknown_operation_has_the_aws_error_shape(bench: Bench) -> None:
    """An operation that does not exist answers 400 with type and header as AWS writes them."""
    status, headers, body = post(bench, b"{}", "AmazonSSM.MakeCoffee")
    assert status == 400
    assert body["__type"] == headers["x-amzn-ErrorType"] == "UnknownOperationException"


def test_operation_of_the_model_that_is_not_here_is_unknown_too(bench: Bench) -> None:
    """An operation AWS has and the local SSM has not is refused by name."""
    with pytest.raises(ClientError, match=r"UnknownOperationException.*GetInventory"):
        bench.ssm.get_inventory()


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"Name": "\\ud800"}', b"\xff"])
def test_body_that_is_no_json_object_is_refused(bench: Bench, body: bytes) -> None:
    """What is no JSON object in UTF-8 is a SerializationException."""
    status, _, answer = post(bench, body, "AmazonSSM.GetDocument")
    assert (status, answer["__type"]) == (400, "SerializationException")


def test_wrong_type_is_refused(bench: Bench) -> None:
    """A member of another type than the model's is a SerializationException."""
    body = json.dumps({"DocumentName": "demo-doc", "TimeoutSeconds": "60"}).encode()
    assert post(bench, body, "AmazonSSM.SendCommand")[2]["__type"] == "SerializationException"


def refusal(bench: Bench, operation: str, **request: Any) -> str:
    """The ValidationException's message for a request the SDK would not even send."""
    _, _, answer = post(bench, json.dumps(request).encode(), f"AmazonSSM.{operation}")
    assert answer["__type"] == "ValidationException"
    return str(answer["message"])


def test_required_member_is_required(bench: Bench) -> None:
    """A missing required member is named."""
    assert "'documentName' failed" in refusal(bench, "SendCommand", InstanceIds=[INSTANCE])


@pytest.mark.parametrize(
    ("operation", "request_", "words"),
    [
        ("SendCommand", {"TimeoutSeconds": 29}, "greater than or equal to 30"),
        ("SendCommand", {"Comment": "x" * 101}, "less than or equal to 100"),
        ("SendCommand", {"MaxConcurrency": "0"}, "regular expression pattern"),
        ("SendCommand", {"MaxErrors": "101%"}, "regular expression pattern"),
        ("SendCommand", {"DocumentHashType": "Md5"}, "enum value set"),
        ("SendCommand", {"DocumentVersion": "zero"}, "regular expression pattern"),
        ("ListCommandInvocations", {"MaxResults": 51}, "less than or equal to 50"),
        ("DescribeInstanceInformation", {"MaxResults": 4}, "greater than or equal to 5"),
        ("GetCommandInvocation", {"InstanceId": "i-12", "CommandId": "c" * 36}, "pattern"),
        ("GetCommandInvocation", {"InstanceId": INSTANCE, "CommandId": "c"}, "equal to 36"),
        ("ListCommands", {"Filters": [{"key": "Colour", "value": "red"}]}, "enum value set"),
    ],
)
def test_constraints_of_the_model_are_enforced(
    bench: Bench, operation: str, request_: dict[str, Any], words: str
) -> None:
    """Lengths, ranges, patterns and enums of the service model are checked."""
    named = {"DocumentName": "demo-doc"} if operation == "SendCommand" else {}
    assert words in refusal(bench, operation, **named, **request_)


def test_fifty_one_instance_ids_are_one_too_many(bench: Bench) -> None:
    """SendCommand takes 50 instance ids, and says so as AWS does."""
    ids = [f"i-{number:017d}" for number in range(51)]
    bench.document("true")
    with pytest.raises(ClientError, match="Member must have length less than or equal to 50"):
        bench.send(*ids)


def test_parameter_values_are_not_repeated_in_errors(bench: Bench) -> None:
    """A refused request does not bring a parameter's value into a message."""
    bench.document("true")
    with pytest.raises(ClientError) as caught:
        bench.send(Parameters={"executionTimeout": ["s3cret!"]})
    assert "s3cret" not in str(caught.value)


def test_one_connection_serves_many_requests(bench: Bench) -> None:
    """HTTP/1.1 keep-alive: requests and errors share one connection."""
    connection = http.client.HTTPConnection(urlsplit(bench.server.url).netloc, timeout=10)
    sockets = set()
    for target in ("ListCommands", "Nonsense", "ListDocuments"):
        connection.request("POST", "/", b"{}", {"X-Amz-Target": f"AmazonSSM.{target}"})
        connection.getresponse().read()
        sockets.add(id(connection.sock))
    connection.close()
    assert len(sockets) == 1
    assert sockets != {id(None)}


def test_stopped_server_answers_nobody(bench: Bench) -> None:
    """After stop, not even an open connection is served."""
    connection = http.client.HTTPConnection(urlsplit(bench.server.url).netloc, timeout=10)
    connection.request("POST", "/", b"{}", {"X-Amz-Target": "AmazonSSM.ListCommands"})
    connection.getresponse().read()
    bench.server.stop()
    assert connection.sock.recv(1) == b""
    connection.close()


def test_calls_are_journalled_with_their_caller(bench: Bench) -> None:
    """The journal has operation, access key, application, resources and error of each call."""
    named = client(bench.server.url, user_agent_appid="demo-dispatch")
    with pytest.raises(ClientError):
        named.send_command(DocumentName="absent-doc", InstanceIds=[INSTANCE])
    call = bench.server.journal.to_json()[-1]
    assert call["operation"] == "SendCommand"
    assert call["access_key"] == "AKIATEST"
    assert call["application"] == "demo-dispatch"
    assert call["resources"] == {"DocumentName": "absent-doc", "InstanceIds": [INSTANCE]}
    assert call["error"] == "InvalidDocument"
