"""The AWS CLI as far as a first start uses it, in the calls that it makes: ``s3 cp`` of one object,
``s3 sync`` of a prefix, ``autoscaling complete-lifecycle-action``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import boto3


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="aws", allow_abbrev=False)
    services = parser.add_subparsers(required=True)
    copying = services.add_parser("s3").add_subparsers(required=True)
    for name, act in (("cp", copy), ("sync", sync)):
        command = copying.add_parser(name)
        command.add_argument("--only-show-errors", action="store_true")
        command.add_argument("url")
        command.add_argument("place", type=Path)
        command.set_defaults(act=act)
    scaling = services.add_parser("autoscaling").add_subparsers(required=True)
    completing = scaling.add_parser("complete-lifecycle-action")
    for option in ("lifecycle-action-result", "auto-scaling-group-name", "lifecycle-hook-name"):
        completing.add_argument(f"--{option}", required=True)
    completing.add_argument("--instance-id", required=True)
    completing.set_defaults(act=complete)
    parser_of_all = [*copying.choices.values(), completing]
    for command in parser_of_all:
        command.add_argument("--region", required=True)
    chosen = parser.parse_args(arguments)
    chosen.act(chosen)


def copy(chosen):
    s3, (bucket, key) = client("s3", chosen), split(chosen.url)
    s3.head_object(Bucket=bucket, Key=key)
    fetch(s3, bucket, key, chosen.place)


def sync(chosen):
    s3, (bucket, prefix) = client("s3", chosen), split(chosen.url)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            fetch(s3, bucket, found["Key"], chosen.place / found["Key"].removeprefix(prefix))


def complete(chosen):
    client("autoscaling", chosen).complete_lifecycle_action(
        AutoScalingGroupName=chosen.auto_scaling_group_name,
        LifecycleHookName=chosen.lifecycle_hook_name,
        LifecycleActionResult=chosen.lifecycle_action_result,
        InstanceId=chosen.instance_id,
    )


def fetch(s3, bucket, key, place):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def split(url):
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def client(service, chosen):
    return boto3.client(service, region_name=chosen.region)


if __name__ == "__main__":
    sys.exit(main())
