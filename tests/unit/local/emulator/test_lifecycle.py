"""The lifecycle rules of buckets, as S3 takes them and as they act within so many days."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from codeferry_local.emulator.lifecycle import expire, rules_of

RULES = [
    {
        "ID": "archives",
        "Status": "Enabled",
        "Filter": {"Prefix": "archives/"},
        "Expiration": {"Days": 1},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    },
    {
        "ID": "releases",
        "Status": "Enabled",
        "Filter": {"Prefix": "releases/"},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
    },
    {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}},
]


@pytest.mark.parametrize(
    ("days", "deleted"),
    [
        (0, []),
        (1, [{"Key": "archives/a"}, {"Key": "archives/b", "VersionId": "b1"}]),
        (2, [{"Key": "archives/a", "VersionId": "a1"}, {"Key": "archives/b", "VersionId": "b1"}]),
        (
            30,
            [
                {"Key": "archives/a", "VersionId": "a1"},
                {"Key": "archives/b", "VersionId": "b1"},
                {"Key": "releases/r", "VersionId": "r1"},
            ],
        ),
    ],
)
def test_a_buckets_rules_do_days_of_work_at_once(days, deleted):
    """A marker first, the version for good a day later; what was noncurrent goes as such, what no
    rule names and what a disabled one names stays."""
    versions = [
        {"Key": "archives/a", "VersionId": "a1", "IsLatest": True},
        {"Key": "archives/b", "VersionId": "b1", "IsLatest": False},
        {"Key": "releases/r", "VersionId": "r1", "IsLatest": False},
        {"Key": "releases/r", "VersionId": "r2", "IsLatest": True},
        {"Key": "other/o", "VersionId": "o1", "IsLatest": True},
    ]
    s3 = boto3.client(
        "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="a"
    )
    with Stubber(s3) as stub:
        stub.add_response("get_bucket_lifecycle_configuration", {"Rules": RULES}, {"Bucket": "b"})
        stub.add_response(
            "list_object_versions", {"Versions": versions}, {"Bucket": "b", "Prefix": ""}
        )
        for wanted in deleted:
            stub.add_response("delete_object", {}, {"Bucket": "b", **wanted})
        assert expire(s3, "b", days) == [wanted["Key"] for wanted in deleted]
        stub.assert_no_pending_responses()


def test_rules_of_a_template_are_rules_of_s3():
    """Each with the prefix, the days and the leftovers that it names."""
    given = {
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "archives",
                    "Status": "Enabled",
                    "Prefix": "archives/",
                    "ExpirationInDays": 1,
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                },
                {
                    "Id": "leftovers",
                    "Status": "Enabled",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    "ExpiredObjectDeleteMarker": True,
                },
            ]
        }
    }
    assert rules_of(given) == [
        RULES[0],
        {
            "ID": "leftovers",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        },
    ]
