"""The key that releases are signed with; none of our roles may use it (docs/security.md)."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_kms as kms
from constructs import Construct


def signing_key(scope: Construct) -> kms.Key:
    """An RSA key for signatures; its policy leaves it to IAM who may use it.

    It goes with the stage, 30 days after: what it has signed is of use to this stage only.
    """
    return kms.Key(
        scope,
        "SigningKey",
        description="Signs Codeferry releases.",
        key_spec=kms.KeySpec.RSA_3072,
        key_usage=kms.KeyUsage.SIGN_VERIFY,
        removal_policy=RemovalPolicy.DESTROY,
    )
