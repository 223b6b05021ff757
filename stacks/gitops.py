"""GitOps: GitHub's workflows as three roles, without a stored key.

``plan`` reads templates, from pull requests and from the branch; ``inspect`` looks at what is
deployed, from the branch only; ``deploy`` changes, from the protected environment only. Each has
its whole policy as its permission boundary too: attaching another policy to the role, even
AdministratorAccess, gives it nothing. Where the account has a boundary for all roles
(``stacks/permissions``), that one takes its place and says the same.

GitHub's token names the run in ``sub`` ("OpenID Connect reference", GitHub Docs):
``repo:OWNER/NAME:ref:refs/heads/BRANCH``, ``…:pull_request`` or ``…:environment:NAME``. In
repositories made or renamed since summer 2026, and in those that opted in, the names carry
the immutable numbers of owner and repository: ``repo:OWNER@1/NAME@2:…``. Where the numbers are
known only that form is trusted: it says more, and a name can be given to somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.permissions.roles import (
    ISSUER,
    Permission,
    Place,
    deploy_permissions,
    inspect_permissions,
    plan_permissions,
)
from stacks.policies import accept_wildcards, statement
from stacks.settings import GitOpsSettings, Settings

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


# Credentials as long as their job (.github/workflows/deploy.yml): an Auto Scaling refresh takes
# longer than the hour that is the default.
LOOKING, DEPLOYING = Duration.hours(1), Duration.hours(4)


class GitOpsStack(Stack):
    """The provider (unless the account has it already) and the roles."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Settings,
        gitops: GitOpsSettings,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            scope, id_, description=f"Codeferry: {gitops.repository} may plan and deploy", **kwargs
        )
        provider_arn = self._provider(gitops)
        allowed = subjects(gitops)
        place = Place(self.partition, self.region, self.account, settings.stage)
        granted = {
            "plan": (allowed.plan, plan_permissions(place)),
            "inspect": (allowed.inspect, inspect_permissions(place)),
            "deploy": (allowed.deploy, deploy_permissions(place)),
        }
        for purpose, (trusted, permissions) in granted.items():
            role = GitHubRole(
                self,
                purpose.capitalize(),
                name=settings.named_in_iam(self, purpose),
                provider_arn=provider_arn,
                trusted=trusted,
                permissions=permissions,
                duration=DEPLOYING if purpose == "deploy" else LOOKING,
            ).role
            CfnOutput(self, f"{purpose.capitalize()}RoleArn", value=role.role_arn)

    def _provider(self, gitops: GitOpsSettings) -> str:
        """An account has one provider per issuer: ours, or the one it has."""
        if not gitops.own_provider:
            return f"arn:{self.partition}:iam::{self.account}:oidc-provider/{ISSUER}"
        # Without thumbprints: IAM knows GitHub's certificate authority itself.
        provider = iam.OidcProviderNative(
            self,
            "GitHub",
            url=f"https://{ISSUER}",
            client_ids=[AUDIENCE],
            # Roles of other teams trust it by now, and an account has no second one.
            removal_policy=RemovalPolicy.RETAIN,
        )
        return provider.oidc_provider_arn


class GitHubRole(Construct):
    """A role for exactly the ``trusted`` subjects, bounded by its own permissions."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        provider_arn: str,
        trusted: tuple[str, ...],
        permissions: Sequence[Permission],
        duration: Duration,
    ) -> None:
        super().__init__(scope, id_)
        policy = self._policy(name, permissions)
        self.role = iam.Role(
            self,
            "Role",
            role_name=name,
            description=f"GitHub Actions: {name}",
            max_session_duration=duration,
            assumed_by=iam.WebIdentityPrincipal(provider_arn, trust_conditions(trusted)),
            managed_policies=[policy],
            permissions_boundary=policy,
        )

    def _policy(self, name: str, permissions: Sequence[Permission]) -> iam.ManagedPolicy:
        policy = iam.ManagedPolicy(
            self,
            "Policy",
            managed_policy_name=name,
            description="What the role may do and, as its boundary, the most it ever may",
            statements=[statement(permission) for permission in permissions],
        )
        accept_wildcards(policy, permissions)
        return policy
