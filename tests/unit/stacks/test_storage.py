"""The artifact bucket and the ledger."""

from __future__ import annotations

import pytest

# One worker for all of these, and so one synthesis.
pytestmark = pytest.mark.xdist_group("stacks")


def test_the_bucket_is_private_versioned_and_announces_uploads(resources):
    """The properties the design promises, as CloudFormation gets them."""
    (bucket,) = resources("Storage", "AWS::S3::Bucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    announced = bucket["NotificationConfiguration"]["EventBridgeConfiguration"]
    assert announced == {"EventBridgeEnabled": True}


def test_the_bucket_takes_tls_only(resources):
    """Plain HTTP is denied to everyone."""
    (policy,) = resources("Storage", "AWS::S3::BucketPolicy")
    (deny,) = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert deny["Action"] == "s3:*"


def test_everything_in_the_bucket_expires(resources):
    """The lifecycle is the backstop behind cleanup: archives, uploads, records, leftovers. Of
    kept releases only those before the last one go."""
    (bucket,) = resources("Storage", "AWS::S3::Bucket")
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    days = {id_: rule.get("ExpirationInDays") for id_, rule in rules.items()}
    kept = {"releases": None, "leftovers": None}
    assert days == {"archives": 1, "inbox": 7, "records": 90, **kept}
    prefixes = {rule.get("Prefix") for rule in rules.values()}
    assert prefixes == {"archives/", "inbox/", "runs/", "releases/", None}
    noncurrent = {
        id_: rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for id_, rule in rules.items()
        if "NoncurrentVersionExpiration" in rule
    }
    assert noncurrent == {"archives": 1, "inbox": 1, "records": 1, "releases": 90}
    leftovers = rules["leftovers"]
    assert leftovers["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_the_ledger_forgets(resources):
    """Items carry their own expiry."""
    (table,) = resources("Storage", "AWS::DynamoDB::Table")
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"
