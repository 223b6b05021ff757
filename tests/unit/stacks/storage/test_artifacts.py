"""The artifact bucket and the ledger."""

from __future__ import annotations

from tests.unit.stacks.iam_evaluator import listed
from tests.unit.stacks.policies import Assembly


def test_the_bucket_is_private_versioned_and_announces_uploads(resources):
    """The properties the design promises, as CloudFormation gets them."""
    (bucket,) = resources("Storage", "AWS::S3::Bucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    announced = bucket["NotificationConfiguration"]["EventBridgeConfiguration"]
    assert announced == {"EventBridgeEnabled": True}


def test_the_bucket_takes_tls_only(resources):
    """EnvironmentCredentials HTTP is denied to everyone."""
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
    assert days == {"archives": 30, "environments": 14, "inbox": 7, "records": 90, **kept}
    prefixes = {rule.get("Prefix") for rule in rules.values()}
    assert prefixes == {"archives/", "environments/", "inbox/", "runs/", "releases/", None}
    noncurrent = {
        id_: rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for id_, rule in rules.items()
        if "NoncurrentVersionExpiration" in rule
    }
    short = dict.fromkeys(("archives", "environments", "inbox", "records"), 1)
    assert noncurrent == short | {"releases": 90}
    leftovers = rules["leftovers"]
    assert leftovers["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_the_ledger_forgets(resources):
    """Items carry their own expiry."""
    (table,) = resources("Storage", "AWS::DynamoDB::Table")
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


# --- what is left when a stage is destroyed ---------------------------------------------------


def test_nothing_but_what_is_permanent_outlives_its_stack(everything):
    """The permanent bucket with what protects it, and the account's one provider for GitHub.
    Everything else goes, the artifact bucket with what is in it."""
    kept = [
        (stack, resource["Type"])
        for stack, _, resource in Assembly(everything).resources()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    ]
    stack = "Codeferry-prod-FleetStorage"
    assert sorted(kept) == [
        (stack, "AWS::IAM::Policy"),
        (stack, "AWS::IAM::Role"),
        (stack, "AWS::S3::Bucket"),
        (stack, "AWS::S3::BucketPolicy"),
        ("Codeferry-prod-GitOps", "AWS::IAM::OIDCProvider"),
    ]


def test_every_bucket_that_goes_is_emptied_before(everything):
    """CloudFormation deletes no bucket that holds something."""
    assembly = Assembly(everything)
    emptied = {
        (stack, resource["Properties"]["BucketName"]["Ref"])
        for stack, _, resource in assembly.resources("Custom::S3AutoDeleteObjects")
    }
    assert emptied == {
        (stack, id_)
        for stack, id_, resource in assembly.resources("AWS::S3::Bucket")
        if resource["DeletionPolicy"] == "Delete"
    }


def test_no_function_makes_a_log_group_that_nobody_deletes(everything):
    """Each writes to a group of its stack's, which goes with it, and none may make another."""
    assembly = Assembly(everything)
    groups = {
        (stack, id_): resource["DeletionPolicy"]
        for stack, id_, resource in assembly.resources("AWS::Logs::LogGroup")
    }
    assert set(groups.values()) == {"Delete"}
    for stack, _, function in assembly.resources("AWS::Lambda::Function"):
        properties = function["Properties"]
        assert (stack, properties["LoggingConfig"]["LogGroup"]["Ref"]) in groups
    for stack, id_, _ in assembly.resources("AWS::IAM::Role"):
        for statement in assembly.role_statements(stack, id_):
            assert "logs:CreateLogGroup" not in listed(statement["Action"])


def test_the_artifact_bucket_is_left_full_where_nothing_is_to_be_emptied(synthesise, tmp_path):
    """Then it goes only when nobody has left anything in it."""
    assembly = Assembly(synthesise(tmp_path, stage="prod", empty_on_destroy="false"))
    assert list(assembly.resources("Custom::S3AutoDeleteObjects")) == []
    (bucket,) = [
        resource
        for stack, _, resource in assembly.resources("AWS::S3::Bucket")
        if stack == "Codeferry-prod-Storage"
    ]
    assert bucket["DeletionPolicy"] == "Delete"
