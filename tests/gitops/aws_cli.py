"""The AWS CLI as far as the page uses it: ``cloudformation describe-stacks --query … --output
text``, asked of the embedded AWS."""

from __future__ import annotations

import argparse
import sys

import boto3
import jmespath


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="aws", allow_abbrev=False)
    operations = parser.add_subparsers(required=True).add_parser("cloudformation")
    describe = operations.add_subparsers(required=True).add_parser("describe-stacks")
    for option in ("--region", "--stack-name", "--query"):
        describe.add_argument(option, required=True)
    describe.add_argument("--output", required=True, choices=["text"])
    chosen = parser.parse_args(arguments)
    cloudformation = boto3.client("cloudformation", region_name=chosen.region)
    answer = cloudformation.describe_stacks(StackName=chosen.stack_name)
    found = jmespath.search(chosen.query, answer)
    print("\t".join(found) if isinstance(found, list) else found)


if __name__ == "__main__":
    sys.exit(main())
