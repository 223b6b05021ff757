"""S3's lifecycle rules: as its API takes them, and days of their work done at once.

The embedded S3 keeps rules and does nothing by them.

Source: Amazon S3 User Guide, "Expiring objects" and "Lifecycle configuration elements": a current
version that is old enough becomes noncurrent behind a delete marker, and is gone for good once it
has been noncurrent for as long as the rule says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COPIED = ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
_EXPIRATION = {
    "ExpirationInDays": "Days",
    "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker",
}


def rules_of(properties: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lifecycle rules of a bucket of a template, as S3's API takes them."""
    return [_rule(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    expiration = {name: rule[given] for given, name in _EXPIRATION.items() if given in rule}
    return {
        "ID": rule["Id"],
        "Status": rule["Status"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
        **{name: rule[name] for name in _COPIED if name in rule},
        **({"Expiration": expiration} if expiration else {}),
    }


def expire(s3: Any, bucket: str, days: int, prefix: str = "") -> list[str]:
    """Age what lies below ``prefix`` by ``days``, by the bucket's own rules; the keys of the
    versions that are gone or are current no more. ``s3`` is a client that may do all of it."""
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    gone = []
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for version in [found for page in pages for found in page.get("Versions", ())]:
        key, version_id = version["Key"], version["VersionId"]
        for rule in rules:
            if rule["Status"] != "Enabled" or not key.startswith(_prefix(rule)):
                continue
            current = rule.get("Expiration", {}).get("Days")
            later = rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
            # A version that is noncurrent already has been that for no day.
            until = (0 if not version["IsLatest"] else current) if later is not None else None
            if until is not None and until + later <= days:
                s3.delete_object(Bucket=bucket, Key=key, VersionId=version_id)
            elif version["IsLatest"] and current is not None and current <= days:
                s3.delete_object(Bucket=bucket, Key=key)
            else:
                continue
            gone.append(key)
            break
    return gone


def _prefix(rule: dict[str, Any]) -> str:
    found = rule.get("Prefix") or rule.get("Filter", {}).get("Prefix", "")
    return str(found)
