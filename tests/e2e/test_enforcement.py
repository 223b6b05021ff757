"""The embedded AWS refuses what AWS refuses: signatures and policies, each with AWS's own answer.

Sources: Amazon S3 User Guide, "Download and upload objects with presigned URLs" (a URL has the
rights of who signed it, until it or the signer's session expires); Amazon S3 API Reference,
"Authenticating requests: using query parameters" and "Error responses"; IAM User Guide, "Policy
evaluation logic" (an explicit deny wins; boundary and policies must both allow).
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import boto3
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from defusedxml.ElementTree import fromstring

pytestmark = pytest.mark.e2e

FUNCTION = "codeferry-local-"


@pytest.fixture(scope="module")
def archive(embedded):
    """Key and two versions of an archive."""
    s3, key = embedded.client("s3"), f"archives/{uuid.uuid4().hex}.tar.gz"
    versions = [
        s3.put_object(Bucket=embedded.bucket, Key=key, Body=body)["VersionId"]
        for body in (b"first", b"second")
    ]
    return key, *versions


def client(aws, service, name):
    """A client with the credentials of a function."""
    key = FUNCTION + name
    return boto3.client(
        service,
        endpoint_url=aws.state.endpoints["ssm" if service == "ssm" else "aws"],
        region_name=aws.state.region,
        aws_access_key_id=key,
        aws_secret_access_key=key,
        aws_session_token=key,
        config=Config(
            signature_version="s3v4" if service == "s3" else None,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )


def signed(aws, name, key, version, expires=900):
    """A GET of one version, signed with the credentials of a function."""
    wanted = {"Bucket": aws.bucket, "Key": key, "VersionId": version}
    return client(aws, "s3", name).generate_presigned_url("get_object", wanted, expires)


def ask(url, method="GET"):
    """Status, code and message, or the body, of the answer."""
    request = urllib.request.Request(url, method=method, data=b"x" if method == "PUT" else None)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        said = fromstring(error.read())
        return error.code, said.findtext("Code"), said.findtext("Message")


def changed(url, **parameters):
    """The URL with other parameters; None takes one away."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | parameters
    kept = {name: value for name, value in query.items() if value is not None}
    return urlunsplit(parts._replace(query=urlencode(kept)))


# --- presigned URLs ----------------------------------------------------------------------


def test_a_presigned_url_gives_its_version(aws, archive):
    """As often as it is asked for."""
    key, first, second = archive
    assert ask(signed(aws, "dispatch", key, first)) == (200, b"first")
    assert [ask(signed(aws, "dispatch", key, second)) for _ in range(2)] == [(200, b"second")] * 2


def other_version(url, archive):
    return changed(url, versionId=archive[2])


def no_version(url, archive):
    return changed(url, versionId=None)


def other_key(url, archive):
    return url.replace(archive[0], f"{archive[0]}.other")


def longer(url, archive):
    return changed(url, **{"X-Amz-Expires": "3600"})


def forged(url, archive):
    return changed(url, **{"X-Amz-Signature": "0" * 64})


@pytest.mark.parametrize("change", [other_version, no_version, other_key, longer, forged])
def test_a_presigned_url_is_for_what_was_signed(aws, archive, change):
    """Whatever else is asked for by it is 403 SignatureDoesNotMatch."""
    url = change(signed(aws, "dispatch", *archive[:2]), archive)
    assert ask(url)[:2] == (403, "SignatureDoesNotMatch")


def test_a_presigned_url_is_for_its_method(aws, archive):
    """A signed GET is no PUT."""
    answer = ask(signed(aws, "dispatch", *archive[:2]), "PUT")
    assert answer[:2] == (403, "SignatureDoesNotMatch")


def test_a_presigned_url_expires(aws, archive):
    """S3's words for it are AccessDenied, "Request has expired"."""
    url = signed_at(aws, archive, datetime.now(UTC) - timedelta(seconds=902))
    assert ask(url) == (403, "AccessDenied", "Request has expired")
    just = signed_at(aws, archive, datetime.now(UTC) - timedelta(seconds=600))
    assert ask(just) == (200, b"first")


def signed_at(aws, archive, when):
    """A GET of the first version, signed for 900 s at ``when``: botocore signs now only."""
    key, version, _ = archive
    name = f"{FUNCTION}dispatch"
    auth = S3SigV4QueryAuth(Credentials(name, name, name), "s3", aws.state.region, expires=900)
    url = f"{aws.state.endpoints['aws']}/{aws.bucket}/{key}?versionId={version}"
    request = AWSRequest("GET", url)
    request.context["timestamp"] = when.strftime("%Y%m%dT%H%M%SZ")
    auth._modify_request_before_signing(request)
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    auth._inject_signature_to_request(request, signature)
    return request.url


def test_a_presigned_url_has_the_rights_of_its_signer(aws, archive):
    """``check`` signs as well as anybody, and may read nothing."""
    status, code, message = ask(signed(aws, "check", *archive[:2]))
    assert (status, code) == (403, "AccessDenied")
    assert "s3:GetObjectVersion" in message


def test_nobody_signs_for_who_is_unknown(aws, archive):
    """A key that nobody has, and a session's key without its token."""
    url = signed(aws, "dispatch", *archive[:2])
    assert ask(url.replace(f"{FUNCTION}dispatch", "AKIANOBODY"))[1] == "InvalidAccessKeyId"
    assert ask(changed(url, **{"X-Amz-Security-Token": "other"}))[0] in (400, 403)


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("", (403, "AccessDenied")),
        ("?AWSAccessKeyId=a&Signature=b&Expires=1", (400, "InvalidRequest")),
    ],
)
def test_no_object_is_anybodys(aws, archive, query, answer):
    """Without a signature, or with one of a kind that new buckets do not take."""
    assert ask(f"{aws.state.endpoints['aws']}/{aws.bucket}/{archive[0]}{query}")[:2] == answer


# --- policies ----------------------------------------------------------------------------


def code_of(call, **request):
    with pytest.raises(ClientError) as refused:
        call(**request)
    answer = refused.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_a_call_that_no_policy_allows_is_refused(aws, archive):
    """In each service that functions call, as it refuses on AWS: another action, another
    resource, or a condition that does not hold."""
    key, version, _ = archive
    table = client(aws, "dynamodb", "resume")
    ledger = next(t for t in aws.client("dynamodb").list_tables()["TableNames"] if "Ledger" in t)
    there = {"TableName": ledger}
    assert code_of(
        client(aws, "s3", "report").get_object, Bucket=aws.bucket, Key=key, VersionId=version
    ) == (403, "AccessDenied")
    assert code_of(client(aws, "s3", "plan").list_objects_v2, Bucket=aws.bucket) == (
        403,
        "AccessDenied",
    )
    assert code_of(table.put_item, **there, Item={"pk": {"S": "a"}, "sk": {"S": "b"}})[1] == (
        "AccessDeniedException"
    )
    assert (
        code_of(
            client(aws, "stepfunctions", "start").start_execution,
            stateMachineArn=aws.state.state_machines["script"],
        )[1]
        == "AccessDeniedException"
    )
    assert code_of(client(aws, "ec2", "report").describe_instances)[1] == "UnauthorizedOperation"
    assert code_of(client(aws, "logs", "plan").describe_log_groups)[1] == "AccessDeniedException"


@pytest.fixture
def foreign_instance(aws):
    """An instance of the target, of another stage."""
    tags = {"codeferry:target": "demo", "codeferry:stage": "prod"}
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    given = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}
    (instance,) = aws.client("ec2").run_instances(
        **given, TagSpecifications=[{"ResourceType": "instance", "Tags": pairs}]
    )["Instances"]
    instance_id = instance["InstanceId"]
    registered = {"instance_id": instance_id, "root": "/nonexistent", "executor": "null"}
    aws.control("POST", "instances", registered | {"tags": tags})
    yield instance_id
    aws.control("DELETE", f"instances/{instance_id}")
    aws.client("ec2").terminate_instances(InstanceIds=[instance_id])


def test_a_command_goes_to_the_stages_instances_only(aws, foreign_instance):
    """SendCommand asks for the document and for every instance, by its tags."""
    send = client(aws, "ssm", "dispatch").send_command
    document, ours = "codeferry-local-sync", aws.state.instances[0].instance_id
    refused = (400, "AccessDeniedException")
    assert code_of(send, DocumentName=document, InstanceIds=[ours, foreign_instance]) == refused
    assert code_of(send, DocumentName="AWS-RunShellScript", InstanceIds=[ours]) == refused
    assert code_of(send, DocumentName=document, InstanceIds=[ours]) == (400, "InvalidParameters")
    named = {"Name": document}
    assert code_of(client(aws, "ssm", "dispatch").describe_document, **named) == refused
    assert client(aws, "ssm", "plan").describe_document(**named)["Document"]


@contextmanager
def narrowed(aws, name, statement):
    """The deployed role of a function with one more statement."""
    role = aws.client("lambda").get_function_configuration(FunctionName=FUNCTION + name)["Role"]
    named = {"RoleName": role.rpartition("/")[2], "PolicyName": "narrowed"}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    aws.client("iam").put_role_policy(**named, PolicyDocument=json.dumps(document))
    try:
        yield
    finally:
        aws.client("iam").delete_role_policy(**named)


def test_an_explicit_deny_wins(aws, archive):
    """Over the allow of the same role; and a URL signed before is worth no more than its signer."""
    url = signed(aws, "dispatch", *archive[:2])
    deny = {"Effect": "Deny", "Action": "s3:GetObject*", "Resource": "*"}
    with narrowed(aws, "dispatch", deny):
        status, code, message = ask(url)
    assert (status, code) == (403, "AccessDenied")
    assert "with an explicit deny" in message
    assert ask(url) == (200, b"first")


def test_a_boundary_bounds(aws):
    """What the role's policies allow counts only as far as its boundary allows it, too."""
    iam = aws.client("iam")
    role = aws.client("lambda").get_function_configuration(FunctionName=f"{FUNCTION}report")["Role"]
    allow = {"Effect": "Allow", "Action": "events:*", "Resource": "*"}
    policy = iam.create_policy(
        PolicyName=f"bound-{uuid.uuid4().hex}",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}),
    )["Policy"]["Arn"]
    put = client(aws, "s3", "report").put_object
    there = {"Bucket": aws.bucket, "Key": "runs/bounded/report.json", "Body": b"{}"}
    name = role.rpartition("/")[2]
    iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=policy)
    try:
        assert code_of(put, **there) == (403, "AccessDenied")
    finally:
        iam.delete_role_permissions_boundary(RoleName=name)
        iam.delete_policy(PolicyArn=policy)
    put(**there)


def test_a_run_without_a_permission_fails_and_says_which(aws, project):
    """What IAM refused is in the report, and reaches whoever pushed."""
    deny = {"Effect": "Deny", "Action": "ssm:DescribeDocument", "Resource": "*"}
    with narrowed(aws, "plan", deny):
        pushed = aws.ferry("push", "demo", project)
    assert pushed.exit == 4
    assert "ssm:DescribeDocument" in pushed.err
