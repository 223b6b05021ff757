"""Which workflow runs at GitHub may become which role: subjects, spelled out, no pattern.

GitHub's token names the run in ``sub`` ("OpenID Connect reference", GitHub Docs):
``repo:OWNER/NAME:ref:refs/heads/BRANCH``, ``…:pull_request`` or ``…:environment:NAME``. In
repositories made or renamed since summer 2026, and in those that opted in, the names carry
the immutable numbers of owner and repository: ``repo:OWNER@1/NAME@2:…``. Where the numbers are
known only that form is trusted: it says more, and a name can be given to somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stacks.gitops_permissions import ISSUER
from stacks.settings import GitOpsSettings

AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class Subjects:
    """Exact ``sub`` values: for comparing templates (``plan``), for looking at what is there
    (``inspect``) and for changing it (``deploy``)."""

    plan: tuple[str, ...]
    inspect: tuple[str, ...]
    deploy: tuple[str, ...]


def subjects(gitops: GitOpsSettings) -> Subjects:
    """Pull requests, and that is every branch, may plan; only the branch may inspect, and only
    the protected environment deploy."""
    repository = f"repo:{_named(gitops)}"
    branch = f"{repository}:ref:refs/heads/{gitops.branch}"
    return Subjects(
        plan=(f"{repository}:pull_request", branch),
        inspect=(branch,),
        deploy=(f"{repository}:environment:{gitops.environment}",),
    )


def trust_conditions(allowed: tuple[str, ...]) -> dict[str, Any]:
    """The conditions of a role's trust policy; a token without a subject fails them."""
    return {
        "StringEquals": {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": sorted(allowed)},
    }


def _named(gitops: GitOpsSettings) -> str:
    if not gitops.ids:
        return gitops.repository
    owner, name = gitops.repository.split("/")
    owner_id, repository_id = gitops.ids.split("/")
    return f"{owner}@{owner_id}/{name}@{repository_id}"
