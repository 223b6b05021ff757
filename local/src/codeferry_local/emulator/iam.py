"""IAM on the pinned MiniStack 1.5.33: every call of a role is checked against its policies.

MiniStack has it, as ``AUTH=true`` of the whole process: signature, session token, identity
policies within the boundary, explicit denies, conditions, the bucket's policy, and AWS's own
answer to who is refused. Here it is on for whatever acts with a role: functions, by the sessions
that ``gaps`` gives them, state machines, and whoever has assumed a role, as the CDK CLI
does for every deployment. It is off for a person's keys, who is the account's administrator.

A presigned URL names its signer in its query, so it is a call of the signer.

What does not come over HTTP asks by itself: the local SSM on ``PATH``, a state machine by
``refusal_of``.

Source: IAM User Guide, "Policy evaluation logic" (reference_policies_evaluation-logic)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from codeferry_local.emulator import wrap

PATH = "/_codeferry/authorize"

_OLD_SIGNATURE = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
)

Answer = tuple[int, dict[str, str], Any]

_role_calls: ContextVar[bool] = ContextVar("role_calls", default=False)


class RolesOnly:
    """MiniStack's switch ``AUTH``: on while a role's request is answered."""

    def __bool__(self) -> bool:
        return _role_calls.get()


def enforce_policies() -> None:
    """Check every role's calls against its policies; called before the server starts."""
    from ministack import app
    from ministack.core import iam_evaluator
    from ministack.services import s3

    app.AUTH = RolesOnly()
    wrap(app, "app", with_enforcement, acts_with_role)
    wrap(app, "pin_request_origin", with_tls)
    signatures = s3._buckets, s3._verify_presigned_sigv4, s3._error
    wrap(app, "_dispatch_service_request", with_signatures, *signatures)
    wrap(app, "_dispatch_service_request", with_authorize_endpoint)
    wrap(iam_evaluator, "parse_policy_document", with_cache)


def with_tls(pin: Callable[[str, bool], None]) -> Callable[[str, bool], None]:
    """``pin``, which notes where a request comes from: the loopback stands for TLS
    (``aws:SecureTransport``), which the embedded AWS has not got."""
    return lambda address, _: pin(address, True)


def session(access_key: str, role_arn: str) -> dict[str, str]:
    """A session of a role, for ``access_key``, which is its name, secret and token as well."""
    account, role = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    return {
        "Arn": f"arn:aws:sts::{account}:assumed-role/{role}/{access_key}",
        "UserId": f"{role}:{access_key}",
        "SecretAccessKey": access_key,
        "SessionToken": access_key,
    }


def acts_with_role(access_key: str) -> bool:
    """Whether the key is of a session: ours, also before the function first runs, or STS's."""
    from ministack.services import lambda_svc, sts

    if access_key not in sts._sessions:
        function = lambda_svc._get_func_record_for_ref(access_key)[1] if access_key else None
        if function is None:
            return False
        sts.register_session(access_key, session(access_key, function["Role"]))
    return True


def with_enforcement(
    serve: Callable[..., Awaitable[None]], enforced: Callable[[str], bool]
) -> Callable[..., Awaitable[None]]:
    """``serve``, an ASGI application, with the switch on for the access keys ``enforced``."""

    async def answer(scope: dict[str, Any], *channels: Any) -> None:
        token = _role_calls.set(enforced(_caller(scope)))
        try:
            await serve(scope, *channels)
        finally:
            _role_calls.reset(token)

    return answer


def _caller(scope: Mapping[str, Any]) -> str:
    """The access key in the request's header or, presigned, in its query; may be empty."""
    from ministack.core.router import extract_access_key_id

    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in scope.get("headers", ())
    }
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return str(extract_access_key_id(headers, query) or "")


def with_cache(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``parse`` that reads the same document once."""
    known = lru_cache(maxsize=512)(lambda text: parse(text))

    def read(document: Any) -> Any:
        return known(document if isinstance(document, str) else json.dumps(document))

    return read


def refusal_of(
    access_key: str, checks: Iterable[tuple[str, str, Mapping[str, str]]]
) -> dict[str, str] | None:
    """The first of ``checks`` (action, resource, condition keys) that the caller is refused.

    As ``{"action", "resource", "message"}``, the message worded as IAM does; None when all are
    allowed, or the caller acts as no role.
    """
    from ministack.core import iam_actions, iam_evaluator, responses

    if not acts_with_role(access_key):
        return None
    for action, resource, context in checks:
        denied = iam_evaluator.enforce(
            access_key,
            action,
            action.partition(":")[0],
            responses.get_region(),
            resource_arn=resource,
            service_context={**context, **_tags_of_instance(resource)},
        )
        if denied is not None:
            message = iam_actions.identity_denial_message(
                action, denied.principal_arn, resource, denied.decision == "Deny"
            )
            return {"action": action, "resource": resource, "message": message}
    return None


def _tags_of_instance(resource: str) -> dict[str, str]:
    """An EC2 instance's tags under IAM's own condition key and the one of Systems Manager."""
    from ministack.services import ec2

    arn, _, instance_id = resource.partition(":instance/")
    tags = ec2._tags.get(instance_id, []) if ":ec2:" in arn else []
    return {
        f"{prefix}/{tag['Key']}": tag["Value"]
        for prefix in ("aws:ResourceTag", "ssm:resourceTag")
        for tag in tags
    }


def with_signatures(
    dispatch: Callable[..., Awaitable[Answer]],
    buckets: Container[str],
    presigned: Callable[..., Answer | None],
    error: Callable[[str, str, int, str], Answer],
) -> Callable[..., Awaitable[Answer]]:
    """``dispatch`` that refuses what names one of ``buckets`` without a Signature Version 4: no
    bucket of ours is public, and the older signature is no longer for new buckets (Amazon S3 User
    Guide, "Signature Version 2 will be turned off for Amazon S3"). A URL's signature is looked at,
    by ``presigned``, before its signer's policies are."""

    async def serve(
        method: str, path: str, headers: Mapping[str, str], body: bytes, query: Any, *rest: Any
    ) -> Answer:
        if path.lstrip("/").partition("/")[0] in buckets and method != "OPTIONS":
            authorization = headers.get("authorization", "")
            if authorization.startswith("AWS ") or "AWSAccessKeyId" in query:
                return error("InvalidRequest", _OLD_SIGNATURE, 400, path)
            if not authorization and "X-Amz-Signature" not in query:
                return error("AccessDenied", "Access Denied", 403, path)
            refused = presigned(method, path, headers, query)
            if refused is not None:
                return refused
        return await dispatch(method, path, headers, body, query, *rest)

    return serve


def with_authorize_endpoint(
    dispatch: Callable[..., Awaitable[Answer]],
) -> Callable[..., Awaitable[Answer]]:
    """``dispatch`` that also answers ``POST PATH`` of ``{"access_key", "checks"}``: what
    ``refusal_of`` says, or null."""

    async def serve(method: str, path: str, headers: Any, body: bytes, *rest: Any) -> Answer:
        if path != PATH:
            return await dispatch(method, path, headers, body, *rest)
        asked = json.loads(body)
        refused = refusal_of(asked["access_key"], [tuple(check) for check in asked["checks"]])
        return 200, {"Content-Type": "application/json"}, json.dumps(refused).encode()

    return serve
