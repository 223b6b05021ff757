"""The endpoints of GitHub's REST API that the page and the workflows call, and what they take.

Bodies after "REST API endpoints for deployment environments", "… deployment branch policies",
"… rules", "… GitHub Actions OIDC", "… issue comments" and "… workflow runs" (GitHub Docs). A
call, a field or a value that is not here is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import jsonschema


class Refused(Exception):
    """GitHub's answer, as ``gh`` prints it: ``HTTP 422: …``."""


def _object(required, **optional):
    """An object with these fields and no other."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(of):
    return {"type": "array", "items": of}


STRING, INTEGER, BOOLEAN = ({"type": name} for name in ("string", "integer", "boolean"))
COMMENT = _object({"body": STRING | {"minLength": 1, "maxLength": 65536}})
SUBJECT = _object(
    {"use_default": BOOLEAN}, use_immutable_subject=BOOLEAN, include_claim_keys=_list(STRING)
)
ENVIRONMENT = _object(
    {},
    wait_timer=INTEGER,
    prevent_self_review=BOOLEAN,
    reviewers=_list(_object({}, type={"enum": ["User", "Team"]}, id=INTEGER)) | {"maxItems": 6},
    deployment_branch_policy=_object(
        {"protected_branches": BOOLEAN, "custom_branch_policies": BOOLEAN}
    ),
)
BRANCH_POLICY = _object({"name": STRING}, type={"enum": ["branch", "tag"]})
REVIEW = _object(
    {
        "environment_ids": _list(INTEGER) | {"minItems": 1},
        "state": {"enum": ["approved", "rejected"]},
        "comment": STRING,
    }
)
PULL_REQUEST_RULE = _object(
    {
        "dismiss_stale_reviews_on_push": BOOLEAN,
        "require_code_owner_review": BOOLEAN,
        "require_last_push_approval": BOOLEAN,
        "required_approving_review_count": {"type": "integer", "minimum": 0, "maximum": 10},
        "required_review_thread_resolution": BOOLEAN,
    },
    allowed_merge_methods=_list({"enum": ["merge", "squash", "rebase"]}),
)
STATUS_RULE = _object(
    {
        "required_status_checks": _list(_object({"context": STRING}, integration_id=INTEGER)),
        "strict_required_status_checks_policy": BOOLEAN,
    },
    do_not_enforce_on_create=BOOLEAN,
)
RULES = [
    _object({"type": {"enum": ["deletion", "non_fast_forward"]}}),
    _object({"type": {"const": "pull_request"}, "parameters": PULL_REQUEST_RULE}),
    _object({"type": {"const": "required_status_checks"}, "parameters": STATUS_RULE}),
]
RULESET = _object(
    {"name": STRING, "enforcement": {"enum": ["disabled", "active", "evaluate"]}},
    target={"enum": ["branch", "tag", "push"]},
    conditions=_object({}, ref_name=_object({"include": _list(STRING), "exclude": _list(STRING)})),
    rules=_list({"oneOf": RULES}),
)


@dataclass(frozen=True)
class Endpoint:
    """``name`` is what answers it; ``job_needs`` the permission a job's token has to have, ""
    when no job of ours has any business there."""

    name: str
    method: str
    path: str
    body: dict | None = None
    job_needs: str = ""


REPOSITORY = r"repos/(?P<repository>[^/]+/[^/]+)"
ENDPOINTS = [
    Endpoint("get_user", "GET", "user"),
    Endpoint("get_repository", "GET", REPOSITORY),
    Endpoint("put_subject", "PUT", rf"{REPOSITORY}/actions/oidc/customization/sub", SUBJECT),
    Endpoint("put_environment", "PUT", rf"{REPOSITORY}/environments/(?P<name>\w+)", ENVIRONMENT),
    Endpoint("get_environment", "GET", rf"{REPOSITORY}/environments/(?P<name>\w+)"),
    Endpoint(
        "post_branch_policy",
        "POST",
        rf"{REPOSITORY}/environments/(?P<name>\w+)/deployment-branch-policies",
        BRANCH_POLICY,
    ),
    Endpoint("post_ruleset", "POST", rf"{REPOSITORY}/rulesets", RULESET),
    Endpoint(
        "post_review",
        "POST",
        rf"{REPOSITORY}/actions/runs/(?P<run>\d+)/pending_deployments",
        REVIEW,
    ),
    Endpoint(
        "get_comments",
        "GET",
        rf"{REPOSITORY}/issues/(?P<number>\d+)/comments",
        job_needs="pull-requests",
    ),
    Endpoint(
        "post_comment",
        "POST",
        rf"{REPOSITORY}/issues/(?P<number>\d+)/comments",
        COMMENT,
        "pull-requests",
    ),
    Endpoint(
        "patch_comment",
        "PATCH",
        rf"{REPOSITORY}/issues/comments/(?P<id_>\d+)",
        COMMENT,
        "pull-requests",
    ),
]


def endpoint(method, path, body):
    """Which endpoint a call is for, and what its path names; Refused when there is none."""
    for candidate in ENDPOINTS:
        found = re.fullmatch(candidate.path, path)
        if found and candidate.method == method:
            _check(candidate, body)
            return candidate, found.groupdict()
    raise Refused(f"HTTP 404: {method} {path} is not written here")


def _check(wanted, body):
    if wanted.body is None and body is not None:
        raise Refused(f"HTTP 400: {wanted.name} takes no body")
    if wanted.body is not None:
        try:
            jsonschema.validate(body, wanted.body)
        except jsonschema.ValidationError as error:
            raise Refused(f"HTTP 422: {error.json_path}: {error.message}") from error
