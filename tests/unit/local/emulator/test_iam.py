"""IAM on the embedded AWS: the calls that are checked. Its decisions are also in
tests/e2e/test_enforcement.py."""

from __future__ import annotations

import asyncio
import json

import pytest
from ministack.core import iam_evaluator
from ministack.services import ec2, iam, sts

from codeferry_local.emulator.iam import (
    PATH,
    RolesOnly,
    refusal_of,
    session,
    with_authorize_endpoint,
    with_cache,
    with_enforcement,
    with_signatures,
    with_tls,
)

ACCOUNT = "000000000000"


def scope(authorization="", query=""):
    headers = [(b"Authorization", authorization.encode())] if authorization else []
    return {"headers": headers, "query_string": query.encode()}


@pytest.mark.parametrize(
    ("request_", "enforced"),
    [
        (scope("AWS4-HMAC-SHA256 Credential=role/20260101/r/s3/aws4_request, Signature=0"), True),
        (scope("AWS4-HMAC-SHA256 Credential=person/20260101/r/s3/aws4_request"), False),
        (scope(query="X-Amz-Credential=role%2F20260101%2Fr%2Fs3%2Faws4_request"), True),
        (scope(), False),
    ],
)
def test_the_switch_is_on_for_roles_only(request_, enforced):
    """By the key in the header, or in the query of a presigned URL; and off again after it."""
    switch, seen = RolesOnly(), []

    async def serve(scope):
        seen.append(bool(switch))

    asyncio.run(with_enforcement(serve, {"role"}.__contains__)(request_))
    assert seen == [enforced]
    assert not switch


def test_the_loopback_stands_for_tls():
    """A policy that demands TLS is met: no other transport is there."""
    pinned = []
    with_tls(lambda *origin: pinned.append(origin))("127.0.0.1", False)
    assert pinned == [("127.0.0.1", True)]


def test_a_document_is_read_once():
    """As text or as a value, which may have the same text."""
    read = []
    parse = with_cache(lambda text: read.append(text) or [text])
    assert parse('{"a": 1}') is parse('{"a": 1}')
    assert parse({"a": 1}) is parse('{"a": 1}')
    assert len(read) == 1


@pytest.fixture
def role():
    """A role that may get one bucket's objects, with a session called ``actor``."""
    allow = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam._roles["r"] = {"RoleName": "r", "InlinePolicies": {"p": policy}, "AttachedPolicies": []}
    sts._sessions["actor"] = session("actor", f"arn:aws:iam::{ACCOUNT}:role/r")
    yield
    del iam._roles["r"], sts._sessions["actor"]


def test_what_is_no_request_asks_by_itself(role):
    """The first that is refused, in IAM's words; a person's key is asked for nothing."""
    allowed = ("s3:GetObject", "arn:aws:s3:::b/k", {})
    refused = ("s3:GetObject", "arn:aws:s3:::c/k", {})
    assert refusal_of("actor", [allowed]) is None
    found = refusal_of("actor", [allowed, refused])
    assert found["resource"] == "arn:aws:s3:::c/k"
    assert found["message"] == (
        "User: arn:aws:sts::000000000000:assumed-role/r/actor is not authorized to perform: "
        "s3:GetObject on resource: arn:aws:s3:::c/k because no identity-based policy allows the "
        "s3:GetObject action"
    )
    assert refusal_of("person", [refused]) is None


def test_an_instance_is_judged_by_its_tags(role):
    """They are EC2's, under both condition keys; what has none there has none."""
    allow = {"Effect": "Allow", "Action": "ssm:SendCommand", "Resource": "*"}
    conditions = ({"aws:ResourceTag/t": "demo"}, {"ssm:resourceTag/t": "demo"})
    for equal in conditions:
        statement = allow | {"Condition": {"StringEquals": equal}}
        iam._roles["r"]["InlinePolicies"] = {"p": json.dumps({"Statement": statement})}
        for tags, allowed in (([{"Key": "t", "Value": "demo"}], True), ([], False)):
            ec2._tags["i-1"] = tags
            check = ("ssm:SendCommand", "arn:aws:ec2:r:000000000000:instance/i-1", {})
            assert (refusal_of("actor", [check]) is None) is allowed
    del ec2._tags["i-1"]


def test_other_processes_ask_over_http(role):
    """The local SSM's question; any other path is somebody else's."""

    async def dispatch(*_):
        return 204, {}, b""

    serve = with_authorize_endpoint(dispatch)
    body = {"access_key": "actor", "checks": [["s3:PutObject", "arn:aws:s3:::b/k", {}]]}
    answer = asyncio.run(serve("POST", PATH, {}, json.dumps(body).encode(), {}, "id"))
    assert json.loads(answer[2])["action"] == "s3:PutObject"
    assert asyncio.run(serve("GET", "/b/k", {}, b"", {}, "id"))[0] == 204


@pytest.mark.parametrize(
    ("path", "headers", "query", "status"),
    [
        ("/b/k", {}, {}, 403),
        ("/b", {}, {}, 403),
        ("/b/k", {"authorization": "AWS key:signature"}, {}, 400),
        ("/b/k", {}, {"AWSAccessKeyId": ["a"]}, 400),
        ("/b/k", {}, {"X-Amz-Signature": ["wrong"]}, 405),
        ("/b/k", {}, {"X-Amz-Signature": ["right"]}, 204),
        ("/b/k", {"authorization": "AWS4-HMAC-SHA256 …"}, {}, 204),
        ("/other", {}, {}, 204),
    ],
)
def test_a_bucket_takes_signed_requests_only(path, headers, query, status):
    """Of Signature Version 4, in the header or in the query; paths that are no bucket's pass."""

    async def dispatch(*_):
        return 204, {}, b""

    def presigned(method, path, headers, query):
        return (405, {}, b"") if query.get("X-Amz-Signature") == ["wrong"] else None

    serve = with_signatures(
        dispatch, {"b"}, presigned, lambda code, message, status, path: (status, {}, b"")
    )
    assert asyncio.run(serve("GET", path, headers, b"", query, "id"))[0] == status


# --- what the embedded IAM decides --------------------------------------------------------

ALLOW = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/runs/*"}


def decision(statements, *limits, action="s3:GetObject", resource="arn:aws:s3:::b/runs/1", **keys):
    context = iam_evaluator.EvalContext(
        "arn:aws:sts::1:assumed-role/r/s", "AssumedRole", "1", action, resource, "eu-west-1",
        service_context={key.replace("__", ":").lower(): value for key, value in keys.items()},
    )  # fmt: skip
    layers = [
        [iam_evaluator.parse_policy_document({"Statement": layer})]
        for layer in (statements, *limits)
    ]
    return iam_evaluator.evaluate(context, layers[0], *layers[1:]).decision


@pytest.mark.parametrize(
    ("statements", "limits", "expected"),
    [
        ([], [], "ImplicitDeny"),
        ([ALLOW], [], "Allow"),
        ([ALLOW, ALLOW | {"Effect": "Deny"}], [], "Deny"),
        ([ALLOW, {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}], [], "Allow"),
        ([ALLOW | {"Action": "S3:getobject"}], [], "Allow"),
        ([ALLOW | {"Action": "s3:Get*"}], [], "Allow"),
        ([ALLOW | {"Resource": "arn:aws:s3:::b/Runs/*"}], [], "ImplicitDeny"),
        ([ALLOW | {"Resource": "arn:aws:s3:::b/runs/?"}], [], "Allow"),
        ([ALLOW], [[]], "ImplicitDeny"),
        ([ALLOW], [[ALLOW]], "Allow"),
        ([], [[ALLOW]], "ImplicitDeny"),
        ([ALLOW], [[ALLOW, ALLOW | {"Effect": "Deny"}]], "Deny"),
    ],
)
def test_policies_are_evaluated_as_documented(statements, limits, expected):
    """IAM User Guide, "Policy evaluation logic": denied unless allowed, an explicit deny wins, a
    boundary allows nothing by itself; "IAM JSON policy elements: Action", "Resource": actions
    know no case, resources do, ``*`` and ``?`` are wildcards."""
    assert decision(statements, *limits) == expected


@pytest.mark.parametrize(
    ("operator", "value", "tag", "expected"),
    [
        ("StringEquals", "demo", "demo", "Allow"),
        ("StringEquals", "demo", "Demo", "ImplicitDeny"),
        ("StringEquals", ["prod", "demo"], "demo", "Allow"),
        ("StringEquals", "demo", None, "ImplicitDeny"),
        ("StringEqualsIfExists", "demo", None, "Allow"),
        ("StringEqualsIfExists", "demo", "prod", "ImplicitDeny"),
        ("StringNotEquals", "demo", None, "Allow"),
        ("StringLike", "?*", "demo", "Allow"),
        ("StringLike", "?*", "", "ImplicitDeny"),
        ("Null", "true", None, "Allow"),
        ("Null", "true", "demo", "ImplicitDeny"),
    ],
)
def test_conditions_are_evaluated_as_documented(operator, value, tag, expected):
    """IAM User Guide, "IAM JSON policy elements: Condition operators": values are alternatives, a
    missing key fails all but negated operators, ``…IfExists`` and ``Null``."""
    statement = ALLOW | {"Condition": {operator: {"s3:tag": value}}}
    keys = {} if tag is None else {"s3__tag": tag}
    assert decision([statement], **keys) == expected
